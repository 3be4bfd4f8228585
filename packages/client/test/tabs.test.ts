import { describe, expect, it, vi } from 'vitest';
import { type ClientOptions, FlagcastError } from '../src/index.js';
import { sharedTabs, type SharedTabsOptions } from '../src/tabs/index.js';
import { caughtUp, channelName, event, feature, stageName } from './scripted-server.js';
import { record, type Tab, tabScene, untilEvent } from './tab-scene.js';
import { channelArguments, startScene, until, untilStatus } from './watching.js';

const scene = tabScene();

describe('one connection', () => {
  it('serves both tabs: one snapshot, one subscription, one token', async () => {
    const { peer, led, following } = await scene.startPair();
    const ids = record(following);
    peer.send(event('e1', 'f1', { cursor: 'c2' }), event('e2', 'f2', { cursor: 'c3' }));
    await Promise.all([untilEvent(led, 'e2'), untilEvent(following, 'e2')]);
    expect(ids).toEqual(['e1', 'e2']);
    expect(following.getState().features).toEqual(led.getState().features);
    expect(following.toSnapshot()).toEqual(led.toSnapshot());
    expect([scene.server.upgrades.all.length, scene.server.snapshots.all.length]).toEqual([1, 1]);
    expect(peer.received.all.map(({ type }) => type)).toEqual(['subscribe']);
    expect(scene.errors).toEqual([]);
  });

  it('asks the leader alone for tokens, also ahead of the expiry', async () => {
    let followerAsked = 0;
    let leaderAsked = 0;
    const led = scene
      .openTab({ getToken: () => `token${(leaderAsked += 1)}` })
      .client.channel(channelArguments);
    const peer = await scene.server.peers.next();
    peer.hello({ token_expires_at: new Date(Date.now() + 1_500).toISOString() });
    await peer.received.next();
    peer.send(caughtUp('c1'));
    await untilStatus(led, 'live');
    const following = scene
      .openTab({ getToken: () => `other${(followerAsked += 1)}` })
      .client.channel(channelArguments);
    await untilStatus(following, 'live');
    expect(await peer.received.next()).toEqual({ type: 'auth', token: 'token2' });
    expect(following.getState().status).toEqual({ state: 'live' });
    expect(followerAsked).toBe(0);
  });

  it('gives a tab that comes while events stream every one of them', async () => {
    const { peer, led } = await scene.startPair();
    const third = scene.openTab().client.channel(channelArguments);
    for (let index = 1; index <= 200; index += 1) {
      const state = feature('f1', { version: `v${index}` });
      peer.send(event(`e${index}`, 'f1', { cursor: `d${index}`, feature: state }));
    }
    await untilEvent(led, 'e200');
    await until(third, ({ features }) => features.get('f1')?.version === 'v200');
    await untilStatus(third, 'live');
    const ids = record(third);
    peer.send(event('last', 'f2', { cursor: 'd201' }));
    await Promise.all([untilEvent(led, 'last'), untilEvent(third, 'last')]);
    expect(ids).toEqual(['last']);
    expect(third.getState().features).toEqual(led.getState().features);
    expect(scene.server.snapshots.all).toHaveLength(1);
  });

  it.each<[string, Partial<ClientOptions>, Partial<SharedTabsOptions>]>([
    ['another user', {}, { userId: 'grace' }],
    ['another name', {}, { name: 'admin' }],
  ])('is not shared with %s', async (_who, options, tabs) => {
    await scene.startPair();
    const other = scene
      .openTab({ ...options, getToken: () => 'other' }, tabs)
      .client.channel(channelArguments);
    const peer = await scene.server.peers.next();
    expect(peer.token).toBe('other');
    await peer.accept('c1');
    await untilStatus(other, 'live');
    expect(scene.server.snapshots.all.at(-1)?.headers.authorization).toBe('Bearer other');
  });

  it('is not shared with another server', async () => {
    await scene.startPair();
    const foreign = await startScene();
    scene.openTab({ url: foreign.server.url }).client.channel(channelArguments);
    await (await foreign.server.peers.next()).accept('c1');
  });

  it('refuses to share without a name for who is signed in', () => {
    expect(() => sharedTabs({ userId: '' })).toThrow(FlagcastError);
  });

  it.each(['locks', 'BroadcastChannel'])('without %s each tab is alone', async (missing) => {
    const alone = await startScene();
    vi.stubGlobal('navigator', {});
    if (missing === 'BroadcastChannel') vi.stubGlobal('BroadcastChannel', undefined);
    const locks = missing === 'locks' ? undefined : { request: async () => await Promise.resolve() };
    const shareTabs = sharedTabs({ userId: 'ada', locks });
    const clients = [alone.client({ shareTabs }), alone.client({ shareTabs })];
    vi.unstubAllGlobals();
    for (const client of clients) {
      const channel = client.channel(channelArguments);
      await (await alone.server.peers.next()).accept('c1');
      await untilStatus(channel, 'live');
    }
  });

  it('is a tab of its own, and told of, where locks are refused', async () => {
    const refused = new Error('locks are refused here');
    const locks = { request: async () => await Promise.reject(refused) };
    const channel = scene.openTab({}, { locks }).client.channel(channelArguments);
    await (await scene.server.peers.next()).accept('c1');
    await untilStatus(channel, 'live');
    expect(scene.errors).toEqual([refused]);
  });
});

describe('the succession', () => {
  const endings: [string, (tab: Tab) => void][] = [
    ['closes its client', ({ client }) => client.close()],
    ['is killed', ({ crash }) => crash()],
    ['is hidden for good', ({ fire }) => fire('pagehide')],
  ];
  it.each(endings)('the leader %s: the next tab goes on from its cursor', async (_how, endTab) => {
    const { leader, peer, led, following } = await scene.startPair();
    const third = scene.openTab().client.channel(channelArguments);
    await untilStatus(third, 'live');
    const ids = [record(following), record(third)];
    peer.send(event('e1', 'f1', { cursor: 'c2' }), event('e2', 'f2'));
    await Promise.all([led, following, third].map(async (channel) => await untilEvent(channel, 'e2')));
    const stale = untilStatus(third, 'stale');
    endTab(leader);
    await stale;
    const next = await scene.server.peers.next();
    // The second event of a batch whose cursor had not come: it is brought again, and not told again.
    const cursor = await next.accept('c4', event('e2', 'f2'), event('e3', 'f3', { cursor: 'c4' }));
    expect(cursor).toBe('c2');
    await Promise.all([untilStatus(following, 'live'), untilStatus(third, 'live')]);
    next.send(event('e4', 'f4', { cursor: 'c5' }));
    await Promise.all([untilEvent(following, 'e4'), untilEvent(third, 'e4')]);
    expect(ids).toEqual([
      ['e1', 'e2', 'e3', 'e4'],
      ['e1', 'e2', 'e3', 'e4'],
    ]);
    expect([...third.getState().features.keys()]).toEqual(['f1', 'f2', 'f3', 'f4']);
    expect(scene.server.snapshots.all).toHaveLength(1);
    expect(scene.server.upgrades.all).toHaveLength(2);
    expect(scene.openAtOnce).toEqual([1, 1]);
  });

  it('a leader that wants no channel any more goes on for those that do, and ends with them', async () => {
    const { peer, led, following } = await scene.startPair();
    led.close();
    peer.send(event('e1', 'f1', { cursor: 'c2' }));
    await untilEvent(following, 'e1');
    expect(peer.received.all.map(({ type }) => type)).toEqual(['subscribe']);
    following.close();
    expect(await peer.received.next()).toMatchObject({ type: 'unsubscribe' });
    peer.send({ type: 'unsubscribed', ...channelName });
    await peer.closed;
    expect(scene.server.upgrades.all).toHaveLength(1);
  });

  it('a tab that is ahead of the next leader is brought what is new to it, and nothing again', async () => {
    const { leader, follower, peer } = await scene.startPair();
    const ahead = scene.openTab().client.channel(channelArguments);
    await untilStatus(ahead, 'live');
    const ids = record(ahead);
    follower.setDeaf(true);
    peer.send(event('e1', 'f1', { cursor: 'c2' }), event('e2', 'f2', { cursor: 'c3' }));
    await untilEvent(ahead, 'e2');
    leader.crash();
    follower.setDeaf(false);
    const next = await scene.server.peers.next();
    const missed = ['e1', 'e2', 'e3'].map((id) => event(id, 'f1'));
    expect(await next.accept('c4', ...missed)).toBe('c1');
    await untilEvent(ahead, 'e3');
    expect(ids).toEqual(['e1', 'e2', 'e3']);
    expect(scene.server.snapshots.all).toHaveLength(1);
  });

  it('waits until the server has seen the old connection end, but not for ever', async () => {
    const { leader, peer } = await scene.startPair();
    peer.socket.pause();
    const closedAtMs = Date.now();
    leader.client.close();
    await scene.server.peers.next();
    expect(Date.now() - closedAtMs).toBeGreaterThanOrEqual(990);
  });

  it('asks the next tab for one token, however often it lost its network meanwhile', async () => {
    const leader = scene.openTab();
    leader.client.channel(channelArguments);
    await scene.server.peers.next();
    let asked = 0;
    const follower = scene.openTab({ getToken: () => `token${(asked += 1)}` });
    follower.client.channel(channelArguments);
    for (const type of ['offline', 'online', 'offline', 'online']) {
      follower.fire(type);
      await Promise.resolve();
    }
    leader.crash();
    expect((await scene.server.peers.next()).token).toBe('token1');
    expect(asked).toBe(1);
  });

  it('goes on with a channel that the next tab does not have, from where the others are', async () => {
    const leader = scene.openTab();
    const prod = leader.client.channel(channelArguments);
    const peer = await scene.server.peers.next();
    await peer.accept('c1');
    await untilStatus(prod, 'live');
    const successor = scene.openTab().client.channel(channelArguments);
    await untilStatus(successor, 'live');
    const environment = stageName;
    scene.server.snapshot = { ...scene.server.snapshot, ...environment, cursor: 's0' };
    const stage = scene.openTab().client.channel({ projectId: 'p1', env: 'stage' });
    expect(await peer.received.next()).toMatchObject({ type: 'subscribe', env_id: '8', cursor: 's0' });
    peer.send(caughtUp('s1', environment), event('e1', 'f1', { environment: 'stage', cursor: 's2' }));
    await untilEvent(stage, 'e1');
    const ids = record(stage);
    leader.client.close();
    const next = await scene.server.peers.next();
    next.hello();
    const subscribed = [await next.received.next(), await next.received.next()];
    expect(subscribed).toContainEqual({ type: 'subscribe', project_id: 'p1', env_id: '8', cursor: 's2' });
    next.send(event('e2', 'f1', { environment: 'stage', cursor: 's3' }), caughtUp('s3', environment));
    await untilEvent(stage, 'e2');
    await untilStatus(stage, 'live');
    expect(ids).toEqual(['e2']);
    expect(scene.server.snapshots.all).toHaveLength(2);
  });

  it('a tab that was frozen follows when it is back, and is brought what it missed', async () => {
    const { leader, peer, led, following } = await scene.startPair();
    leader.fire('pagehide');
    const next = await scene.server.peers.next();
    await next.accept('c2', event('e1', 'f1', { cursor: 'c2' }));
    await untilStatus(following, 'live');
    await peer.closed;
    next.send(event('e2', 'f2', { cursor: 'c3' }));
    await untilEvent(following, 'e2');
    expect(led.getState().status.state).toBe('stale');
    const ids = record(led);
    leader.fire('pageshow');
    await untilStatus(led, 'live');
    expect(ids).toEqual(['e1', 'e2']);
    expect(scene.server.upgrades.all).toHaveLength(2);
    expect(scene.server.snapshots.all).toHaveLength(1);
  });

  it('comes to the last tab too, and a later one begins anew', async () => {
    const { leader, follower } = await scene.startPair();
    leader.client.close();
    follower.client.close();
    const channel = scene.openTab().client.channel(channelArguments);
    await (await scene.server.peers.next()).accept('c1');
    await untilStatus(channel, 'live');
  });
});
