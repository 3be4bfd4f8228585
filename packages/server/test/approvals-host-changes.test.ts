import { randomUUID } from 'node:crypto';
import type { Snapshot } from '@flagcast/protocol';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  createTestDatabase,
  decideRequest,
  insertRequest,
  seedProject,
  type SeededProject,
  type TestDatabase,
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

const feed = 'approvals' as const;

let database: TestDatabase;
let server: TestServer;
let ann: TestUser;
/** Ann is a member of the first project only. */
let first: SeededProject;
let second: SeededProject;

beforeAll(async () => {
  database = await createTestDatabase({ schema: 'tables' });
  ann = await createUser(database.pool, 'ann', { ttlMs: 600_000 });
  first = await seedProject(database.pool);
  second = await seedProject(database.pool);
  await addMember(database.pool, first.projectId, ann.id, 'project_viewer');
  // Nothing but the entries of the log makes the server check rights.
  server = await startTestServer(database.url, {
    timeouts: { heartbeatIntervalMs: 50, recheckIntervalMs: 3_600_000 },
  });
});

afterAll(async () => {
  await server.close();
  await database.drop();
});

async function request(project = first): Promise<{ readonly id: string; readonly featureId: string }> {
  const { projectId, environments } = project;
  return await insertRequest(database.pool, { projectId, environmentId: environments.prod });
}

async function connect(user = ann): Promise<V1Client> {
  return await V1Client.connect(server.wsUrl, { token: user.token });
}

describe('the approvals feed', () => {
  it.each(['a member', 'a superuser'])(
    'resyncs for %s when an archived project is restored, and then contains its requests',
    async (who) => {
      const project = await seedProject(database.pool);
      const fay = await createUser(database.pool, `fay-${randomUUID()}`, {
        superuser: who === 'a superuser',
      });
      await addMember(database.pool, project.projectId, fay.id, 'project_viewer');
      await database.pool.query('UPDATE projects SET archived_at = now() WHERE id = $1', [project.projectId]);
      const [client, other] = [await connect(fay), await connect()];
      await Promise.all([client.caughtUpFeed(await approvalsSnapshot(server, fay)), other.caughtUpFeed()]);
      const resync = client.control('resync');
      await database.pool.query('UPDATE projects SET archived_at = NULL WHERE id = $1', [project.projectId]);
      expect(await resync).toStrictEqual({ type: 'resync', feed, reason: 'scope_changed' });
      await client.caughtUpFeed(await approvalsSnapshot(server, fay));
      const { id } = await request(project);
      await client.step(id, 'pending');
      const channel = { projectId: project.projectId, environmentId: project.environments.prod };
      await client.caughtUp(channel);
      await other.settled(database.pool);
      expect(other.withoutHeartbeats.filter(({ type }) => type === 'resync')).toStrictEqual([]);
      await Promise.all([client.close(), other.close()]);
    },
  );

  it('does not resync when a project that it contains gets another name, which no message has', async () => {
    const client = await connect();
    await client.caughtUpFeed();
    const { id } = await request();
    await client.step(id, 'pending');
    await database.pool.query(
      `UPDATE projects SET name = 'Renamed ' || id, updated_at = now() WHERE id = $1`,
      [first.projectId],
    );
    await client.settled(database.pool);
    expect(client.withoutHeartbeats.filter(({ type }) => type === 'resync')).toStrictEqual([]);
    expect(JSON.stringify([client.events, await approvalsSnapshot(server, ann)])).not.toContain('Renamed');
    await client.close();
  });

  describe('and the channels, when the host moves an open request', () => {
    async function move(id: string, to: SeededProject, environment: 'prod' | 'dev'): Promise<void> {
      await database.pool.query(
        'UPDATE pending_changes SET project_id = $2, environment_id = $3 WHERE id = $1',
        [id, to.projectId, to.environments[environment]],
      );
    }

    /** The environment of each update that a subscription has received, and that of the request after it. */
    const seen = (client: V1Client, id: string, ofFeed: boolean): (string | null)[][] =>
      client.events
        .filter((event) => event.pending_change_id === id && event.action === 'updated')
        .filter((event) => (event.feed === feed) === ofFeed)
        .map((event) => [event.environment_id, event.pending_change?.environment_id ?? null]);

    it('to another environment, have an update in both: without the request in the first, with it in the second', async () => {
      const { prod, dev } = first.environments;
      const { id } = await request();
      const client = await connect();
      await client.caughtUpFeed();
      for (const environmentId of [prod, dev]) {
        await client.caughtUp({ projectId: first.projectId, environmentId });
      }
      await move(id, first, 'dev');
      await client.settled(database.pool);
      const expected = [
        [prod, null],
        [dev, dev],
      ];
      expect(seen(client, id, true)).toStrictEqual(expected);
      expect(seen(client, id, false)).toStrictEqual(expected);
      const { pending_changes: listed } = await approvalsSnapshot(server, ann);
      expect(listed.find((each) => each.id === id)?.environment_id).toBe(dev);
      await client.close();
    });

    it('to a project that the user may not view, lose it, and get it when it comes back', async () => {
      const { id } = await request();
      const client = await connect();
      await client.caughtUpFeed();
      const { prod } = first.environments;
      await move(id, second, 'prod');
      await client.settled(database.pool);
      expect(seen(client, id, true)).toStrictEqual([[prod, null]]);
      expect(JSON.stringify(client.events)).not.toContain(second.projectId);
      await move(id, first, 'prod');
      await client.settled(database.pool);
      expect(seen(client, id, true)).toStrictEqual([
        [prod, null],
        [prod, prod],
      ]);
      await client.close();
    });
  });

  it('has a request as soon as it has an entity, because the events of a request are those of its entities', async () => {
    const client = await connect();
    await client.caughtUpFeed();
    const { id, featureId } = await request();
    const { rows } = await database.pool.query<{ id: string }>(
      `INSERT INTO pending_changes (project_id, environment_id, requested_by, change)
       SELECT project_id, environment_id, requested_by, '{}' FROM pending_changes WHERE id = $1 RETURNING id`,
      [id],
    );
    await decideRequest(database.pool, id, 'cancelled');
    const bare = rows[0]?.id ?? '';
    await client.settled(database.pool);
    const listed = async (): Promise<boolean[]> => {
      const headers = { Authorization: `Bearer ${ann.token}` };
      const channel = await fetch(`${server.httpUrl}/api/snapshot?project_id=${first.projectId}&env=prod`, {
        headers,
      });
      const lists = [await approvalsSnapshot(server, ann), (await channel.json()) as Snapshot];
      return lists.map(({ pending_changes: changes }) => changes.some((each) => each.id === bare));
    };
    expect(await listed()).toStrictEqual([false, false]);
    expect(client.events.filter((event) => event.pending_change_id === bare)).toStrictEqual([]);
    await database.pool.query(
      `INSERT INTO pending_change_entities (pending_change_id, entity, entity_id) VALUES ($1, 'feature', $2)`,
      [bare, featureId],
    );
    expect((await client.step(bare, 'pending')).pending_change?.id).toBe(bare);
    expect(await listed()).toStrictEqual([true, true]);
    await client.close();
  });
});
