import { randomUUID } from 'node:crypto';
import { hashPassword } from '@flagcast/console';
import type { FeatureState } from '@flagcast/protocol';
import type pg from 'pg';
import { afterAll, expect } from 'vitest';
import { install } from '../src/install/install.js';
import {
  createTestCluster,
  createTestDatabase,
  seedProject,
  type SeededProject,
  type TestDatabase,
  withClient,
} from './database.js';
import {
  addMember,
  createUser,
  startTestServer,
  type TestServer,
  type TestUser,
  type TestServerOptions,
  testPasswordCost,
} from './server.js';
import { createTogglrHost, type TogglrHost } from './togglr-host.js';

/** The roles in the project `shop`; dave only belongs to `billing`, root is a superuser. */
export const roles = {
  alice: 'project_owner',
  erin: 'project_manager',
  bob: 'project_member',
  carol: 'project_viewer',
  dave: null,
  root: null,
} as const;
export type UserName = keyof typeof roles;

export interface Answer {
  readonly status: number;
  readonly headers: Headers;
  /** Of JSON, whatever it holds. */
  readonly body: Body;
  /** The unparsed body, because numbers of JavaScript do not keep all digits. */
  readonly text: string;
}

type Body = { readonly [name: string]: unknown } & {
  readonly code?: string;
  readonly message?: string;
  readonly fields?: Record<string, string>;
  readonly feature?: FeatureState;
  readonly pending_change?: { readonly id: string };
};

/** Users, two projects and a server with writes, over real HTTP and with its own database. */
export interface RestFixture {
  readonly database: TestDatabase;
  readonly pool: pg.Pool;
  readonly server: TestServer;
  readonly shop: SeededProject;
  readonly billing: SeededProject;
  readonly users: Readonly<Record<UserName, TestUser>>;
  /** Sends a request as this user; `body` is sent as JSON, a string unchanged. */
  ask(
    who: UserName | null,
    method: string,
    path: string,
    body?: unknown,
    headers?: Record<string, string>,
  ): Promise<Answer>;
  /** Makes a feature past the server. */
  addFeature(project?: SeededProject): Promise<{ id: string; key: string }>;
  /** The feature's version in an environment. */
  version(featureId: string, environmentKey: string): Promise<string>;
  /** Guards an environment. */
  guard(environmentId: string): Promise<void>;
  close(): Promise<void>;
}

/** Uses a new database with the tables of Flagcast, unless one is given. */
export async function createRestFixture(
  options: TestServerOptions = {},
  given?: TestDatabase,
): Promise<RestFixture> {
  const database = given ?? (await createTestDatabase({ schema: 'tables' }));
  const { pool } = database;
  const shop = await seedProject(pool, { name: 'Shop' });
  const billing = await seedProject(pool, { name: 'Billing' });
  const users = {} as Record<UserName, TestUser>;
  for (const [name, role] of Object.entries(roles)) {
    const user = await createUser(pool, name, { superuser: name === 'root', ttlMs: 600_000 });
    if (role !== null) await addMember(pool, shop.projectId, user.id, role);
    users[name as UserName] = user;
  }
  await addMember(pool, billing.projectId, users.dave.id, 'project_owner');
  const server = await startTestServer(database.url, { writes: true, ...options });

  const rest: RestFixture = {
    database,
    pool,
    server,
    shop,
    billing,
    users,
    ask: async (who, method, path, body, headers = {}) =>
      await send(server.httpUrl, method, path, body, {
        ...(who === null ? {} : { Authorization: `Bearer ${users[who].token}` }),
        ...headers,
      }),
    async addFeature(project = shop) {
      const id = randomUUID();
      const key = `flag-${id.slice(0, 8)}`;
      await pool.query(
        `INSERT INTO features (id, project_id, key, name, kind) VALUES ($1, $2, $3, 'A flag', 'simple')`,
        [id, project.projectId, key],
      );
      return { id, key };
    },
    async version(featureId, environmentKey) {
      const { status, body } = await rest.ask(
        'root',
        'GET',
        `/api/features/${featureId}?env=${environmentKey}`,
      );
      expect(status).toBe(200);
      return body.feature?.version ?? '';
    },
    async guard(environmentId) {
      await pool.query(
        `INSERT INTO flagcast.guarded_environments (environment_id, guarded_by) VALUES ($1, 'alice')`,
        [environmentId],
      );
    },
    async close() {
      await server.close();
      await database.drop();
    },
  };
  return rest;
}

/** The fixture of a test file, closed after its tests. `guarded`: whether prod of the shop is guarded. */
export async function useRestFixture({ guarded = false } = {}): Promise<RestFixture> {
  const rest = await createRestFixture();
  afterAll(async () => await rest.close());
  if (guarded) await rest.guard(rest.shop.environments.prod);
  return rest;
}

/** The same on Togglr's tables, in a cluster of its own, with what an installation grants to the role of the backend. */
export async function useTogglrRestFixture(): Promise<{
  readonly rest: RestFixture;
  readonly host: TogglrHost;
}> {
  const cluster = await createTestCluster();
  const host = await createTogglrHost(cluster);
  await withClient(host.database.url, async (client) => await install(client, { role: host.backend }));
  const rest = await createRestFixture({}, { ...host.database, drop: async () => await host.drop() });
  afterAll(async () => {
    await rest.close();
    await cluster.remove();
  });
  return { rest, host };
}

export async function send(
  httpUrl: string,
  method: string,
  path: string,
  body?: unknown,
  headers: Record<string, string> = {},
): Promise<Answer> {
  const response = await fetch(`${httpUrl}${path}`, {
    method,
    headers: { ...(body === undefined ? {} : { 'Content-Type': 'application/json' }), ...headers },
    ...(body === undefined ? {} : { body: typeof body === 'string' ? body : JSON.stringify(body) }),
    signal: AbortSignal.timeout(60_000),
  });
  const text = await response.text();
  return { status: response.status, headers: response.headers, body: JSON.parse(text) as Body, text };
}

/** Lets the user sign in with this password. */
export async function setPassword(pool: pg.Pool, username: string, password: string): Promise<void> {
  await pool.query('UPDATE users SET password_hash = $2 WHERE username = $1', [
    username,
    await hashPassword(password, testPasswordCost),
  ]);
}

/** Runs `work` while the rows that `lock` selects are locked, and releases the lock when `count` sessions of the server wait for it. */
export async function whileLocked<Result>(
  pool: pg.Pool,
  lock: { readonly text: string; readonly values: readonly unknown[] },
  count: number,
  work: () => Promise<Result>,
): Promise<Result> {
  const gate = await pool.connect();
  try {
    await gate.query('BEGIN');
    await gate.query(lock.text, [...lock.values]);
    const done = work();
    await expect
      .poll(
        async () => {
          const { rowCount } = await pool.query(
            `SELECT FROM pg_stat_activity WHERE datname = current_database()
             AND application_name = 'flagcast writes' AND wait_event_type = 'Lock'`,
          );
          return rowCount;
        },
        { interval: 10 },
      )
      .toBe(count);
    await gate.query('COMMIT');
    return await done;
  } finally {
    gate.release();
  }
}

/** What the history keeps of a feature, oldest first. */
export async function historyOf(
  pool: pg.Pool,
  featureId: string,
): Promise<
  {
    environment: string;
    action: string;
    username: string;
    entity: string;
    old_value: unknown;
    new_value: unknown;
    request_id: string;
  }[]
> {
  const { rows } = await pool.query<Awaited<ReturnType<typeof historyOf>>[number]>(
    `SELECT e.key AS environment, a.action, a.username, a.entity, a.old_value, a.new_value, a.request_id
     FROM audit_log a JOIN environments e ON e.id = a.environment_id WHERE a.feature_id = $1 ORDER BY a.id`,
    [featureId],
  );
  return rows;
}

/** Requests a change in the guarded environment prod, of a new feature unless one is given. */
export async function requestChange(
  rest: RestFixture,
  who: UserName,
  change: object = { enabled: true },
  featureId?: string,
): Promise<{ featureId: string; changeId: string; answer: Answer }> {
  const id = featureId ?? (await rest.addFeature()).id;
  const answer = await rest.ask(who, 'PATCH', `/api/features/${id}`, {
    env: 'prod',
    version: await rest.version(id, 'prod'),
    reason: 'The launch is today',
    ...change,
  });
  return { featureId: id, changeId: answer.body.pending_change?.id ?? '', answer };
}

/** What the user sees of the request now, as the body of a decision. */
export async function seenBy(
  rest: Pick<RestFixture, 'ask'>,
  who: UserName,
  changeId: string,
): Promise<object> {
  const { body } = await rest.ask(who, 'GET', `/api/pending-changes/${changeId}`);
  return seenOf(body);
}

/** The body of a decision by a user who has seen this request. */
export function seenOf(body: Readonly<Record<string, unknown>>): object {
  const entities = (body['entities'] ?? []) as {
    feature_id: string | null;
    feature_version: string | null;
  }[];
  return {
    version: body['version'] ?? 'not seen',
    feature_versions: Object.fromEntries(
      entities.flatMap(({ feature_id: id, feature_version: version }) =>
        id === null || version === null ? [] : [[id, version]],
      ),
    ),
  };
}

/**
 * Approves, rejects or cancels a request as the user sees it now; a rejection has a reason unless another body is given.
 */
export async function decide(
  rest: RestFixture,
  who: UserName,
  changeId: string,
  step: string,
  body: object | undefined = step === 'reject' ? { reason: 'Not before Monday' } : undefined,
): Promise<Answer> {
  const seen = step === 'cancel' ? undefined : { ...(await seenBy(rest, who, changeId)), ...body };
  return await rest.ask(who, 'POST', `/api/pending-changes/${changeId}/${step}`, seen);
}
