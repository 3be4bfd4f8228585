import { randomUUID } from 'node:crypto';
import type { EventMessage, PendingChange, Snapshot } from '@flagcast/protocol';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  createTestDatabase,
  decideRequest,
  type DecidedStatus,
  insertRequest,
  type RequestedChange,
  seedProject,
  type SeededProject,
  type TestDatabase,
} from './database.js';
import { EventStreamClient } from '../../../testing/testkit/clients/event-stream-client.ts';
import {
  addMember,
  approvalsSnapshot,
  createUser,
  nextEvent,
  startTestServer,
  type TestServer,
  type TestUser,
} from './server.js';
import { V1Client } from './v1-client.js';

const feed = 'approvals' as const;

let database: TestDatabase;
let server: TestServer;
let root: TestUser;
let ann: TestUser;
/** Ann is a member of the first project only. */
let first: SeededProject;
let second: SeededProject;

beforeAll(async () => {
  database = await createTestDatabase({ schema: 'tables' });
  root = await createUser(database.pool, 'root', { superuser: true, ttlMs: 600_000 });
  ann = await createUser(database.pool, 'ann', { ttlMs: 600_000 });
  first = await seedProject(database.pool);
  second = await seedProject(database.pool);
  await addMember(database.pool, first.projectId, ann.id, 'project_viewer');
  server = await startTestServer(database.url, { timeouts: { heartbeatIntervalMs: 50 } });
});

afterAll(async () => {
  await server.close();
  await database.drop();
});

type Requested = Partial<Omit<RequestedChange, 'projectId' | 'environmentId'>> & {
  readonly project?: SeededProject;
  readonly environment?: 'prod' | 'stage' | 'dev';
};

/** A feature and an open request to change its default value. */
async function request({
  project = first,
  environment = 'prod',
  requestedBy = root,
  ...rest
}: Requested = {}): Promise<{ readonly id: string; readonly featureId: string }> {
  const { projectId, environments } = project;
  return await insertRequest(database.pool, {
    projectId,
    environmentId: environments[environment],
    requestedBy,
    ...rest,
  });
}

async function decide(id: string, status: DecidedStatus): Promise<void> {
  await decideRequest(database.pool, id, status);
}

async function connect(user = ann): Promise<V1Client> {
  return await V1Client.connect(server.wsUrl, { token: user.token });
}

describe('the approvals feed', () => {
  it('brings the steps of requests in all environments that the user may view, each with the request after it', async () => {
    const client = await connect();
    await client.caughtUpFeed();
    const inProd = await request();
    const foreign = await request({ project: second });
    const inDev = await request({ environment: 'dev', value: '12345678901234567890.5' });
    await decide(foreign.id, 'approved');
    await decide(inDev.id, 'rejected');

    expect(await client.step(inProd.id, 'pending')).toMatchObject({
      feed,
      source: 'pending',
      environment: 'prod',
      feature: { id: inProd.featureId },
      pending_change: {
        id: inProd.id,
        project_id: first.projectId,
        environment_id: first.environments.prod,
        environment: 'prod',
        status: 'pending',
        requested_by: 'root',
        requested_by_id: root.id,
        reason: 'because',
        decided_by: null,
        entities: [
          {
            entity: 'feature',
            feature_id: inProd.featureId,
            action: 'update',
            diff: [{ field: 'default_value', old: '""', new: '"new"' }],
          },
        ],
      },
    });
    const rejected = await client.step(inDev.id, 'rejected');
    expect(rejected.pending_change).toMatchObject({
      status: 'rejected',
      decided_by: 'root',
      decision_reason: 'not on Fridays',
      entities: [{ diff: [{ new: '12345678901234567890.5' }] }],
    });
    expect(rejected.cursor).toEqual(expect.any(String));
    expect(client.events.filter((event) => event.pending_change_id === foreign.id)).toStrictEqual([]);
    await client.close();
  });

  it('has the same events as the channels, with the same ids, and counts as no channel', async () => {
    const client = await connect();
    await client.caughtUpFeed();
    await client.caughtUp({ projectId: first.projectId, environmentId: first.environments.prod });
    const { id } = await request();
    await client.settled(database.pool);
    const [one, other, ...more] = client.events.filter((event) => event.pending_change_id === id);
    expect(more).toStrictEqual([]);
    expect(one?.id).toBe(other?.id);
    expect([one?.feed, other?.feed].toSorted()).toStrictEqual([feed, undefined]);
    const ended = await client.ask({ type: 'unsubscribe', feed }, 'unsubscribed', 'error');
    expect(ended).toStrictEqual({ type: 'unsubscribed', feed });
    expect(await client.ask({ type: 'unsubscribe', feed }, 'error')).toMatchObject({
      code: 'not_subscribed',
      feed,
    });
    await decide(id, 'cancelled');
    await client.settled(database.pool);
    const cancelled = client.events.filter((event) => event.action === 'cancelled');
    expect(cancelled.map((event) => event.feed)).toStrictEqual([undefined]);
    await client.close();
  });

  it('begins with a snapshot of all open requests and of the decided ones of the user', async () => {
    const open = await request();
    const foreign = await request({ project: second });
    const own = await request({ requestedBy: ann });
    const decidedOther = await request();
    await decide(own.id, 'rejected');
    await decide(decidedOther.id, 'approved');
    const taken = await approvalsSnapshot(server, ann);
    const byId = new Map(taken.pending_changes.map((change) => [change.id, change]));
    expect(byId.get(open.id)).toMatchObject({ status: 'pending', environment: 'prod' });
    expect(byId.get(own.id)).toMatchObject({ status: 'rejected', decision_reason: 'not on Fridays' });
    expect(byId.has(foreign.id)).toBe(false);
    expect(byId.has(decidedOther.id)).toBe(false);
    expect(taken.may_decide).toStrictEqual([]);
    expect((await approvalsSnapshot(server, root)).may_decide).toEqual(
      expect.arrayContaining([first.projectId, second.projectId]),
    );

    // Nothing is missing between the snapshot and the subscription.
    await decide(open.id, 'approved');
    const client = await connect();
    await client.caughtUpFeed(taken);
    expect((await client.step(open.id, 'approved')).pending_change?.status).toBe('approved');
    // A channel's snapshot has the same form.
    const channel = await fetch(`${server.httpUrl}/api/snapshot?project_id=${first.projectId}&env=prod`, {
      headers: { Authorization: `Bearer ${ann.token}` },
    });
    const { pending_changes: ofChannel } = (await channel.json()) as Snapshot;
    const keys = (change?: PendingChange): string[] => Object.keys(change ?? {});
    expect(keys(ofChannel[0])).toStrictEqual(keys(taken.pending_changes[0]));
    await client.close();
  });

  it('resumes from its cursor after the replay buffer has forgotten, on another server, without foreign steps', async () => {
    const client = await connect();
    const { scope } = await client.caughtUpFeed();
    const { id } = await request();
    await client.step(id, 'pending');
    const cursor = await client.settled(database.pool);
    await client.close();
    await decide(id, 'rejected');
    const foreign = await request({ project: second });
    const other = await startTestServer(database.url, {});
    const resumed = await V1Client.connect(other.wsUrl, { token: ann.token });
    const source = nextEvent(other.flagcast.lifecycle, 'channel:resumed');
    expect(
      await resumed.ask({ type: 'subscribe', feed, scope, cursor }, 'caught_up', 'resync', 'error'),
    ).toMatchObject({
      type: 'caught_up',
      feed,
    });
    expect((await source).source).toBe('database');
    expect(resumed.events.map((event) => [event.pending_change_id, event.action])).toStrictEqual([
      [id, 'rejected'],
    ]);
    expect(resumed.events[0]?.pending_change?.decision_reason).toBe('not on Fridays');
    expect(JSON.stringify(resumed.messages)).not.toContain(foreign.id);
    await resumed.close();
    await other.close();
  });

  it('replays the newest state of a request, not the one of its earlier step', async () => {
    const client = await connect();
    const start = await client.caughtUpFeed();
    const { id } = await request();
    await decide(id, 'rejected');
    await client.step(id, 'rejected');
    await client.close();
    const again = await connect();
    await again.caughtUpFeed(start);
    const states = again.events
      .filter((event) => event.pending_change_id === id)
      .map(({ action, pending_change: change }) => [action, change?.status]);
    expect(states).toStrictEqual([
      ['pending', 'rejected'],
      ['rejected', 'rejected'],
    ]);
    await again.close();
  });

  it.each([
    [
      'given',
      'INSERT INTO memberships (project_id, user_id, role_id) SELECT $1, $2, id FROM roles WHERE key = $3',
    ],
    ['revoked', 'DELETE FROM memberships WHERE project_id = $1 AND user_id = $2 AND $3::text IS NOT NULL'],
  ])('resyncs at once when a right is %s, and then contains what the user may view', async (change, sql) => {
    const bob = await createUser(database.pool, `bob-${change}`);
    await addMember(database.pool, first.projectId, bob.id, 'project_viewer');
    if (change === 'revoked') await addMember(database.pool, second.projectId, bob.id, 'project_viewer');
    const client = await connect(bob);
    await client.caughtUpFeed();
    const resync = client.control('resync');
    await database.pool.query(sql, [second.projectId, bob.id, 'project_viewer']);
    expect(await resync).toStrictEqual({ type: 'resync', feed, reason: 'scope_changed' });
    const { id } = await request({ project: second });
    const taken = await approvalsSnapshot(server, bob);
    const { pending_changes: changes } = taken;
    expect(changes.some((each) => each.id === id)).toBe(change === 'given');
    await client.caughtUpFeed(taken);
    await decide(id, 'cancelled');
    await client.settled(database.pool);
    expect(client.events.map((event) => event.pending_change_id)).toStrictEqual(
      change === 'given' ? [id] : [],
    );
    await client.close();
  });

  it.each([
    ['a right is revoked', 'DELETE FROM memberships WHERE project_id = $1'],
    [
      'a role is changed',
      `UPDATE memberships SET role_id = (SELECT id FROM roles WHERE key = 'project_owner') WHERE project_id = $1`,
    ],
    [
      'an environment is renamed',
      `UPDATE environments SET key = 'live' WHERE project_id = $1 AND key = 'prod'`,
    ],
    ['a project is archived', 'UPDATE projects SET archived_at = now() WHERE id = $1'],
  ])('does not resume from a snapshot if %s meanwhile, and otherwise does', async (_, sql) => {
    const project = await seedProject(database.pool);
    const erin = await createUser(database.pool, `erin-${randomUUID()}`);
    await addMember(database.pool, first.projectId, erin.id, 'project_viewer');
    await addMember(database.pool, project.projectId, erin.id, 'project_viewer');
    const { scope, cursor } = await approvalsSnapshot(server, erin);
    const client = await connect(erin);
    await client.caughtUpFeed({ scope, cursor });
    await client.ask({ type: 'unsubscribe', feed }, 'unsubscribed');
    await database.pool.query(sql, [project.projectId]);
    const answer = await client.ask({ type: 'subscribe', feed, scope, cursor }, 'caught_up', 'resync');
    expect(answer).toStrictEqual({ type: 'resync', feed, reason: 'scope_changed' });
    // Superusers see all projects.
    const { scope: all } = await approvalsSnapshot(server, root);
    await database.pool.query(`UPDATE environments SET key = 'other' WHERE project_id = $1 AND key = 'dev'`, [
      first.projectId,
    ]);
    expect((await approvalsSnapshot(server, root)).scope).not.toBe(all);
    await database.pool.query(`UPDATE environments SET key = 'dev' WHERE project_id = $1 AND key = 'other'`, [
      first.projectId,
    ]);
    // The next feed must not hear of it.
    await client.settled(database.pool);
    await client.close();
  });

  it('does not resume without the scope of its snapshot', async () => {
    const client = await connect();
    const { cursor } = await approvalsSnapshot(server, ann);
    const answer = await client.ask({ type: 'subscribe', feed, cursor }, 'caught_up', 'resync');
    expect(answer).toMatchObject({ type: 'resync', reason: 'scope_changed' });
    await client.close();
  });

  it('closes the connection of a user who is deactivated', async () => {
    const carol = await createUser(database.pool, 'carol');
    const client = await connect(carol);
    await client.caughtUpFeed();
    await database.pool.query('UPDATE users SET is_active = false WHERE id = $1', [carol.id]);
    expect((await client.closed).code).toBe(4503);
  });

  it.each([
    [
      'an environment is renamed',
      `UPDATE environments SET key = 'live' WHERE project_id = $1 AND key = 'prod'`,
    ],
    ['a project is archived', 'UPDATE projects SET archived_at = now() WHERE id = $1'],
  ])('resyncs when %s that it contains, and not when it does not', async (_, sql) => {
    const project = await seedProject(database.pool);
    const dave = await createUser(database.pool, `dave-${randomUUID()}`);
    await addMember(database.pool, project.projectId, dave.id, 'project_viewer');
    const [client, other] = [await connect(dave), await connect()];
    await Promise.all([client.caughtUpFeed(), other.caughtUpFeed()]);
    const resync = client.control('resync');
    await database.pool.query(sql, [project.projectId]);
    expect((await resync).reason).toBe('scope_changed');
    await other.settled(database.pool);
    expect(other.withoutHeartbeats.filter(({ type }) => type === 'resync')).toStrictEqual([]);
    await Promise.all([client.close(), other.close()]);
  });

  it('is served as server-sent events, too, which resume from Last-Event-ID', async () => {
    const headers = { Authorization: `Bearer ${ann.token}` };
    const { scope, cursor } = await approvalsSnapshot(server, ann);
    const stream = await EventStreamClient.open(server.httpUrl, { feed, scope, cursor }, headers);
    const { id } = await request();
    const event = (await stream.message(
      (message) => 'source' in message && message.pending_change_id === id,
    )) as EventMessage;
    expect(event).toMatchObject({ feed, pending_change: { id } });
    const lastId = stream.blocks.find(({ message }) => message === event)?.id;
    stream.response.destroy();
    await decide(id, 'approved');
    const resumed = await EventStreamClient.open(
      server.httpUrl,
      { feed, scope },
      { ...headers, 'Last-Event-ID': lastId ?? '' },
    );
    // The request itself may be sent again, because a crash of the database could have undone it.
    await resumed.message(
      (message) => 'source' in message && message.pending_change_id === id && message.action === 'approved',
    );
    resumed.response.destroy();
  });

  it.each([
    ['feed=other', 404, 'not_found'],
    ['feed=approvals&project_id=1', 400, 'conflicting_parameters'],
    ['feed=approvals&feed=approvals', 400, 'repeated_parameter'],
  ])('refuses %s', async (query, status, code) => {
    for (const resource of ['snapshot', 'events']) {
      const response = await fetch(`${server.httpUrl}/api/${resource}?${query}`, {
        headers: { Authorization: `Bearer ${ann.token}` },
      });
      expect(response.status).toBe(status);
      expect(await response.json()).toMatchObject({ code });
    }
  });
});
