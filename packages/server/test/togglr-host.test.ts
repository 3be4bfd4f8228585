import { spawnSync } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import pg from 'pg';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { install, planInstall, uninstall } from '../src/install/install.js';
import { runHere } from './command.js';
import { createTestCluster, insertAudit, seedProject, withClient, type TestCluster } from './database.js';
import { PlainClient } from './plain-client.js';
import { addMember, createUser, startTestServer, type TestServer } from './server.js';
import { createTogglrHost, dumpHost, type TogglrHost } from './togglr-host.js';
import { runWriters } from './writers.js';

let cluster: TestCluster;
let host: TogglrHost;
const cleanUps: (() => Promise<void>)[] = [];

async function majorVersion(): Promise<number> {
  const { rows } = await host.database.pool.query<{ major: number }>(
    "SELECT current_setting('server_version_num')::int / 10000 AS major",
  );
  return rows[0]?.major ?? 0;
}

beforeAll(async () => {
  // VACUUM also uses transaction ids.
  cluster = await createTestCluster({ max_prepared_transactions: '50', autovacuum: 'off' });
});

beforeEach(async () => {
  host = await createTogglrHost(cluster);
});

afterEach(async () => {
  for (const cleanUp of cleanUps.splice(0).reverse()) await cleanUp();
  await host.drop();
});

afterAll(async () => {
  await cluster.remove();
});

const onHost = async <Result>(work: (client: pg.Client) => Promise<Result>): Promise<Result> =>
  await withClient(host.database.url, work);

async function serve(url: string, options: Parameters<typeof startTestServer>[1] = {}): Promise<TestServer> {
  const server = await startTestServer(url, options);
  cleanUps.push(async () => await server.close());
  return server;
}

/** Writers of the host's backend, a client for each channel, and the events that clients missed or got twice. */
async function countLosses(
  server: TestServer,
): Promise<{ committed: number; lost: number; repeated: number }> {
  const { pool } = host.database;
  const { token } = await createUser(pool, 'root', { superuser: true, ttlMs: 600_000 });
  const { projectId, environments } = await seedProject(pool);
  const clients = await Promise.all(
    Object.values(environments).map(async (environmentId) => {
      const query = { project_id: projectId, env_id: environmentId };
      return { projectId, environmentId, client: await PlainClient.connect(server.wsUrl, query, { token }) };
    }),
  );
  await runWriters({ databaseUrl: host.urlOf(host.backend), channels: clients, writers: 8, minEvents: 500 });
  const result = { committed: 0, lost: 0, repeated: 0 };
  for (const { client, ...channel } of clients) {
    const last = await insertAudit(pool, { ...channel, entityId: randomUUID() });
    await client.received((message) => message.entity_id === last.entityId);
    const { rows } = await pool.query<{ entity_id: string }>(
      'SELECT entity_id FROM audit_log WHERE environment_id = $1',
      [channel.environmentId],
    );
    const received = new Set(client.messages.map((message) => message.entity_id));
    result.committed += rows.length;
    result.repeated += client.messages.length - received.size;
    result.lost += rows.filter((row) => !received.has(row.entity_id)).length;
  }
  return result;
}

const listTables = ['rules', 'segments', 'flag_variants', 'feature_schedules'];

describe("Flagcast on a Togglr's database", () => {
  it('is installed by the owner, serves without a loss, and is uninstalled without a trace', async () => {
    const ownerUrl = host.urlOf(host.owner);
    const before = await dumpHost(host);
    const report = await withClient(ownerUrl, async (client) => await install(client));
    expect(report.changed).toBe(true);
    const between = await dumpHost(host);
    expect(before.filter((line) => !between.includes(line))).toEqual([]);

    const server = await serve(ownerUrl, { database: { pollIntervalMs: 100 } });
    const result = await countLosses(server);
    expect(result).toMatchObject({ lost: 0, repeated: 0 });
    expect(result.committed).toBeGreaterThanOrEqual(500);
    await server.close();

    await withClient(ownerUrl, async (client) => await uninstall(client));
    expect(await dumpHost(host)).toEqual(before);
  });

  it("leaves the host's own view and its privileges unchanged", async () => {
    const { projectId, environments } = await seedProject(host.database.pool);
    await insertAudit(host.database.pool, { projectId, environmentId: environments.prod });
    const read = async (): Promise<object[]> =>
      await withClient(
        host.urlOf(host.backend),
        async (client) => (await client.query<object>('SELECT * FROM v_realtime_events')).rows,
      );
    const before = await read();
    expect(before).toHaveLength(1);
    await onHost(async (client) => await install(client));
    expect(await read()).toEqual(before);
    await onHost(async (client) => await uninstall(client));
  });
});

describe('installed by a superuser', () => {
  it('notes the privileges that the owner of the tables needs for its backups', async () => {
    const { pool } = host.database;
    const { notes } = await onHost(async (client) => await install(client));
    expect(notes).toHaveLength(1);
    expect(notes[0]).toContain(`Role ${host.owner} owns tables and may not read schema flagcast: pg_dump`);
    // What pg_dump does with each table and sequence.
    const dump = async (): Promise<void> => {
      await withClient(host.urlOf(host.owner), async (client) => {
        await client.query(
          'BEGIN; LOCK TABLE flagcast.event_log, flagcast.granted_roles IN ACCESS SHARE MODE',
        );
        await client.query('SELECT last_value FROM flagcast.event_log_seq_seq');
      });
    };
    await expect(dump()).rejects.toMatchObject({ code: '42501' });
    await pool.query(/To allow it: (.*;)$/.exec(notes[0] ?? '')?.[1] ?? '');
    await dump();
    expect(await onHost(async (client) => await install(client))).toMatchObject({
      changed: false,
      notes: [],
    });
    await onHost(async (client) => await uninstall(client));
  });
});

describe('a separate role for the server', () => {
  let role = '';
  beforeEach(() => {
    role = `reader_${randomUUID().slice(0, 8)}`;
  });

  /** Installs with the role, and gives it the password that its operator would. */
  async function installRole(): Promise<string> {
    await onHost(async (client) => {
      await install(client, { role });
      await client.query(`ALTER ROLE ${role} PASSWORD 'secret'`);
    });
    return host.urlOf(role);
  }

  async function uninstallAll(): Promise<readonly string[]> {
    return (await onHost(async (client) => await uninstall(client))).lines;
  }

  it('serves events, snapshots, sign-in by token, rights and LISTEN, and cannot write', async () => {
    const before = await dumpHost(host, 'meant');
    const roleUrl = await installRole();
    const { pool, name } = host.database;
    // Only the backend commits: its notifications must reach a listener of another role.
    await pool.query(`ALTER DATABASE ${name} SET flagcast.notify = 'on'`);
    const server = await serve(roleUrl, { database: { pollIntervalMs: 3_600_000 }, writes: true });
    const { projectId, environments } = await seedProject(pool);
    const member = await createUser(pool, 'ada');
    await addMember(pool, projectId, member.id, 'project_member');
    const stranger = await createUser(pool, 'eve');
    const { rows } = await pool.query<{ id: string }>(
      `INSERT INTO features (project_id, key, name, kind) VALUES ($1, 'checkout', 'Checkout', 'simple') RETURNING id`,
      [projectId],
    );
    const featureId = rows[0]?.id ?? '';

    const channel = { project_id: projectId, env: 'prod' };
    const get = async (path: string, token: string): Promise<{ status: number; body: unknown }> => {
      const response = await fetch(`${server.httpUrl}${path}?${new URLSearchParams(channel).toString()}`, {
        headers: { Authorization: `Bearer ${token}` },
      });
      return { status: response.status, body: await response.json() };
    };
    expect(await get('/api/snapshot', stranger.token)).toMatchObject({ status: 403 });
    await expect(PlainClient.connect(server.wsUrl, channel, stranger)).rejects.toMatchObject({ status: 403 });
    expect(await get('/api/snapshot', member.token)).toMatchObject({
      status: 200,
      body: { features: [{ key: 'checkout', enabled: false }], pending_changes: [] },
    });
    for (const path of [
      '/api/projects',
      '/api/features',
      `/api/features/${featureId}`,
      '/api/audit',
      '/api/pending-changes',
    ]) {
      expect({ path, ...(await get(path, member.token)) }).toMatchObject({ path, status: 200 });
    }

    const client = await PlainClient.connect(server.wsUrl, channel, member);
    const written = await withClient(
      host.urlOf(host.backend),
      async (writer) => await insertAudit(writer, { projectId, environmentId: environments.prod, featureId }),
    );
    await client.received((message) => message.entity_id === written.entityId);

    const { body } = await get(`/api/features/${featureId}`, member.token);
    const { version } = (body as { feature: { version: string } }).feature;
    const refused = await fetch(`${server.httpUrl}/api/features/${featureId}`, {
      method: 'PATCH',
      headers: { Authorization: `Bearer ${member.token}`, 'Content-Type': 'application/json' },
      body: JSON.stringify({ env: 'prod', version, enabled: true }),
    });
    expect({ status: refused.status, body: (await refused.json()) as unknown }).toMatchObject({
      status: 403,
      body: { code: 'database_forbids', message: expect.stringContaining('permission denied') as string },
    });
    await withClient(roleUrl, async (session) => {
      await expect(session.query('SELECT email FROM users')).rejects.toMatchObject({ code: '42501' });
      await expect(session.query('SELECT password_hash FROM users')).rejects.toMatchObject({ code: '42501' });
      await expect(session.query('DELETE FROM audit_log')).rejects.toMatchObject({ code: '42501' });
      // Every role has CREATE on `public` before PostgreSQL 15.
      const schema = (await majorVersion()) < 15 ? 'flagcast' : 'public';
      const creating = session.query(`CREATE TABLE ${schema}.mine (id int)`);
      await expect(creating).rejects.toMatchObject({ code: '42501' });
    });
    await server.close();
    await pool.query(`ALTER DATABASE ${name} RESET flagcast.notify`);
    expect(await uninstallAll()).toContain(`dropped role "${role}"`);
    expect(await dumpHost(host, 'meant')).toEqual(before);
  });

  it('receives every event that another role writes', async () => {
    const server = await serve(await installRole(), { database: { pollIntervalMs: 100 } });
    expect(await countLosses(server)).toMatchObject({ lost: 0, repeated: 0 });
    await server.close();
    await uninstallAll();
  });

  it('is granted exactly the rights of the plan, once, and again after a repair', async () => {
    const plan = await onHost(async (client) => await planInstall(client, { role }));
    expect(plan.creates).toContain(`role "${role}"`);
    expect(plan.grants).toEqual(
      [
        'USAGE ON SCHEMA flagcast',
        'SELECT ON TABLE flagcast.event_log',
        'SELECT ON TABLE flagcast.request_steps',
        'SELECT ON TABLE flagcast.log_state',
        'EXECUTE ON FUNCTION flagcast.prune_event_log(interval, integer)',
        'EXECUTE ON FUNCTION flagcast.adopt_event_log()',
        'SELECT ON TABLE flagcast.v_realtime_events',
        'SELECT ON TABLE flagcast.schema_version',
        ...['projects', 'environments', 'features', 'feature_params'].map(
          (table) => `SELECT ON TABLE public.${table}`,
        ),
        ...['pending_changes', 'pending_change_entities', 'audit_log'].map(
          (table) => `SELECT ON TABLE public.${table}`,
        ),
        ...['memberships', 'role_permissions', 'permissions'].map(
          (table) => `SELECT ON TABLE public.${table}`,
        ),
        'SELECT (id, username, is_active, is_superuser) ON TABLE public.users',
        ...['tags', 'feature_tags', 'roles', 'project_approvers', ...listTables].map(
          (table) => `SELECT ON TABLE public.${table}`,
        ),
      ].map((right) => `${right} TO "${role}"`),
    );
    const report = await onHost(async (client) => await install(client, { role }));
    expect(report.lines).toEqual([
      ...plan.creates.map((object) => `created ${object}`),
      ...plan.grants.map((grant) => `granted ${grant}`),
    ]);
    const again = await onHost(async (client) => await install(client, { role }));
    expect(again).toMatchObject({ changed: false, lines: [] });

    await host.database.pool.query(
      'DROP VIEW flagcast.v_realtime_events; DROP FUNCTION flagcast.prune_event_log',
    );
    const repaired = await onHost(async (client) => await install(client));
    expect(repaired.lines.filter((line) => line.startsWith('granted'))).toEqual([
      `granted EXECUTE ON FUNCTION flagcast.prune_event_log(interval, integer) TO "${role}"`,
      `granted SELECT ON TABLE flagcast.v_realtime_events TO "${role}"`,
    ]);
    expect(await uninstallAll()).toContain(`dropped role "${role}"`);
  });
});

const shell = 'psql';

/** Uses psql if it is installed, because it splits the script into statements. */
async function runScript(script: string): Promise<void> {
  const psql = spawnSync(shell, ['--no-psqlrc', '--quiet', '--set', 'ON_ERROR_STOP=1', host.database.url], {
    input: script,
  });
  if (psql.error === undefined)
    expect({ status: psql.status, stderr: String(psql.stderr) }).toEqual({ status: 0, stderr: '' });
  else await host.database.pool.query(script);
}

describe('a dry run', () => {
  it('changes nothing, uses no transaction id, and prints the statements that install executes', async () => {
    const { pool, url } = host.database;
    const role = 'dry_reader';
    const state = async (): Promise<unknown> => ({
      dump: await dumpHost(host),
      ids: (await pool.query<object>('SELECT pg_snapshot_xmax(pg_current_snapshot())::text AS next')).rows,
    });
    const before = await state();
    const dryRun = async (...args: string[]): Promise<string> => {
      const { code, stdout, stderr } = await runHere(['install', '--role', role, '--dry-run', ...args], {
        DATABASE_URL: url,
      });
      expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
      return stdout;
    };
    const script = await dryRun();
    expect(await state()).toEqual(before);
    expect(script).toContain('--   would create trigger flagcast_log on public.audit_log\n');

    await runScript(script);
    const byScript = await dumpHost(host);
    expect(await dryRun()).toMatch(/^-- Flagcast is installed in .* already: nothing would be run\.\n$/);
    await onHost(async (client) => {
      await uninstall(client);
      await install(client, { role });
    });
    expect(await dumpHost(host)).toEqual(byScript);
    await onHost(async (client) => await uninstall(client));
  });
});
