import { randomUUID } from 'node:crypto';
import type { FeatureState, Snapshot } from '@flagcast/protocol';
import pg from 'pg';
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import {
  createTestCluster,
  insertAudit,
  noLists,
  seedProject,
  type SeededProject,
  type TestCluster,
  type TestDatabase,
  withClient,
} from './database.js';
import { addMember, createUser, startTestServer, type TestServer, type TestUser } from './server.js';
import { type TestChannel, V1Client } from './v1-client.js';

/** A cursor lists 1,000 transactions. */
const inFlight = 1_050;
/** Its own: transactions that other tests leave open would be listed by cursors. */
let cluster: TestCluster;
let database: TestDatabase;
let server: TestServer;
/** Reads the same database, but only when it is woken. */
let slowServer: TestServer;
let root: TestUser;
let project: SeededProject;
let prod: TestChannel;

const timeouts = { queryTimeoutMs: 60_000 };

beforeAll(async () => {
  cluster = await createTestCluster({ max_prepared_transactions: String(inFlight) });
  database = await cluster.createDatabase({ schema: 'tables' });
  await withClient(
    database.url,
    async (client) => await client.query(`ALTER DATABASE ${database.name} SET flagcast.notify = 'on'`),
  );
  root = await createUser(database.pool, 'root', { superuser: true, ttlMs: 600_000 });
  project = await seedProject(database.pool);
  prod = { projectId: project.projectId, environmentId: project.environments.prod };
  // While others write without a pause, a query takes longer on a busy machine.
  server = await startTestServer(database.url, { timeouts });
  slowServer = await startTestServer(database.url, { database: { pollIntervalMs: 3_600_000 } });
});

afterAll(async () => {
  await server.close();
  await slowServer.close();
  await database.drop();
  await cluster.remove();
});

async function ask(query: string, token: string | null = root.token, at = server): Promise<Response> {
  const headers: Record<string, string> = token === null ? {} : { Authorization: `Bearer ${token}` };
  return await fetch(`${at.httpUrl}/api/snapshot?${query}`, { headers });
}

async function take({ projectId, environmentId }: TestChannel, at = server): Promise<Snapshot> {
  const response = await ask(`project_id=${projectId}&env_id=${environmentId}`, root.token, at);
  expect(response.status).toBe(200);
  return (await response.json()) as Snapshot;
}

async function connect(at = server): Promise<V1Client> {
  return await V1Client.connect(at.wsUrl, { token: root.token });
}

async function createFeatures(channel: TestChannel, count: number): Promise<string[]> {
  const { rows } = await database.pool.query<{ id: string }>(
    `INSERT INTO features (id, project_id, key, name, kind)
     SELECT gen_random_uuid(), $1, 'feature-' || n, 'Feature ' || n, 'simple' FROM generate_series(1, $2) AS n
     RETURNING id`,
    [channel.projectId, count],
  );
  return rows.map(({ id }) => id);
}

/** One change of a feature: its parameters, and the audit row, whose entity_id is the new value. */
async function change(client: pg.ClientBase, channel: TestChannel, featureId: string): Promise<void> {
  const value = randomUUID();
  await client.query(
    `UPDATE feature_params SET default_value = $3, enabled = NOT enabled, updated_at = clock_timestamp()
     WHERE feature_id = $1 AND environment_id = $2`,
    [featureId, channel.environmentId, value],
  );
  await insertAudit(client, { ...channel, featureId, entity: 'rule', entityId: value });
}

/** The features in the tables, by id. */
async function featureTable(channel: TestChannel): Promise<Map<string, FeatureState>> {
  const time = (column: string): string =>
    `to_char(${column} AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')`;
  const { rows } = await database.pool.query<FeatureState>(
    `SELECT f.id, f.key, f.name, f.description, f.kind, f.rollout_key, p.enabled, p.default_value,
       ${time('f.created_at')} AS created_at, ${time('greatest(f.updated_at, p.updated_at)')} AS updated_at,
       concat_ws('.', f.xmin, p.xmin) AS version
     FROM features f JOIN feature_params p ON p.feature_id = f.id
     WHERE f.project_id = $1 AND p.environment_id = $2 ORDER BY f.key`,
    [channel.projectId, channel.environmentId],
  );
  return new Map(rows.map((row) => [row.id, { ...row, ...noLists }]));
}

/** Each round takes 20 snapshots while six sessions write. FLAGCAST_SNAPSHOT_ROUNDS=25 takes 500. */
const rounds = Number(process.env['FLAGCAST_SNAPSHOT_ROUNDS'] ?? 1);

describe('a snapshot', () => {
  it('has the features and open requests of one channel', async () => {
    const { pool } = database;
    const { projectId, environments } = await seedProject(pool);
    const channel = { projectId, environmentId: environments.prod };
    const stage = { projectId, environmentId: environments.stage };
    expect(await take(channel)).toStrictEqual({
      project_id: projectId,
      environment: 'prod',
      environment_id: environments.prod,
      cursor: expect.stringMatching(/^[\w-]+$/) as string,
      embedded_state: true,
      features: [],
      pending_changes: [],
    });
    const [first = '', second = ''] = await createFeatures(channel, 3);
    await withClient(database.url, async (client) => await change(client, channel, first));
    const ruleId = randomUUID();
    const request = { entities: [{ entity: 'rule' }], meta: { reason: 'Because "so"' } };
    await insertAudit(pool, { ...channel, featureId: second, entity: 'rule', entityId: ruleId });
    const { rows } = await pool.query<{ id: string; created: string }>(
      `WITH made AS (
         INSERT INTO pending_changes (project_id, environment_id, requested_by, change)
         VALUES ($1, $2, 'carol', $3), ($1, $4, 'elsewhere', '{}') RETURNING *
       ), entities AS (
         INSERT INTO pending_change_entities (pending_change_id, entity, entity_id)
         SELECT made.id, touched.entity, touched.id
         FROM made, (VALUES ('carol', 'feature', $5::uuid), ('carol', 'rule', $6::uuid), ('elsewhere', 'rule', gen_random_uuid()))
           AS touched (requested_by, entity, id)
         WHERE made.requested_by = touched.requested_by
       )
       SELECT id, to_char(created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') AS created
       FROM made WHERE requested_by = 'carol'`,
      [projectId, channel.environmentId, JSON.stringify(request), stage.environmentId, first, ruleId],
    );
    const snapshot = await take(channel);
    expect(snapshot.features).toStrictEqual([...(await featureTable(channel)).values()]);
    expect(snapshot.pending_changes).toStrictEqual([
      {
        id: rows[0]?.id,
        project_id: projectId,
        environment_id: environments.prod,
        environment: 'prod',
        status: 'pending',
        requested_by: 'carol',
        requested_by_id: null,
        created_at: rows[0]?.created,
        version: expect.stringMatching(/^\d+$/) as string,
        reason: 'Because "so"',
        decided_by: null,
        decided_at: null,
        decision_reason: null,
        entities: [
          expect.objectContaining({
            entity: 'feature',
            entity_id: first,
            feature_id: first,
            action: null,
            feature_version: snapshot.features.find(({ id }) => id === first)?.version,
            diff: [],
          }),
          expect.objectContaining({
            entity: 'rule',
            entity_id: ruleId,
            feature_id: second,
            action: null,
            diff: [],
          }),
        ],
      },
    ]);
    expect((await take(stage)).pending_changes).toMatchObject([
      { requested_by: 'elsewhere', reason: null, entities: [{ entity: 'rule', feature_id: null, diff: [] }] },
    ]);
    await pool.query(`UPDATE pending_changes SET status = 'rejected' WHERE id = $1`, [rows[0]?.id]);
    await pool.query('DELETE FROM features WHERE id = $1', [second]);
    const later = await take(channel);
    expect(later.pending_changes).toStrictEqual([]);
    expect(later.features.map(({ id }) => id)).toStrictEqual([...(await featureTable(channel)).keys()]);
    expect(later.features).toHaveLength(2);
  });

  it('requires the rights that its channel requires', async () => {
    const guest = await createUser(database.pool, 'guest', { ttlMs: 600_000 });
    const { projectId } = await seedProject(database.pool);
    await addMember(database.pool, projectId, guest.id, 'project_viewer');
    const rows: [query: string, token: string | null, status: number, code: string][] = [
      [`project_id=${prod.projectId}&env=prod`, null, 401, 'token_missing'],
      [`project_id=${prod.projectId}&env=prod`, 'junk', 401, 'token_malformed'],
      [`project_id=${prod.projectId}&env=prod`, guest.token, 403, 'forbidden'],
      [`project_id=${randomUUID()}&env=prod`, guest.token, 404, 'unknown_project'],
      [`project_id=${projectId}&env=qa`, guest.token, 404, 'unknown_environment'],
      [`project_id=${projectId}`, guest.token, 400, 'missing_parameter'],
      [`project_id=${projectId}&env=prod&env_id=1`, guest.token, 400, 'conflicting_parameters'],
      [`project_id=${projectId}&project_id=${projectId}&env=prod`, guest.token, 400, 'repeated_parameter'],
    ];
    for (const [query, token, status, code] of rows) {
      const response = await ask(query, token);
      expect([query, response.status]).toStrictEqual([query, status]);
      const body = (await response.json()) as Record<string, string>;
      expect(Object.keys(body)).toStrictEqual(['code', 'message']);
      expect(body['code']).toBe(code);
      expect(response.headers.get('cache-control')).toBe('no-store');
    }
    const answered = await ask(`project_id=${projectId}&env=prod`, guest.token);
    expect([answered.status, answered.headers.get('cache-control')]).toStrictEqual([200, 'no-store']);
    const headers = { Authorization: `Bearer ${guest.token}`, Origin: 'https://evil.example' };
    const foreign = await fetch(`${server.httpUrl}/api/snapshot?project_id=${projectId}&env=prod`, {
      headers,
    });
    expect(foreign.status).toBe(403);
  });
});

describe('G6: a snapshot and the events after its cursor', () => {
  it('contain no event twice, even if the snapshot is newer than the last read of the server', async () => {
    const { projectId, environments } = await seedProject(database.pool);
    const channel = { projectId, environmentId: environments.prod };
    const [featureId = ''] = await createFeatures(channel, 1);
    const client = await connect(slowServer);
    await client.control('hello');
    await withClient(database.url, async (writer) => {
      // Without a notification the server that polls once an hour does not read this.
      await writer.query(`SET flagcast.notify = 'off'`);
      await change(writer, channel, featureId);
      await change(writer, channel, featureId);
    });
    const { cursor, features } = await take(channel, slowServer);
    await client.caughtUp(channel, cursor);
    await withClient(database.url, async (writer) => await change(writer, channel, featureId));
    const [now] = [...(await featureTable(channel)).values()];
    const event = await client.event(now?.default_value ?? '');
    expect(features[0]?.default_value).not.toBe(now?.default_value);
    expect(event.feature).toStrictEqual(now);
    expect(client.events).toStrictEqual([event]);
    await client.close();
  });

  it('end in the same state when more transactions are in flight than a cursor lists', async () => {
    const { projectId, environments } = await seedProject(database.pool);
    const channel = { projectId, environmentId: environments.prod };
    const [featureId = ''] = await createFeatures(channel, 1);
    const watcher = await connect();
    await watcher.caughtUp(channel);
    await withClient(database.url, async (client) => {
      // A prepared transaction stays in flight without a session.
      for (let number = 0; number < inFlight; number += 1) {
        await client.query(`BEGIN; SELECT pg_current_xact_id(); PREPARE TRANSACTION 'open ${number}'`);
      }
      await change(client, channel, featureId);
    });
    const [now] = [...(await featureTable(channel)).values()];
    await watcher.event(now?.default_value ?? '');
    const { cursor, features } = await take(channel);
    expect(features).toStrictEqual([now]);
    const client = await connect();
    await client.caughtUp(channel, cursor);
    // The cursor covers less than the snapshot shows, so repeated events are not older than the snapshot.
    expect(client.events.map((event) => event.feature)).toStrictEqual([now]);
    for (let number = 0; number < inFlight; number += 1) {
      await database.pool.query(`COMMIT PREPARED 'open ${number}'`);
    }
    await watcher.close();
    await client.close();
  });

  it('are continued while one transaction stays open and 2,000 others of the channel end', async () => {
    const { projectId, environments } = await seedProject(database.pool);
    const channel = { projectId, environmentId: environments.prod };
    const other = { projectId, environmentId: environments.stage };
    const open = await database.pool.connect();
    await open.query('BEGIN; SELECT pg_current_xact_id()');
    const watcher = await connect();
    await watcher.caughtUp(channel);
    await withClient(database.url, async (client) => {
      for (const [{ environmentId }, transactions] of [
        [other, 3_000],
        [channel, 2_000],
      ] as const) {
        await client.query(
          `DO $$ BEGIN FOR number IN 1..${transactions} LOOP
             INSERT INTO audit_log (project_id, environment_id, feature_id, entity, entity_id, actor, action)
             VALUES ('${projectId}', ${environmentId}, gen_random_uuid(), 'feature', gen_random_uuid(), 'system', 'update');
             COMMIT;
           END LOOP; END $$`,
        );
      }
    });
    const last = await insertAudit(database.pool, channel);
    await watcher.event(last.entityId);
    for (const at of [server, slowServer]) {
      const { cursor } = await take(channel, at);
      const client = await connect(at);
      await client.caughtUp(channel, cursor);
      expect(client.events).toStrictEqual([]);
      const { entityId } = await insertAudit(database.pool, channel);
      await client.event(entityId);
      expect(client.events).toHaveLength(1);
      await client.close();
    }
    await open.query('COMMIT');
    open.release();
    await watcher.close();
  });

  it('equal the database at any time during writes, on two servers', async () => {
    const { projectId, environments } = await seedProject(database.pool);
    const channel = { projectId, environmentId: environments.prod };
    const featureIds = (await createFeatures(channel, 12)).sort();
    const everySoOften = await startTestServer(database.url, { database: { pollIntervalMs: 40 }, timeouts });
    onTestFinished(async () => await everySoOften.close());
    const servers = [server, everySoOften];
    let writing = true;
    let missed = 0;
    for (let round = 0; round < rounds; round += 1) {
      writing = true;
      const writers = Array.from({ length: 6 }, async () => {
        await withClient(database.url, async (client) => {
          while (writing) await write(client, channel, featureIds);
        });
      });
      const watched: { snapshot: Snapshot; client: V1Client }[] = [];
      for (let count = 0; count < 20; count += 1) {
        const from = servers[count % 2] ?? server;
        const to = servers[(count >> 1) % 2] ?? server;
        const client = await connect(to);
        await client.control('hello');
        const snapshot = await take(channel, from);
        await client.caughtUp(channel, snapshot.cursor);
        watched.push({ snapshot, client });
      }
      writing = false;
      await Promise.all(writers);
      const last = await insertAudit(database.pool, { ...channel, entityId: randomUUID() });
      const table = await featureTable(channel);
      const history = await changesByFeature(channel);
      for (const { snapshot, client } of watched) {
        await client.event(last.entityId);
        const state = new Map(snapshot.features.map((feature) => [feature.id, feature]));
        for (const { id, default_value: value } of snapshot.features) {
          // The row lock serializes the changes of a feature, so the snapshot shows a prefix of them, which ends here.
          const all = history.get(id) ?? [];
          const expected = all.slice(value === '' ? 0 : all.indexOf(value) + 1);
          const received = client.events
            .filter((event) => event.feature_id === id)
            .map((event) => event.entity_id);
          // The events of one read are in the order in which their transactions started.
          expect(received.sort()).toStrictEqual(expected.sort());
          missed += received.length;
        }
        for (const event of client.events) {
          if (event.feature !== undefined && event.feature !== null)
            state.set(event.feature.id, event.feature);
        }
        expect(state).toStrictEqual(table);
        await client.close();
      }
    }
    // They were taken during writes, so many events follow.
    expect(missed).toBeGreaterThan(200 * rounds);
  });
});

/** A transaction of up to 60 ms that changes up to three features, also under savepoints, some of which are rolled back. */
async function write(client: pg.Client, channel: TestChannel, featureIds: readonly string[]): Promise<void> {
  await client.query('BEGIN');
  // In the order of their ids, so that no two wait for each other.
  const touched = featureIds.filter(() => Math.random() < 2 / featureIds.length).slice(0, 3);
  for (const featureId of touched) {
    const savepoint = Math.random() < 1 / 3;
    if (savepoint) await client.query('SAVEPOINT step');
    await change(client, channel, featureId);
    await client.query('SELECT pg_sleep($1)', [0.002 * 10 ** Math.random()]);
    if (savepoint) await client.query(`${Math.random() < 0.25 ? 'ROLLBACK TO' : 'RELEASE'} SAVEPOINT step`);
  }
  await client.query(Math.random() < 0.1 ? 'ROLLBACK' : 'COMMIT');
}

/** The committed values of each feature, in order. */
async function changesByFeature({ projectId }: TestChannel): Promise<Map<string, string[]>> {
  const { rows } = await database.pool.query<{ id: string; values: string[] }>(
    `SELECT feature_id AS id, array_agg(entity_id::text ORDER BY audit_log.id) AS values
     FROM audit_log WHERE project_id = $1 AND entity = 'rule' GROUP BY feature_id`,
    [projectId],
  );
  return new Map(rows.map(({ id, values }) => [id, values]));
}
