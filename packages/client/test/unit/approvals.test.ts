import type { ServerResponse } from 'node:http';
import type { EventMessage, PendingChange, ServerMessage } from '#protocol';
import { describe, expect, it } from 'vitest';
import { type Approvals, approvals, type ApprovalsState } from '../../src/approvals/index.js';
import type { Client } from '../../src/index.js';
import {
  caughtUp,
  event,
  hello,
  pendingChange,
  respondJson,
  type ScriptedConnection,
  stageName,
  step as stepOfChannel,
} from './scripted-server.js';
import {
  noWebSocket,
  channelArguments,
  type ClientFixture,
  startFixture,
  until,
  untilConnection,
  untilStatus,
} from './client-fixture.js';
import { useTabFixture } from './tab-fixture.js';

const feed = { feed: 'approvals' } as const;

/** A step of an approval as the feed brings it. */
function step(...parameters: Parameters<typeof stepOfChannel>): EventMessage {
  return { ...stepOfChannel(...parameters), ...feed };
}

async function untilFeed(
  opened: Approvals,
  predicate: (state: ApprovalsState) => boolean,
): Promise<ApprovalsState> {
  return await until(opened, predicate);
}

async function untilLive(opened: Approvals): Promise<ApprovalsState> {
  return await untilFeed(opened, ({ status }) => status.state === 'live');
}

interface FeedFixture extends ClientFixture {
  readonly client: Client;
  readonly opened: Approvals;
  readonly connection: ScriptedConnection;
}

/** Starts a client with the feed, live at the cursor c1. */
async function startFeed(): Promise<FeedFixture> {
  const fixture = await startFixture();
  const client = fixture.connect();
  const opened = approvals(client);
  const connection = await fixture.server.connections.next();
  connection.hello();
  expect(await connection.received.next()).toEqual({ type: 'subscribe', ...feed, scope: 's1', cursor: 'c0' });
  connection.send(caughtUp('c1', feed));
  await untilLive(opened);
  return { ...fixture, client, opened, connection };
}

describe('the approvals feed of a client', () => {
  it('begins with the snapshot and applies the steps of all channels without a further request', async () => {
    const { server, opened, connection } = await startFeed();
    expect(server.snapshots.all.map(({ url }) => url)).toEqual(['/api/snapshot?feed=approvals']);
    const before = opened.getState();
    expect([...before.open.keys()]).toEqual(['r1']);
    expect([...before.mayDecide]).toEqual(['p1']);
    const events: string[] = [];
    opened.onEvent(({ id }) => events.push(id));
    const inStage = step('e2', 'r2', 'pending', 'f2');
    connection.send({ ...inStage, ...stageName }, step('e3', 'r1', 'rejected', 'f1'));
    // The same event again is ignored.
    connection.send(step('e3', 'r1', 'rejected', 'f1'), step('e4', 'r3', 'pending', 'f3'));
    const { open, decided, lastEvent } = await untilFeed(opened, (state) => state.open.has('r3'));
    expect([...open.keys()]).toEqual(['r2', 'r3']);
    expect(decided.get('r1')).toMatchObject({ id: 'r1', status: 'rejected' });
    expect(lastEvent?.id).toBe('e4');
    expect(events).toEqual(['e2', 'e3', 'e4']);
    expect(server.snapshots.all).toHaveLength(1);
    // The previous state is unchanged.
    expect([...before.open.keys()]).toEqual(['r1']);
    expect(before.decided.size).toBe(0);
  });

  it('moves a request that is opened again back, and forgets one that was deleted', async () => {
    const { opened, connection } = await startFeed();
    connection.send(step('e1', 'r1', 'approved', 'f1'));
    expect((await untilFeed(opened, ({ decided }) => decided.has('r1'))).open.size).toBe(0);
    connection.send(step('e2', 'r1', 'updated', 'f1'));
    expect((await untilFeed(opened, ({ open }) => open.has('r1'))).decided.size).toBe(0);
    connection.send({ ...step('e3', 'r1', 'cancelled', 'f1'), pending_change: null });
    const { open, decided } = await untilFeed(opened, ({ lastEvent }) => lastEvent?.id === 'e3');
    expect([...open.keys(), ...decided.keys()]).toEqual([]);
  });

  it('knows from the step who cancelled a request, which the host does not record', async () => {
    const { opened, connection } = await startFeed();
    const cancelled = { ...pendingChange('r1', ['f1']), status: 'cancelled' };
    connection.send({ ...step('e1', 'r1', 'cancelled', 'f1'), actor: 'root', pending_change: cancelled });
    const { decided } = await untilFeed(opened, (state) => state.decided.has('r1'));
    expect(decided.get('r1')).toMatchObject({ decided_by: 'root', decided_at: expect.any(String) as string });
  });

  it('loads a snapshot after a request that is too large for events, and shows none without its contents', async () => {
    const { server, opened, connection } = await startFeed();
    const { pending_change: _, ...decision } = step('e1', 'r1', 'approved', 'f1');
    const { pending_change: __, ...large } = step('e2', 'r9', 'pending', 'f9');
    const shown: (PendingChange | undefined)[] = [];
    opened.subscribe(({ open }) => shown.push(open.get('r9')));
    const full = pendingChange('r9', ['f9']);
    const approved = { ...pendingChange('r1', ['f1']), status: 'approved', decided_by: 'bob' };
    server.approvalsSnapshot = { ...server.approvalsSnapshot, pending_changes: [approved, full] };
    connection.send({ ...decision, pending_change_unreadable: true });
    const { decided } = await untilFeed(opened, (state) => state.decided.has('r1'));
    expect(decided.get('r1')).toStrictEqual(approved);
    connection.send({ ...large, pending_change_unreadable: true });
    const { open } = await untilFeed(opened, (state) => state.open.has('r9'));
    expect(open.get('r9')).toStrictEqual(full);
    expect(shown.filter((each) => each !== undefined && each.version === '')).toStrictEqual([]);
    expect(server.snapshots.all.length).toBeGreaterThan(1);
  });

  it('loads a snapshot after an event without the request, because the server has lost its tables', async () => {
    const { server, opened, connection } = await startFeed();
    const { pending_change: _, ...bare } = step('e1', 'r1', 'approved', 'f1');
    server.approvalsSnapshot = { ...server.approvalsSnapshot, embedded_state: false, pending_changes: [] };
    connection.send(bare);
    await untilFeed(opened, ({ open, decided }) => open.size + decided.size === 0);
    expect(server.snapshots.all).toHaveLength(2);
  });

  it('resumes from its cursor after a lost connection, and is stale meanwhile', async () => {
    const { server, opened, connection } = await startFeed();
    connection.send(step('e1', 'r2', 'pending', 'f2'));
    connection.send({ ...step('e2', 'r3', 'pending', 'f3'), cursor: 'c2' });
    await untilFeed(opened, ({ open }) => open.has('r3'));
    connection.socket.terminate();
    expect((await untilFeed(opened, ({ status }) => status.state === 'stale')).status).toMatchObject({
      reason: 'disconnected',
    });
    const next = await server.connections.next();
    next.hello();
    expect(await next.received.next()).toEqual({ type: 'subscribe', ...feed, scope: 's1', cursor: 'c2' });
    next.send(step('e3', 'r2', 'cancelled', 'f2'), caughtUp('c3', feed));
    expect([...(await untilLive(opened)).open.keys()]).toEqual(['r1', 'r3']);
    expect(server.snapshots.all).toHaveLength(1);
  });

  it.each(['scope_changed', 'cursor_expired'] as const)(
    'starts from a new snapshot after a resync with %s, and keeps the objects that are the same',
    async (reason) => {
      const { server, opened, connection } = await startFeed();
      const before = opened.getState();
      server.approvalsSnapshot = {
        ...server.approvalsSnapshot,
        cursor: 'c9',
        may_decide: [],
        pending_changes: [pendingChange('r1', ['f1']), { ...pendingChange('r0', []), status: 'rejected' }],
      };
      connection.send({ type: 'resync', ...feed, reason });
      expect(await connection.received.next()).toEqual({
        type: 'subscribe',
        ...feed,
        scope: 's1',
        cursor: 'c9',
      });
      connection.send(caughtUp('c9', feed));
      const after = await untilFeed(
        opened,
        ({ status, decided }) => status.state === 'live' && decided.has('r0'),
      );
      expect(after.open).toBe(before.open);
      expect(after.mayDecide.size).toBe(0);
    },
  );

  it('has one subscription however often it is opened, beside the channels', async () => {
    const { server, client, opened, connection } = await startFeed();
    const again = approvals(client);
    const channel = client.channel(channelArguments);
    expect(await connection.received.next()).toMatchObject({ type: 'subscribe', env_id: '7' });
    connection.send(caughtUp('c1'));
    await untilStatus(channel, 'live');
    // The event arrives once for the channel and once for the feed.
    connection.send(
      { ...step('e1', 'r2', 'pending', 'f2'), feature: null },
      stepOfChannel('e1', 'r2', 'pending', 'f2'),
    );
    await until(channel, ({ lastEvent }) => lastEvent?.id === 'e1');
    expect(channel.getState().activity).toHaveLength(1);
    expect(channel.getState().pendingChanges.get('f2')).toHaveLength(1);
    await untilFeed(again, ({ open }) => open.has('r2'));
    again.close();
    connection.send(step('e2', 'r3', 'pending', 'f3'));
    await untilFeed(opened, ({ open }) => open.has('r3'));
    opened.close();
    expect(await connection.received.next()).toEqual({ type: 'unsubscribe', ...feed });
    connection.send({ type: 'unsubscribed', ...feed }, event('e3', 'f1'));
    await untilFeed(opened, ({ status }) => status.state === 'closed');
    await until(channel, ({ lastEvent }) => lastEvent?.id === 'e3');
    expect(server.connections.all).toHaveLength(1);
  });

  it('is closed with the error of a server that has no feed, and the channels stay live', async () => {
    const { server, connect } = await startFixture();
    server.respondToSnapshot = (response, request) => {
      if (request.url?.endsWith('feed=approvals')) {
        respondJson(response, 501, { code: 'not_available', message: 'No requests here.' });
      } else server.respondWithSnapshot(response, request);
    };
    const client = connect();
    const channel = client.channel(channelArguments);
    await (await server.connections.next()).accept();
    const opened = approvals(client);
    const { status } = await untilFeed(opened, (state) => state.status.state === 'closed');
    expect(status.state === 'closed' && status.error).toMatchObject({ code: 'not_available' });
    await untilStatus(channel, 'live');
  });

  it('an error about the feed closes only the feed', async () => {
    const { client, opened, connection } = await startFeed();
    connection.send({ type: 'error', code: 'forbidden', message: 'No.', ...feed });
    const { status } = await untilFeed(opened, (state) => state.status.state === 'closed');
    expect(status.state === 'closed' && status.error).toMatchObject({ code: 'forbidden' });
    expect((await untilConnection(client, 'idle')).state).toBe('idle');
  });

  it('resumes a stream of server-sent events from its cursor, in its scope', async () => {
    const { server, connect } = await startFixture();
    const opened = approvals(connect({ WebSocket: noWebSocket }));
    const write = (response: ServerResponse, ...messages: ServerMessage[]): void => {
      for (const message of messages) response.write(`data: ${JSON.stringify(message)}\n\n`);
    };
    const { subscribe, response } = await server.streams.next();
    expect(subscribe).toEqual([{ ...feed, scope: 's1', cursor: 'c0' }]);
    write(response, hello(), caughtUp('c1', feed), { ...step('e1', 'r2', 'pending', 'f2'), cursor: 'c2' });
    await untilFeed(opened, ({ open, status }) => status.state === 'live' && open.has('r2'));
    response.end();
    const next = await server.streams.next();
    expect(next.subscribe).toEqual([{ ...feed, scope: 's1', cursor: 'c2' }]);
    write(next.response, hello(), caughtUp('c2', feed));
    await untilLive(opened);
  });

  it('keeps at most 1,000 decided requests, the newest ones', async () => {
    const { opened, connection } = await startFeed();
    for (let index = 0; index <= 1_000; index += 1)
      connection.send(step(`e${index}`, `d${index}`, 'rejected', 'f'));
    const { decided } = await untilFeed(opened, (state) => state.decided.has('d1000'));
    expect(decided.size).toBe(1_000);
    expect(decided.has('d0')).toBe(false);
  });
});

describe('the approvals feed of several tabs', () => {
  const fixture = useTabFixture();

  it('is subscribed once by the leader, and each tab has its state and events', async () => {
    const { leader, follower, connection } = await fixture.startPair();
    const ofFollower = approvals(follower.client);
    expect(await connection.received.next()).toEqual({
      type: 'subscribe',
      ...feed,
      scope: 's1',
      cursor: 'c0',
    });
    connection.send(caughtUp('c1', feed));
    await untilLive(ofFollower);
    const ofLeader = approvals(leader.client);
    await untilLive(ofLeader);
    connection.send({ ...step('e1', 'r2', 'pending', 'f2'), cursor: 'c2' });
    for (const opened of [ofLeader, ofFollower]) {
      const { open, mayDecide } = await untilFeed(opened, (state) => state.open.has('r2'));
      expect([...open.keys()]).toEqual(['r1', 'r2']);
      expect([...mayDecide]).toEqual(['p1']);
    }
    expect(fixture.server.snapshots.all).toHaveLength(2);
    expect(connection.received.all).toHaveLength(2);
    expect(fixture.server.upgrades.all).toHaveLength(1);

    // The next leader resumes where the tab is.
    leader.crash();
    const next = await fixture.server.connections.next();
    next.hello();
    const subscribed = [await next.received.next(), await next.received.next()];
    expect(subscribed).toContainEqual({ type: 'subscribe', ...feed, scope: 's1', cursor: 'c2' });
    next.send(step('e2', 'r2', 'approved', 'f2'), caughtUp('c3', feed), caughtUp('c3'));
    const { decided } = await untilFeed(ofFollower, (state) => state.decided.has('r2'));
    expect(decided.size).toBe(1);
    await untilLive(ofFollower);
  });

  it('starts again from one snapshot in all tabs after a resync', async () => {
    const { leader, follower, connection } = await fixture.startPair();
    const feeds = [leader, follower].map(({ client }) => approvals(client));
    await connection.received.next();
    connection.send(caughtUp('c1', feed));
    await Promise.all(feeds.map(untilLive));
    fixture.server.approvalsSnapshot = {
      ...fixture.server.approvalsSnapshot,
      cursor: 'c9',
      pending_changes: [],
    };
    connection.send({ type: 'resync', ...feed, reason: 'scope_changed' });
    expect(await connection.received.next()).toEqual({
      type: 'subscribe',
      ...feed,
      scope: 's1',
      cursor: 'c9',
    });
    connection.send(caughtUp('c9', feed));
    for (const opened of feeds) {
      await untilFeed(opened, ({ open, status }) => open.size === 0 && status.state === 'live');
    }
    expect(fixture.server.snapshots.all).toHaveLength(3);
  });
});
