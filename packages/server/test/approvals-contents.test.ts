import type { EventMessage } from '@flagcast/protocol';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  createTestDatabase,
  decideRequest,
  insertRequest,
  seedProject,
  type SeededProject,
  type TestDatabase,
  withClient,
} from './database.js';
import {
  addMember,
  approvalsSnapshot,
  createUser,
  startTestServer,
  type TestServer,
  type TestUser,
} from './server.js';
import { V1Client } from './v1-client.js';

let database: TestDatabase;
let server: TestServer;
let root: TestUser;
let ann: TestUser;
/** Ann is a member of the first project only. */
let first: SeededProject;
let second: SeededProject;

beforeAll(async () => {
  database = await createTestDatabase({ schema: 'tables' });
  root = await createUser(database.pool, 'root', { superuser: true });
  ann = await createUser(database.pool, 'ann');
  first = await seedProject(database.pool);
  second = await seedProject(database.pool);
  await addMember(database.pool, first.projectId, ann.id, 'project_viewer');
  server = await startTestServer(database.url, { timeouts: { heartbeatIntervalMs: 50 } });
});

afterAll(async () => {
  await server.close();
  await database.drop();
});

async function connect(user: TestUser): Promise<V1Client> {
  return await V1Client.connect(server.wsUrl, { token: user.token });
}

describe('the approvals feed', () => {
  /** An open request to rename this number of features of a project. */
  async function requestOf(
    entities: number,
    { pool = database.pool, project = first, featuresOf = first } = {},
  ): Promise<string> {
    const { rows } = await pool.query<{ id: string }>(
      `WITH f AS (
         INSERT INTO features (project_id, key, name, kind)
         SELECT $1, 'large-' || gen_random_uuid(), 'secret', 'simple' FROM generate_series(1, $2::int) RETURNING id
       ), c AS (
         INSERT INTO pending_changes (id, project_id, environment_id, requested_by, change)
         SELECT gen_random_uuid(), $3, $4, 'root', jsonb_build_object('entities', jsonb_agg(jsonb_build_object(
           'entity', 'feature', 'entity_id', id, 'action', 'update',
           'changes', jsonb_build_object('name', jsonb_build_object('old', '', 'new', 'x')))))
         FROM f RETURNING id
       ), e AS (
         INSERT INTO pending_change_entities (pending_change_id, entity, entity_id) SELECT c.id, 'feature', f.id FROM c, f
       )
       SELECT id FROM c`,
      [featuresOf.projectId, entities, project.projectId, project.environments.prod],
    );
    return rows[0]?.id ?? '';
  }

  function expectSteps(client: V1Client, small: string, large: string): void {
    const of = (id: string): EventMessage[] =>
      client.events.filter((event) => event.pending_change_id === id);
    expect(of(small)).toHaveLength(20);
    for (const event of of(small)) {
      expect(event.pending_change).toStrictEqual(of(small)[0]?.pending_change);
      expect(event.pending_change?.entities).toHaveLength(20);
    }
    expect(of(large)).toHaveLength(400);
    for (const event of of(large)) {
      expect(event).toMatchObject({ pending_change_unreadable: true });
      expect(event.pending_change).toBeUndefined();
    }
  }

  it('brings large requests: their states are read once for all entities of a step, unless they are too large to be sent', async () => {
    const client = await connect(ann);
    await client.caughtUpFeed();
    const small = await requestOf(20);
    // Writing its state for each entity would take minutes.
    const large = await requestOf(400);
    await client.settled(database.pool);
    expectSteps(client, small, large);
    await database.pool.query('DELETE FROM pending_changes WHERE id = $1', [large]);
    await client.close();
  });

  it('brings large requests of a database without an event log, too', async () => {
    const other = await createTestDatabase({ schema: 'tables' });
    const project = await seedProject(other.pool);
    await other.pool.query('DROP SCHEMA flagcast CASCADE');
    const user = await createUser(other.pool, 'root', { superuser: true });
    const reading = await startTestServer(other.url, { database: { pollIntervalMs: 50 } });
    const client = await V1Client.connect(reading.wsUrl, { token: user.token });
    await client.caughtUpFeed();
    const of = { pool: other.pool, project, featuresOf: project };
    const small = await requestOf(20, of);
    const large = await requestOf(400, of);
    await client.message(
      () => client.events.filter((event) => event.pending_change_id === large).length === 400,
    );
    expectSteps(client, small, large);
    await client.close();
    await reading.close();
    await other.drop();
  });

  it('does not show features of another project', async () => {
    const client = await connect(ann);
    await client.caughtUpFeed();
    const id = await requestOf(1, { featuresOf: second });
    const event = (await client.message(
      (message) => 'source' in message && message.pending_change_id === id,
    )) as EventMessage;
    expect(event.pending_change?.entities).toMatchObject([{ feature_key: null, feature_version: null }]);
    expect(event.feature).toBeNull();
    const listed = (await approvalsSnapshot(server, ann)).pending_changes.find((change) => change.id === id);
    expect(listed?.entities).toStrictEqual(event.pending_change?.entities);
    await client.close();
  });

  it('does not contain archived projects for a superuser either', async () => {
    const project = await seedProject(database.pool);
    const { id } = await insertRequest(database.pool, {
      projectId: project.projectId,
      environmentId: project.environments.prod,
    });
    const client = await connect(root);
    await client.caughtUpFeed();
    const resync = client.control('resync');
    await database.pool.query('UPDATE projects SET archived_at = now() WHERE id = $1', [project.projectId]);
    await resync;
    const { length } = client.events;
    await client.caughtUpFeed(await approvalsSnapshot(server, root));
    await decideRequest(database.pool, id, 'rejected');
    await client.settled(database.pool);
    expect(client.events.slice(length)).toStrictEqual([]);
    await client.close();
  });

  it('resyncs when a role of the user is given the right to decide', async () => {
    const client = await connect(ann);
    await client.caughtUpFeed();
    expect((await approvalsSnapshot(server, ann)).may_decide).toStrictEqual([]);
    const resync = client.control('resync');
    await database.pool.query(
      `INSERT INTO role_permissions (role_id, permission_id)
       SELECT r.id, p.id FROM roles r, permissions p WHERE r.key = 'project_viewer' AND p.key = 'feature.manage'`,
    );
    expect((await resync).reason).toBe('scope_changed');
    expect((await approvalsSnapshot(server, ann)).may_decide).toStrictEqual([first.projectId]);
    await client.close();
  });

  it('begins with the newest decisions that the user may view, by the time of the decision', async () => {
    const { pool } = database;
    const gil = await createUser(pool, 'gil');
    const [shown, archived, hidden] = [
      await seedProject(pool),
      await seedProject(pool),
      await seedProject(pool),
    ];
    for (const { projectId } of [shown, archived]) await addMember(pool, projectId, gil.id, 'project_viewer');
    const insert = async (project: SeededProject, count: number, age: string): Promise<string[]> => {
      const { rows } = await pool.query<{ id: string }>(
        `WITH c AS (
           INSERT INTO pending_changes (project_id, environment_id, requested_by, request_user_id, change, status, created_at,
             rejected_by, rejected_at)
           SELECT $1, $2, 'gil', $3, '{}', 'rejected', now() - interval '1 year', 'root', now() - $5::interval
           FROM generate_series(1, $4::int) RETURNING id
         )
         INSERT INTO pending_change_entities (pending_change_id, entity, entity_id)
         SELECT id, 'rule', gen_random_uuid() FROM c RETURNING pending_change_id AS id`,
        [project.projectId, project.environments.prod, gil.id, count, age],
      );
      return rows.map(({ id }) => id);
    };
    const newest = await insert(shown, 98, '2 days');
    const older = await insert(shown, 10, '3 days');
    // They must not crowd out the others.
    await insert(archived, 110, '1 day');
    await insert(hidden, 110, '1 day');
    await pool.query('UPDATE projects SET archived_at = now() WHERE id = $1', [archived.projectId]);
    // Cancelled now: the newest decision, although it was requested first. The host has no time of it.
    const { id: cancelled } = await insertRequest(pool, {
      projectId: shown.projectId,
      environmentId: shown.environments.prod,
      requestedBy: gil,
    });
    await pool.query(`UPDATE pending_changes SET created_at = now() - interval '2 years' WHERE id = $1`, [
      cancelled,
    ]);
    await withClient(database.url, async (client) => {
      await client.query(`SELECT set_config('flagcast.actor', 'root', false)`);
      await client.query(`UPDATE pending_changes SET status = 'cancelled' WHERE id = $1`, [cancelled]);
    });
    const ids = async (): Promise<string[]> =>
      (await approvalsSnapshot(server, gil)).pending_changes.map(({ id }) => id);
    const { pending_changes: changes } = await approvalsSnapshot(server, gil);
    // The host does not record who cancelled it, and when.
    expect(changes.find(({ id }) => id === cancelled)).toMatchObject({
      decided_by: 'root',
      decided_at: expect.stringMatching(/^20/) as string,
    });
    const taken = await ids();
    expect(taken).toHaveLength(100);
    expect(taken).toEqual(expect.arrayContaining([cancelled, ...newest]));
    expect(taken.filter((id) => older.includes(id))).toHaveLength(1);
    // Without its step, the time of the request counts.
    await pool.query('DELETE FROM flagcast.request_steps WHERE pending_change_id = $1', [cancelled]);
    expect(await ids()).not.toContain(cancelled);
  });
});
