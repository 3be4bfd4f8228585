import { describe, expect, it, onTestFinished, vi } from 'vitest';
import { WebSocket } from 'ws';
import { type ClientOptions, FlagcastError } from '../../src/index.js';
import { sharedTabs, type SharedTabsOptions } from '../../src/tabs/index.js';
import { caughtUp, channelName, event, feature, stageName } from './scripted-server.js';
import { type Tab, useTabFixture } from './tab-fixture.js';
import {
  channelArguments,
  recordEventIds,
  stageArguments,
  startFixture,
  until,
  untilEvent,
  untilStatus,
  useFastClock,
} from './client-fixture.js';

const fixture = useTabFixture();

describe('the shared connection', () => {
  it('serves both tabs with one snapshot, one subscription and one token', async () => {
    const { connection, leaderChannel, followerChannel } = await fixture.startPair();
    const ids = recordEventIds(followerChannel);
    connection.send(event('e1', 'f1', { cursor: 'c2' }), event('e2', 'f2', { cursor: 'c3' }));
    await Promise.all([untilEvent(leaderChannel, 'e2'), untilEvent(followerChannel, 'e2')]);
    expect(ids).toEqual(['e1', 'e2']);
    expect(followerChannel.getState().features).toEqual(leaderChannel.getState().features);
    expect(followerChannel.toSnapshot()).toEqual(leaderChannel.toSnapshot());
    expect([fixture.server.upgrades.all.length, fixture.server.snapshots.all.length]).toEqual([1, 1]);
    expect(connection.received.all.map(({ type }) => type)).toEqual(['subscribe']);
    expect(fixture.errors).toEqual([]);
  });

  it('is a stream of server-sent events without a WebSocket class (null)', async () => {
    const { client } = fixture.openTab({ WebSocket: null, fetch: null });
    vi.stubGlobal('WebSocket', WebSocket);
    onTestFinished(() => void vi.unstubAllGlobals());
    client.channel(channelArguments);
    await fixture.server.streams.next();
    expect([client.getStatus().transport, fixture.server.upgrades.all.length]).toEqual(['sse', 0]);
  });

  it('requests tokens only from the leader, including the refresh before the expiry', async () => {
    useFastClock();
    let followerTokens = 0;
    let leaderTokens = 0;
    const leaderChannel = fixture
      .openTab({ getToken: () => `token${(leaderTokens += 1)}` })
      .client.channel(channelArguments);
    const connection = await fixture.server.connections.next();
    connection.hello({ token_expires_at: new Date(Date.now() + 2_500).toISOString() });
    await connection.received.next();
    connection.send(caughtUp('c1'));
    await untilStatus(leaderChannel, 'live');
    const followerChannel = fixture
      .openTab({ getToken: () => `other${(followerTokens += 1)}` })
      .client.channel(channelArguments);
    await untilStatus(followerChannel, 'live');
    expect(await connection.received.next()).toEqual({ type: 'auth', token: 'token2' });
    expect(followerChannel.getState().status).toEqual({ state: 'live' });
    expect(followerTokens).toBe(0);
  });

  it('delivers every event to a tab that is opened during a burst', async () => {
    const { connection, leaderChannel } = await fixture.startPair();
    const third = fixture.openTab().client.channel(channelArguments);
    for (let index = 1; index <= 200; index += 1) {
      const state = feature('f1', { version: `v${index}` });
      connection.send(event(`e${index}`, 'f1', { cursor: `d${index}`, feature: state }));
    }
    await untilEvent(leaderChannel, 'e200');
    await until(third, ({ features }) => features.get('f1')?.version === 'v200');
    await untilStatus(third, 'live');
    const ids = recordEventIds(third);
    connection.send(event('last', 'f2', { cursor: 'd201' }));
    await Promise.all([untilEvent(leaderChannel, 'last'), untilEvent(third, 'last')]);
    expect(ids).toEqual(['last']);
    expect(third.getState().features).toEqual(leaderChannel.getState().features);
    expect(fixture.server.snapshots.all).toHaveLength(1);
  });

  it.each<[string, Partial<ClientOptions>, Partial<SharedTabsOptions>]>([
    ['another user', {}, { userId: 'grace' }],
    ['another name', {}, { name: 'admin' }],
  ])('is not shared with tabs of %s', async (_description, options, tabs) => {
    await fixture.startPair();
    const other = fixture
      .openTab({ ...options, getToken: () => 'other' }, tabs)
      .client.channel(channelArguments);
    const connection = await fixture.server.connections.next();
    expect(connection.token).toBe('other');
    await connection.accept('c1');
    await untilStatus(other, 'live');
    expect(fixture.server.snapshots.all.at(-1)?.headers.authorization).toBe('Bearer other');
  });

  it('is not shared with tabs of another server', async () => {
    await fixture.startPair();
    const foreign = await startFixture();
    fixture.openTab({ url: foreign.server.url }).client.channel(channelArguments);
    await (await foreign.server.connections.next()).accept('c1');
  });

  it('requires a user id', () => {
    expect(() => sharedTabs({ userId: '' })).toThrow(FlagcastError);
  });

  it.each(['locks', 'BroadcastChannel'])('is not shared if the browser has no %s', async (missing) => {
    const alone = await startFixture();
    vi.stubGlobal('navigator', {});
    if (missing === 'BroadcastChannel') vi.stubGlobal('BroadcastChannel', undefined);
    const locks = missing === 'locks' ? undefined : { request: async () => await Promise.resolve() };
    const shareTabs = sharedTabs({ userId: 'ada', locks });
    const clients = [alone.connect({ shareTabs }), alone.connect({ shareTabs })];
    vi.unstubAllGlobals();
    for (const client of clients) {
      const channel = client.channel(channelArguments);
      await (await alone.server.connections.next()).accept('c1');
      await untilStatus(channel, 'live');
    }
  });

  it('is not shared if locks are refused, and the error is reported', async () => {
    const refused = new Error('locks are refused');
    const locks = { request: async () => await Promise.reject(refused) };
    const channel = fixture.openTab({}, { locks }).client.channel(channelArguments);
    await (await fixture.server.connections.next()).accept('c1');
    await untilStatus(channel, 'live');
    expect(fixture.errors).toEqual([refused]);
  });
});

describe('a change of the leader', () => {
  it('happens when the leader hangs: a follower is not live again by an old hello, and takes the lead', async () => {
    const { leader, follower, leaderChannel, followerChannel } = await fixture.startPair();
    const third = fixture.openTab();
    const channelOfThird = third.client.channel(channelArguments);
    await untilStatus(channelOfThird, 'live');
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
    onTestFinished(() => void vi.useRealTimers());
    leader.hang();
    for (const tab of [follower, third]) tab.fire('pageshow');
    const stale = untilStatus(followerChannel, 'stale');
    // The probe.
    await vi.advanceTimersByTimeAsync(5_000);
    await stale;
    const states: string[] = [];
    follower.client.subscribe(() => states.push(follower.client.getStatus().state));
    // The backoff, and the time that the leader has to respond.
    await vi.advanceTimersByTimeAsync(6_000);
    vi.useRealTimers();
    const next = await fixture.server.connections.next();
    expect(states).not.toContain('live');
    await next.accept('c2');
    next.send(event('e2', 'f2', { cursor: 'c3' }));
    await Promise.all(
      [followerChannel, channelOfThird].map(async (channel) => await untilEvent(channel, 'e2')),
    );
    // The former leader follows, as far as the others know.
    expect(leaderChannel.getState().status.state).not.toBe('closed');
  });

  const endings: [string, (tab: Tab) => void][] = [
    ['closes its client', ({ client }) => client.close()],
    ['is killed', ({ crash }) => crash()],
    ['is hidden permanently', ({ fire }) => fire('pagehide')],
  ];
  it.each(endings)(
    'happens when the leader %s, and the next tab resumes from its cursor',
    async (_how, endTab) => {
      const { leader, connection, leaderChannel, followerChannel } = await fixture.startPair();
      const third = fixture.openTab().client.channel(channelArguments);
      await untilStatus(third, 'live');
      const ids = [recordEventIds(followerChannel), recordEventIds(third)];
      connection.send(event('e1', 'f1', { cursor: 'c2' }), event('e2', 'f2'));
      await Promise.all(
        [leaderChannel, followerChannel, third].map(async (channel) => await untilEvent(channel, 'e2')),
      );
      const stale = untilStatus(third, 'stale');
      endTab(leader);
      await stale;
      const next = await fixture.server.connections.next();
      // The cursor of the second event's batch had not arrived: the event is sent again, but not delivered twice.
      const cursor = await next.accept('c4', event('e2', 'f2'), event('e3', 'f3', { cursor: 'c4' }));
      expect(cursor).toBe('c2');
      await Promise.all([untilStatus(followerChannel, 'live'), untilStatus(third, 'live')]);
      next.send(event('e4', 'f4', { cursor: 'c5' }));
      await Promise.all([untilEvent(followerChannel, 'e4'), untilEvent(third, 'e4')]);
      expect(ids).toEqual([
        ['e1', 'e2', 'e3', 'e4'],
        ['e1', 'e2', 'e3', 'e4'],
      ]);
      expect([...third.getState().features.keys()]).toEqual(['f1', 'f2', 'f3', 'f4']);
      expect(fixture.server.snapshots.all).toHaveLength(1);
      expect(fixture.server.upgrades.all).toHaveLength(2);
      expect(fixture.openConnectionCounts).toEqual([1, 1]);
      expect(fixture.errors).toEqual([]);
    },
  );

  it('does not happen while a leader without channels serves followers', async () => {
    const { connection, leaderChannel, followerChannel } = await fixture.startPair();
    leaderChannel.close();
    connection.send(event('e1', 'f1', { cursor: 'c2' }));
    await untilEvent(followerChannel, 'e1');
    expect(connection.received.all.map(({ type }) => type)).toEqual(['subscribe']);
    followerChannel.close();
    expect(await connection.received.next()).toMatchObject({ type: 'unsubscribe' });
    connection.send({ type: 'unsubscribed', ...channelName });
    await connection.closed;
    expect(fixture.server.upgrades.all).toHaveLength(1);
  });

  it('delivers no event twice to a tab that is ahead of the new leader', async () => {
    const { leader, follower, connection } = await fixture.startPair();
    const ahead = fixture.openTab().client.channel(channelArguments);
    await untilStatus(ahead, 'live');
    const ids = recordEventIds(ahead);
    follower.setUnresponsive(true);
    connection.send(event('e1', 'f1', { cursor: 'c2' }), event('e2', 'f2', { cursor: 'c3' }));
    await untilEvent(ahead, 'e2');
    leader.crash();
    follower.setUnresponsive(false);
    const next = await fixture.server.connections.next();
    const missed = ['e1', 'e2', 'e3'].map((id) => event(id, 'f1'));
    expect(await next.accept('c4', ...missed)).toBe('c1');
    await untilEvent(ahead, 'e3');
    expect(ids).toEqual(['e1', 'e2', 'e3']);
    expect(fixture.server.snapshots.all).toHaveLength(1);
  });

  it('waits for the old connection to close, with a time-out', async () => {
    const { leader, connection } = await fixture.startPair();
    connection.socket.pause();
    useFastClock();
    const closedAtMs = Date.now();
    leader.client.close();
    await fixture.server.connections.next();
    expect(Date.now() - closedAtMs).toBeGreaterThanOrEqual(1_000);
  });

  it('requests one token from the new leader, even after several network changes', async () => {
    const leader = fixture.openTab();
    leader.client.channel(channelArguments);
    await fixture.server.connections.next();
    let tokenRequests = 0;
    const follower = fixture.openTab({ getToken: () => `token${(tokenRequests += 1)}` });
    follower.client.channel(channelArguments);
    for (const type of ['offline', 'online', 'offline', 'online']) {
      follower.fire(type);
      await Promise.resolve();
    }
    leader.crash();
    expect((await fixture.server.connections.next()).token).toBe('token1');
    expect(tokenRequests).toBe(1);
  });

  it('resumes a channel that the new leader does not have from the state of another tab', async () => {
    const leader = fixture.openTab();
    const prod = leader.client.channel(channelArguments);
    const connection = await fixture.server.connections.next();
    await connection.accept('c1');
    await untilStatus(prod, 'live');
    const successor = fixture.openTab().client.channel(channelArguments);
    await untilStatus(successor, 'live');
    const environment = stageName;
    fixture.server.snapshot = { ...fixture.server.snapshot, ...environment, cursor: 's0' };
    const stage = fixture.openTab().client.channel(stageArguments);
    expect(await connection.received.next()).toMatchObject({ type: 'subscribe', env_id: '8', cursor: 's0' });
    connection.send(caughtUp('s1', environment), event('e1', 'f1', { environment: 'stage', cursor: 's2' }));
    await untilEvent(stage, 'e1');
    const ids = recordEventIds(stage);
    leader.client.close();
    const next = await fixture.server.connections.next();
    next.hello();
    const subscribed = [await next.received.next(), await next.received.next()];
    expect(subscribed).toContainEqual({ type: 'subscribe', project_id: 'p1', env_id: '8', cursor: 's2' });
    next.send(event('e2', 'f1', { environment: 'stage', cursor: 's3' }), caughtUp('s3', environment));
    await untilEvent(stage, 'e2');
    await untilStatus(stage, 'live');
    expect(ids).toEqual(['e2']);
    expect(fixture.server.snapshots.all).toHaveLength(2);
  });

  it('turns a frozen leader into a follower that receives the missed events', async () => {
    const { leader, connection, leaderChannel, followerChannel } = await fixture.startPair();
    leader.fire('pagehide');
    const next = await fixture.server.connections.next();
    await next.accept('c2', event('e1', 'f1', { cursor: 'c2' }));
    await untilStatus(followerChannel, 'live');
    await connection.closed;
    next.send(event('e2', 'f2', { cursor: 'c3' }));
    await untilEvent(followerChannel, 'e2');
    expect(leaderChannel.getState().status.state).toBe('stale');
    const ids = recordEventIds(leaderChannel);
    leader.fire('pageshow');
    await untilStatus(leaderChannel, 'live');
    expect(ids).toEqual(['e1', 'e2']);
    expect(fixture.server.upgrades.all).toHaveLength(2);
    expect(fixture.server.snapshots.all).toHaveLength(1);
  });

  it('does not happen after the last tab is closed, and a later tab connects again', async () => {
    const { leader, follower } = await fixture.startPair();
    leader.client.close();
    follower.client.close();
    const channel = fixture.openTab().client.channel(channelArguments);
    await (await fixture.server.connections.next()).accept('c1');
    await untilStatus(channel, 'live');
  });
});
