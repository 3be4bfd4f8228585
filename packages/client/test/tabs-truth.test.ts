import type { EventMessage } from '#protocol';
import { describe, expect, it } from 'vitest';
import type { Channel } from '../src/index.js';
import {
  caughtUp,
  channelName,
  event,
  feature,
  fresh,
  heartbeat,
  refused,
  renamed,
  stageName,
  stale,
} from './scripted-server.js';
import { type Pair, record, tabScene, untilEvent } from './tab-scene.js';
import { channelArguments, until, untilConnection, untilStatus } from './watching.js';

const scene = tabScene();

describe('the truth about the connection', () => {
  it('a follower is stale while the leader is, and live again with it', async () => {
    const { peer, led, following, follower } = await scene.startPair();
    const stale = Promise.all([untilStatus(led, 'stale'), untilStatus(following, 'stale')]);
    peer.socket.terminate();
    await stale;
    expect(follower.client.getStatus().state).toBe('stale');
    const again = await scene.server.peers.next();
    again.hello();
    await again.received.next();
    await untilStatus(following, 'catching-up');
    again.send(event('e1', 'f1', { cursor: 'c2' }), caughtUp('c2'));
    await Promise.all([untilStatus(led, 'live'), untilStatus(following, 'live')]);
    expect(following.getState().lastEvent?.id).toBe('e1');
    expect(scene.server.snapshots.all).toHaveLength(1);
  });

  it.each([
    ['while it is live', true],
    ['before its snapshot', false],
  ])('a channel that is refused %s ends in both tabs with the same error', async (_when, isLive) => {
    const { peer } = await scene.startPair();
    const stage = { projectId: 'p1', env: 'stage' };
    const refusal = { code: 'forbidden', message: 'No.' };
    if (!isLive) {
      scene.server.answerSnapshot = (response) => {
        response.writeHead(403, { 'Content-Type': 'application/json' }).end(JSON.stringify(refusal));
      };
    }
    const channels = scene.browser.tabs.map(({ client }) => client.channel(stage));
    if (isLive) {
      while ((await peer.received.next()).type !== 'subscribe' || peer.received.all.length < 2);
      peer.send(caughtUp('c1', stageName));
      await Promise.all(channels.map(async (channel) => await untilStatus(channel, 'live')));
      peer.send({ type: 'error', ...refusal, project_id: 'p1', environment_id: '8' });
    }
    for (const channel of channels) {
      const { status } = await untilStatus(channel, 'closed');
      expect(status.state === 'closed' && status.error).toMatchObject(refusal);
    }
  });

  it('when the server takes the token no more, each tab ends by what the server says to it', async () => {
    const { leader, follower, peer } = await scene.startPair();
    peer.socket.close(4501, 'token_invalid');
    const next = await scene.server.peers.next();
    next.socket.close(4503, 'user_inactive');
    for (const [tab, code] of [
      [leader, 'token_invalid'],
      [follower, 'user_inactive'],
    ] as const) {
      const status = await untilConnection(tab.client, 'closed');
      expect(status.state === 'closed' && status.error).toMatchObject({ code });
    }
  });

  it('a resync brings both tabs the new snapshot, which is fetched once', async () => {
    const { peer, led, following } = await scene.startPair();
    scene.server.snapshot = { ...scene.server.snapshot, cursor: 'c9', features: [feature('f9')] };
    peer.send({ type: 'resync', ...channelName, reason: 'history_changed' });
    expect(await peer.received.next()).toMatchObject({ type: 'subscribe', cursor: 'c9' });
    peer.send(caughtUp('c9'));
    await Promise.all(
      [led, following].map(async (channel) => {
        await until(channel, ({ features, status }) => features.has('f9') && status.state === 'live');
        expect([...channel.getState().features.keys()]).toEqual(['f9']);
      }),
    );
    expect(scene.server.snapshots.all).toHaveLength(2);
  });

  it('a heartbeat moves the cursor of every tab', async () => {
    const { leader, peer, following } = await scene.startPair();
    peer.send(heartbeat('c7'));
    await new Promise<void>((resolve) => {
      scene.browser.tabs[1]?.client.onMessage((message) => {
        if ('type' in message && message.type === 'heartbeat') resolve();
      });
    });
    leader.crash();
    expect(await (await scene.server.peers.next()).accept('c8')).toBe('c7');
    await untilStatus(following, 'live');
  });

  it('a follower is stale with its reason while the server is, and so is a tab that is opened meanwhile', async () => {
    const { peer, led, following, follower } = await scene.startPair();
    const since = '2026-01-02T03:04:05.678Z';
    const status = { state: 'stale', sinceMs: Date.parse(since), reason: 'read_failed' };
    peer.send(stale(since, 'read_failed'));
    for (const channel of [led, following])
      expect((await untilStatus(channel, 'stale')).status).toEqual(status);
    expect(follower.client.getStatus()).toEqual(status);
    const third = scene.openTab().client.channel(channelArguments);
    expect((await untilStatus(third, 'stale')).status).toEqual(status);
    peer.send(event('e1', 'f1', { cursor: 'c2' }));
    await Promise.all([following, third].map(async (channel) => await untilEvent(channel, 'e1')));
    expect(following.getState().status).toEqual(status);
    peer.send(fresh);
    await Promise.all([led, following, third].map(async (channel) => await untilStatus(channel, 'live')));
    expect(scene.server.upgrades.all).toHaveLength(1);
    expect(scene.server.snapshots.all).toHaveLength(1);
  });

  it('the connection of the next leader is fresh until its server sends that it is stale', async () => {
    const { leader, peer, following } = await scene.startPair();
    peer.send(stale('2026-01-01T00:00:00Z'));
    await untilStatus(following, 'stale');
    leader.client.close();
    await (await scene.server.peers.next()).accept('c2');
    await untilStatus(following, 'live');
  });

  it('a follower is accurate as of the newest heartbeat when the leader loses its connection', async () => {
    const { peer, follower, following } = await scene.startPair();
    const since = '2026-01-02T03:04:05.678Z';
    const taken = new Promise<void>((resolve) => {
      follower.client.onMessage((message) => {
        if ('type' in message && message.type === 'heartbeat') resolve();
      });
    });
    peer.send(heartbeat('c2', since));
    await taken;
    peer.socket.terminate();
    expect((await untilStatus(following, 'stale')).status).toEqual({
      state: 'stale',
      sinceMs: Date.parse(since),
      reason: 'disconnected',
    });
  });

  it('an unreadable state keeps no other tab from the snapshot', async () => {
    const { peer, following } = await scene.startPair();
    const { feature: _, ...unreadable } = event('e1', 'f1', { feature_unreadable: true, cursor: 'c2' });
    peer.send(unreadable);
    await untilEvent(following, 'e1');
    const third = scene.openTab().client.channel(channelArguments);
    await untilStatus(third, 'live');
    expect(third.getState().features).toEqual(following.getState().features);
    expect(scene.server.snapshots.all).toHaveLength(1);
  });

  it('events without a state keep no other tab from the snapshot where the server has no states', async () => {
    scene.server.snapshot = { ...scene.server.snapshot, embedded_state: false, features: [] };
    const { peer, following } = await scene.startPair();
    const { feature: _, ...bare } = event('e1', 'f1', { cursor: 'c2' });
    peer.send(bare);
    await untilEvent(following, 'e1');
    await untilStatus(scene.openTab().client.channel(channelArguments), 'live');
    expect(scene.server.snapshots.all).toHaveLength(1);
  });

  it('where events bring no state, both tabs have the snapshot that was asked for after them', async () => {
    const { peer, led, following } = await scene.startPair();
    const bare = (id: string): EventMessage => {
      const message = event(id, 'f1', { cursor: `c-${id}` });
      delete message.feature;
      return message;
    };
    scene.server.snapshot = { ...scene.server.snapshot, features: [feature('f1', { name: 'New' })] };
    peer.send(bare('e1'));
    await Promise.all(
      [led, following].map(async (channel) => {
        await until(channel, ({ features }) => features.get('f1')?.name === 'New');
        expect(channel.getState().status).toEqual({ state: 'live' });
      }),
    );
    expect(scene.server.snapshots.all).toHaveLength(2);
  });
});

describe('a channel whose environment gets another key', () => {
  const production = { ...channelName, environment: 'production' };

  it('goes on in all tabs, and shows the new key', async () => {
    const { peer, led, following } = await scene.startPair();
    peer.send(renamed(channelName, 'production'), event('e1', 'f1', { ...production, cursor: 'c2' }));
    for (const channel of [led, following]) {
      await untilEvent(channel, 'e1');
      expect(channel.getState().environment).toBe('production');
      expect(channel.toSnapshot()).toMatchObject(production);
    }
  });

  it('goes on with the next leader, by the id of the environment', async () => {
    const { leader, peer, following } = await scene.startPair();
    const third = scene.openTab().client.channel(channelArguments);
    await untilStatus(third, 'live');
    peer.send(renamed(channelName, 'production'));
    for (const channel of [following, third]) {
      await until(channel, ({ environment }) => environment === 'production');
    }
    leader.crash();
    const next = await scene.server.peers.next();
    next.hello();
    expect(await next.received.next()).toMatchObject({ type: 'subscribe', env_id: '7', cursor: 'c1' });
    next.send(event('e1', 'f1', { ...production, cursor: 'c2' }), caughtUp('c2', production));
    await Promise.all([following, third].map(async (channel) => await untilEvent(channel, 'e1')));
    await Promise.all([following, third].map(async (channel) => await untilStatus(channel, 'live')));
    expect(scene.server.snapshots.all).toHaveLength(1);
  });

  it('brings a tab that was frozen meanwhile what it missed', async () => {
    const { follower, peer, led, following } = await scene.startPair();
    peer.send(renamed(channelName, 'production'));
    await until(following, ({ environment }) => environment === 'production');
    follower.fire('pagehide');
    await untilStatus(following, 'stale');
    peer.send(event('e1', 'f1', { ...production, cursor: 'c2' }), event('e2', 'f2', production));
    await untilEvent(led, 'e2');
    const ids = record(following);
    follower.fire('pageshow');
    await untilStatus(following, 'live');
    peer.send(event('e3', 'f3', { ...production, cursor: 'c3' }));
    await untilEvent(following, 'e3');
    expect(ids).toEqual(['e1', 'e2', 'e3']);
    expect(scene.server.snapshots.all).toHaveLength(1);
    expect(peer.received.all.map(({ type }) => type)).toEqual(['subscribe']);
  });

  it('is opened by its id by a leader that opens it for another tab', async () => {
    const leader = scene.openTab();
    leader.client.channel({ projectId: 'p1', env: 'dev' });
    const peer = await scene.server.peers.next();
    await peer.accept('c1');
    const tab = scene.openTab();
    const channel = tab.client.channel(channelArguments);
    expect(await peer.received.next()).toMatchObject({ type: 'subscribe', env_id: '7' });
    peer.send(caughtUp('c1'));
    await untilStatus(channel, 'live');
    tab.fire('pagehide');
    expect(await peer.received.next()).toMatchObject({ type: 'unsubscribe', env_id: '7' });
    const closed = new Promise<void>((resolve) => {
      leader.client.onMessage((message) => {
        if ('type' in message && message.type === 'unsubscribed') resolve();
      });
    });
    peer.send({ type: 'unsubscribed', ...channelName });
    await closed;
    scene.server.environments.delete('prod');
    scene.server.environments.set('production', '7');
    // The tab does not answer when the leader asks for its state, as when it is busy.
    tab.setDeaf(true);
    tab.fire('pageshow');
    expect(await peer.received.next()).toMatchObject({ type: 'subscribe', env_id: '7' });
    expect(scene.server.snapshots.all.at(-1)?.url).toBe('/api/snapshot?project_id=p1&env_id=7');
  });

  it('is not what another tab gets that opens the former key', async () => {
    const { peer, following } = await scene.startPair();
    peer.send(renamed(channelName, 'production'));
    await until(following, ({ environment }) => environment === 'production');
    scene.server.environments.delete('prod');
    scene.server.environments.set('production', '7').set('prod', '8');
    scene.server.snapshot = { ...scene.server.snapshot, features: [feature('f8')] };
    const other = scene.openTab().client.channel(channelArguments);
    expect(await peer.received.next()).toMatchObject({ type: 'subscribe', env_id: '8' });
    peer.send(caughtUp('c1', { ...stageName, environment: 'prod' }));
    expect([...(await untilStatus(other, 'live')).features.keys()]).toEqual(['f8']);
    peer.send(
      event('e1', 'f1', { ...production, cursor: 'c2' }),
      event('e2', 'f8', { environment_id: '8', cursor: 'c3' }),
    );
    await Promise.all([untilEvent(following, 'e1'), untilEvent(other, 'e2')]);
    expect(other.getState().activity).toHaveLength(1);
    expect(following.getState().features.has('f8')).toBe(false);
  });

  it.each(['environment_deleted', 'project_archived'])('%s ends it in all tabs', async (code) => {
    const { peer, led, following } = await scene.startPair();
    const stage = scene.openTab().client.channel({ projectId: 'p1', env: 'stage' });
    await peer.received.next();
    peer.send(caughtUp('c1', stageName), refused(channelName, code));
    for (const channel of [led, following]) {
      const { status } = await untilStatus(channel, 'closed');
      expect(status.state === 'closed' && status.error).toMatchObject({ code });
    }
    await untilStatus(stage, 'live');
  });

  it('when it was the only one and is gone, each tab gets the answer of the server', async () => {
    const { peer, led, following } = await scene.startPair();
    peer.socket.close(4504, 'environment_deleted');
    const next = await scene.server.peers.next();
    next.hello();
    expect(await next.received.next()).toMatchObject({ type: 'subscribe', env_id: '7' });
    next.send(refused(channelName, 'unknown_environment'));
    for (const [channel, code] of [
      [led, 'environment_deleted'],
      [following, 'unknown_environment'],
    ] as const) {
      const { status } = await untilStatus(channel, 'closed');
      expect(status.state === 'closed' && status.error).toMatchObject({ code });
    }
  });
});

describe('a channel that only a follower wants', () => {
  const stage = { projectId: 'p1', env: 'stage' };
  const environment = stageName;

  async function openStage(): Promise<Pair & { readonly channel: Channel }> {
    const pair = await scene.startPair();
    scene.server.snapshot = { ...scene.server.snapshot, ...environment };
    const channel = pair.follower.client.channel(stage);
    expect(await pair.peer.received.next()).toMatchObject({ type: 'subscribe', env_id: '8' });
    pair.peer.send(caughtUp('c1', environment));
    await untilStatus(channel, 'live');
    return { ...pair, channel };
  }

  it('is opened by the leader, and closed when no tab wants it', async () => {
    const { peer, channel, following } = await openStage();
    channel.close();
    expect(await peer.received.next()).toMatchObject({ type: 'unsubscribe', env_id: '8' });
    expect((await untilStatus(channel, 'closed')).status).toEqual({ state: 'closed', error: null });
    expect(following.getState().status).toEqual({ state: 'live' });
  });

  it('is closed when the only tab that wants it is killed', async () => {
    const { peer, follower } = await openStage();
    follower.crash();
    expect(await peer.received.next()).toMatchObject({ type: 'unsubscribe', env_id: '8' });
  });

  it('stays open while another tab wants it', async () => {
    const { peer, channel, leader, following } = await openStage();
    const own = leader.client.channel(stage);
    await untilStatus(own, 'live');
    channel.close();
    await untilStatus(channel, 'closed');
    peer.send(event('e1', 'f1', { environment: 'stage', cursor: 'c2' }), event('e2', 'f1', { cursor: 'c3' }));
    await Promise.all([untilEvent(own, 'e1'), untilEvent(following, 'e2')]);
    expect(peer.received.all.map(({ type }) => type)).toEqual(['subscribe', 'subscribe']);
  });
});
