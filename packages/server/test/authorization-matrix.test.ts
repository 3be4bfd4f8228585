import { randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { signToken } from '../src/auth/sign-token.js';
import { builtPagesDir } from '../../console/server/console-files.js';
import { sign } from './access-tokens.js';
import { type Cell, cellsOf } from './authorization-table.js';
import { EventStreamClient } from '../../../testing/testkit/clients/event-stream-client.ts';
import { PlainClient, Refused } from './plain-client.js';
import { type RestFixture, createRestFixture, send, setPassword, seenBy } from './rest-fixture.js';
import { addMember, createUser, testSecret } from './server.js';
import { V1Client } from './v1-client.js';

const root = new URL('../../../', import.meta.url);
const document = readFileSync(new URL('docs/authorization.md', root), 'utf8');

/** The kinds of users, with their credentials. */
interface Caller {
  readonly token: string | null;
  readonly userId: string | null;
  readonly headers: Record<string, string>;
}

/** The objects of a request. Each request has its own, so that the routes do not affect each other. */
interface Target {
  readonly featureId: string;
  /** A request for a change of the feature, by another user unless `own`. */
  readonly changeId: string;
}

interface Route {
  /** The objects of `Target` that the route needs. */
  readonly needs?: 'feature' | 'request' | 'own request';
  send(caller: Caller, target: Target): Promise<string>;
}

let rest: RestFixture;
let projectId: string;
let requesterId: string;
const callers = new Map<string, Caller>();

beforeAll(async () => {
  rest = await createRestFixture({ console: { pagesDir: builtPagesDir } });
  const { pool, shop, users } = rest;
  projectId = shop.projectId;
  await rest.guard(shop.environments.prod);
  // A user has a password that is checked here, so there is a sign-in.
  await setPassword(pool, 'carol', 'correct horse battery');
  requesterId = (await createUser(pool, 'frank')).id;
  const stranger = await createUser(pool, 'stranger', { ttlMs: 600_000 });
  const inactive = await createUser(pool, 'inactive', { active: false, ttlMs: 600_000 });
  const deleted = await createUser(pool, 'deleted', { ttlMs: 600_000 });
  for (const { id } of [inactive, deleted]) await addMember(pool, projectId, id, 'project_owner');
  await pool.query('DELETE FROM users WHERE id = $1', [deleted.id]);

  const owner = users.alice;
  const claims = { userId: Number(owner.id), username: owner.username, type: 'access' };
  const key = Buffer.from(testSecret);
  const nowS = Math.floor(Date.now() / 1_000);
  const good = { ...claims, exp: nowS + 600 };
  const add = (name: string, token: string | null, userId: string | null, headers = {}): void => {
    callers.set(name, { token, userId, headers });
  };
  add('anonymous', null, null);
  add('viewer', users.carol.token, users.carol.id);
  add('member', users.bob.token, users.bob.id);
  add('manager', users.erin.token, users.erin.id);
  add('owner', owner.token, owner.id);
  add('other project', users.dave.token, users.dave.id);
  add('no project', stranger.token, stranger.id);
  add('superuser', users.root.token, users.root.id);
  add('expired', await sign({ ...claims, exp: nowS - 60 }, key), owner.id);
  add('wrong signature', await sign(good, Buffer.from('another secret that is long enough!')), owner.id);
  add('refresh token', await sign({ ...good, type: 'refresh' }, key), owner.id);
  add('deleted user', deleted.token, null);
  add('deactivated user', inactive.token, inactive.id);
  const never = { secret: testSecret, userId: '999999', username: 'alice', ttlMs: 600_000 };
  add('user who never was', await signToken(never), null);
  add('foreign page', owner.token, owner.id, { Origin: 'https://evil.example' });
});

afterAll(async () => {
  await rest.close();
});

function headersOf({ token, headers }: Caller): Record<string, string> {
  return { ...headers, ...(token === null ? {} : { Authorization: `Bearer ${token}` }) };
}

function channel(): Record<string, string> {
  return { project_id: projectId, env: 'dev' };
}

/** The answer as the table has it: the status, and of a refusal its code. */
async function ask(caller: Caller, method: string, path: string, body?: unknown): Promise<string> {
  const answer = await send(rest.server.httpUrl, method, path, body, headersOf(caller));
  return answer.status < 300 ? String(answer.status) : `${answer.status} ${answer.body.code ?? ''}`;
}

async function orRefusal(connect: () => Promise<string>): Promise<string> {
  try {
    return await connect();
  } catch (error) {
    if (error instanceof Refused) return `${error.status} ${error.body.code ?? ''}`;
    throw error;
  }
}

/** Connects with flagcast.v1 and returns the result of `wait`, or the close code of the connection. */
async function overV1(
  { token, headers }: Caller,
  query: Record<string, string>,
  wait: (client: V1Client) => Promise<string>,
): Promise<string> {
  return await orRefusal(async () => {
    const client = await V1Client.connect(rest.server.wsUrl, {
      token: token ?? undefined,
      query,
      headers,
    });
    const closed = client.closed.then(({ code, reason }) => `${code} ${reason}`);
    // `wait` rejects when the connection closes. The close code is the better answer.
    const found = wait(client).catch(async () => await closed);
    const answer = await Promise.race([found, closed]);
    await client.close();
    return answer;
  });
}

/** Whether a list that every user gets contains entries of the project. */
async function listed(caller: Caller, path: string, wanted: string): Promise<string> {
  const answer = await send(rest.server.httpUrl, 'GET', path, undefined, headersOf(caller));
  if (answer.status !== 200) return `${answer.status} ${answer.body.code ?? ''}`;
  return JSON.stringify(answer.body).includes(wanted) ? '200 with it' : '200 without it';
}

async function patch(caller: Caller, { featureId }: Target, env: string, change: object): Promise<string> {
  const version = await rest.version(featureId, env);
  return await ask(caller, 'PATCH', `/api/features/${featureId}`, { env, version, ...change });
}

async function unchecked(caller: Caller, path: string): Promise<string> {
  const { status } = await fetch(rest.server.httpUrl + path, { headers: headersOf(caller) });
  return String(status);
}

const decide =
  (step: string, body?: object): Route['send'] =>
  async (caller, { changeId }) => {
    const seen = step === 'cancel' ? body : { ...(await seenBy(rest, 'root', changeId)), ...body };
    return await ask(caller, 'POST', `/api/pending-changes/${changeId}/${step}`, seen);
  };

const auditRoute = (path: string): Route => ({
  send: async (caller) => await ask(caller, 'GET', `/api/audit${path}project_id=${projectId}&env=dev`),
});

/** By the name that the table gives them: the method and the path as in the OpenAPI document, and a case. */
const routes: Readonly<Record<string, Route>> = {
  'GET /api/ws: plain': {
    send: async ({ token, headers }) =>
      await orRefusal(async () => {
        const options = { headers, ...(token === null ? {} : { token }) };
        const client = await PlainClient.connect(rest.server.wsUrl, channel(), options);
        await client.close();
        return '101';
      }),
  },
  'GET /api/ws: flagcast.v1, channel in the address': {
    send: async (caller) =>
      await overV1(caller, channel(), async (client) => (await client.control('caught_up')).type),
  },
  'GET /api/ws: flagcast.v1, `subscribe`': {
    send: async (caller) =>
      await overV1(caller, {}, async (client) => {
        await client.control('hello');
        const environmentId = rest.shop.environments.dev;
        const answer = await client.subscribe({ projectId, environmentId });
        return answer.type === 'error' ? `error ${answer.code}` : answer.type;
      }),
  },
  'GET /api/events': {
    send: async (caller) =>
      await orRefusal(async () => {
        const stream = await EventStreamClient.open(rest.server.httpUrl, channel(), headersOf(caller));
        await stream.control('caught_up');
        stream.response.destroy();
        return '200';
      }),
  },
  'POST /api/events': {
    send: async (caller) =>
      await orRefusal(async () => {
        const { httpUrl } = rest.server;
        const place = { project_id: projectId, env: 'dev' };
        const stream = await EventStreamClient.openAll(httpUrl, [place], headersOf(caller));
        const answer = await stream.message(
          (message) => 'type' in message && ['caught_up', 'error'].includes(message.type),
        );
        stream.response.destroy();
        return 'code' in answer ? `error ${answer.code}` : 'caught_up';
      }),
  },
  'GET /api/snapshot': {
    send: async (caller) => await ask(caller, 'GET', `/api/snapshot?project_id=${projectId}&env=dev`),
  },
  'GET /api/projects': {
    send: async (caller) => await listed(caller, '/api/projects', projectId),
  },
  'GET /api/auth/me': {
    send: async (caller) => await listed(caller, '/api/auth/me', projectId),
  },
  'GET /api/features': {
    send: async (caller) => await ask(caller, 'GET', `/api/features?project_id=${projectId}&env=dev`),
  },
  'GET /api/features/{id}': {
    needs: 'feature',
    send: async (caller, { featureId }) => await ask(caller, 'GET', `/api/features/${featureId}?env=dev`),
  },
  'GET /api/audit': auditRoute('?'),
  'GET /api/audit/histogram': auditRoute('/histogram?since=2026-01-01T00:00:00Z&until=2026-02-01T00:00:00Z&'),
  'GET /api/audit/export': auditRoute('/export?format=json&'),
  'GET /api/pending-changes/{id}': {
    needs: 'request',
    send: async (caller, { changeId }) => await ask(caller, 'GET', `/api/pending-changes/${changeId}`),
  },
  'GET /api/snapshot: approvals feed': {
    needs: 'request',
    send: async (caller, { changeId }) => await listed(caller, '/api/snapshot?feed=approvals', changeId),
  },
  'GET /api/pending-changes': {
    needs: 'request',
    send: async (caller, { changeId }) => await listed(caller, '/api/pending-changes', changeId),
  },
  'POST /api/features': {
    send: async (caller) =>
      await ask(caller, 'POST', '/api/features', {
        project_id: projectId,
        key: `made-${randomUUID().slice(0, 8)}`,
        name: 'Made',
      }),
  },
  'PATCH /api/features/{id}: `enabled`': {
    needs: 'feature',
    send: async (caller, target) => await patch(caller, target, 'dev', { enabled: true }),
  },
  'PATCH /api/features/{id}: `name`': {
    needs: 'feature',
    send: async (caller, target) => await patch(caller, target, 'dev', { name: 'Renamed' }),
  },
  'PATCH /api/features/{id}: `enabled`, guarded': {
    needs: 'feature',
    send: async (caller, target) => await patch(caller, target, 'prod', { enabled: true, reason: 'Now' }),
  },
  'DELETE /api/features/{id}: guarded': {
    needs: 'feature',
    send: async (caller, { featureId }) => {
      const body = { env: 'dev', version: await rest.version(featureId, 'dev'), reason: 'Unused' };
      return await ask(caller, 'DELETE', `/api/features/${featureId}`, body);
    },
  },
  'POST /api/pending-changes/{id}/approve': { needs: 'request', send: decide('approve') },
  'POST /api/pending-changes/{id}/approve: own': { needs: 'own request', send: decide('approve') },
  'POST /api/pending-changes/{id}/reject': {
    needs: 'request',
    send: decide('reject', { reason: 'Not before Monday' }),
  },
  'POST /api/pending-changes/{id}/reject: own': {
    needs: 'own request',
    send: decide('reject', { reason: 'Not before Monday' }),
  },
  'POST /api/pending-changes/{id}/cancel': { needs: 'request', send: decide('cancel') },
  'POST /api/pending-changes/{id}/cancel: own': { needs: 'own request', send: decide('cancel') },
  'PATCH /api/environments/{id}': {
    // No other cell is about this environment.
    send: async (caller) =>
      await ask(caller, 'PATCH', `/api/environments/${rest.shop.environments.stage}`, { guarded: true }),
  },
  'POST /api/auth/login: wrong password': {
    send: async (caller) =>
      await ask(caller, 'POST', '/api/auth/login', { username: `x-${randomUUID()}`, password: 'guess' }),
  },
  'GET /api/auth/mode': { send: async (caller) => await ask(caller, 'GET', '/api/auth/mode') },
  'GET /api/openapi.json': { send: async (caller) => await ask(caller, 'GET', '/api/openapi.json') },
  'GET /healthz': { send: async (caller) => await ask(caller, 'GET', '/healthz') },
  'GET /readyz': { send: async (caller) => await ask(caller, 'GET', '/readyz') },
  'GET /metrics': { send: async (caller) => await unchecked(caller, '/metrics') },
  'GET /': { send: async (caller) => await unchecked(caller, '/') },
};

/** A feature for each cell, and for some a request for a change of it. */
async function makeTargets(cells: readonly Cell[]): Promise<Target[]> {
  const made = cells.map(({ route, caller }) => {
    const needs = routes[route]?.needs;
    const by = needs === 'own request' ? (callers.get(caller)?.userId ?? requesterId) : requesterId;
    return { featureId: randomUUID(), changeId: randomUUID(), needs, by };
  });
  const features = made.filter(({ needs }) => needs !== undefined).map(({ featureId }) => featureId);
  const requests = made.filter(({ needs }) => needs === 'request' || needs === 'own request');
  const { pool, shop } = rest;
  await pool.query(
    `INSERT INTO features (id, project_id, key, name, kind)
     SELECT id, $2, 'flag-' || left(id::text, 8), 'A flag', 'simple' FROM unnest($1::uuid[]) AS id`,
    [features, projectId],
  );
  await pool.query(
    `INSERT INTO pending_changes (id, project_id, environment_id, requested_by, request_user_id, change)
     SELECT id, $1, $2, 'another user', user_id, jsonb_build_object('entities', jsonb_build_array(jsonb_build_object(
       'entity', 'feature', 'entity_id', feature_id, 'action', 'update',
       'changes', '{"enabled": {"old": false, "new": true}}'::jsonb)))
     FROM unnest($3::uuid[], $4::uuid[], $5::int[]) AS wanted (id, feature_id, user_id)`,
    [
      projectId,
      shop.environments.prod,
      requests.map(({ changeId }) => changeId),
      requests.map(({ featureId }) => featureId),
      requests.map(({ by }) => Number(by)),
    ],
  );
  await pool.query(
    `INSERT INTO pending_change_entities (pending_change_id, entity, entity_id)
     SELECT id, 'feature', feature_id FROM unnest($1::uuid[], $2::uuid[]) AS wanted (id, feature_id)`,
    [requests.map(({ changeId }) => changeId), requests.map(({ featureId }) => featureId)],
  );
  return made;
}

/** Returns the ids of rows that refused requests have changed. */
async function findTouched(targets: readonly Target[]): Promise<string[]> {
  const { rows } = await rest.pool.query<{ id: string }>(
    `SELECT f.id FROM features f JOIN feature_params p ON p.feature_id = f.id
     WHERE f.id = ANY ($1) AND (f.name <> 'A flag' OR p.enabled)
     UNION ALL SELECT id FROM pending_changes WHERE id = ANY ($2) AND status <> 'pending'
     UNION ALL SELECT feature_id FROM audit_log WHERE feature_id = ANY ($1)
     UNION ALL SELECT entity_id FROM pending_change_entities
       WHERE entity_id = ANY ($1) AND pending_change_id <> ALL ($2)`,
    [targets.map(({ featureId }) => featureId), targets.map(({ changeId }) => changeId)],
  );
  return rows.map(({ id }) => id);
}

/** Sends a request for every cell and returns the table of responses, one line for each cell. */
async function sendAll(cells: readonly Cell[]): Promise<string[]> {
  const targets = await makeTargets(cells);
  const answers: string[] = [];
  const left = cells.entries();
  // More concurrent requests would only wait: passwords are checked one at a time, with few database connections.
  const sendNext = async (): Promise<void> => {
    for (const [index, { route, caller }] of left) {
      const [at, who, target] = [routes[route], callers.get(caller), targets[index]];
      if (!at || !who || !target) throw new Error(`no route ${route}, or no caller ${caller}`);
      answers[index] = await at.send(who, target);
    }
  };
  await Promise.all(Array.from({ length: 4 }, sendNext));
  const refused = targets.filter((_, index) => /^\d+ [a-z_]+$/.test(answers[index] ?? ''));
  expect(await findTouched(refused)).toStrictEqual([]);
  return cells.map(({ route, caller }, index) => `${route}, ${caller}: ${answers[index] ?? ''}`);
}

const roles = ['viewer', 'member', 'manager', 'owner', 'other project, no project', 'superuser'];
const states = [
  'anonymous',
  'expired',
  'wrong signature',
  'refresh token',
  'deleted user, user who never was',
  'deactivated user',
  'foreign page',
];

describe('the authorization matrix in docs/authorization.md agrees with the server', () => {
  it.each([
    ['by role', roles],
    ['by what is wrong with an owner', states],
  ])('%s', async (_, columns) => {
    const cells = cellsOf(document, { columns, routes: Object.keys(routes) });
    const routesOf = (caller: string): string[] =>
      cells.filter((cell) => cell.caller === caller).map(({ route }) => route);
    for (const caller of columns.flatMap((names) => names.split(', ')))
      expect(routesOf(caller).sort()).toStrictEqual(Object.keys(routes).sort());
    expect(await sendAll(cells)).toStrictEqual(
      cells.map(({ route, caller, expected }) => `${route}, ${caller}: ${expected}`),
    );
  });

  it('lists every entry point of the server', async () => {
    const response = await fetch(`${rest.server.httpUrl}/api/openapi.json`);
    const { paths } = (await response.json()) as { paths: Record<string, object> };
    const described = Object.entries(paths).flatMap(([path, methods]) =>
      Object.keys(methods).map((method) => `${method.toUpperCase()} ${path}`),
    );
    const named = new Set(Object.keys(routes).map((route) => route.split(': ')[0] ?? ''));
    named.delete('GET /');
    expect([...named].sort()).toStrictEqual(described.sort());
  });
});
