import type { EventMessage } from '#protocol';
import { describe, expect, it } from 'vitest';
import type { Channel } from '../src/index.js';
import { caughtUp, channelName, event, feature } from './scripted-server.js';
import { type Pair, tabScene, untilEvent } from './tab-scene.js';
import { until, untilConnection, untilStatus } from './watching.js';

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
      peer.send(caughtUp('c1', { ...channelName, environment: 'stage' }));
      await Promise.all(channels.map(async (channel) => await untilStatus(channel, 'live')));
      peer.send({ type: 'error', ...refusal, project_id: 'p1', environment: 'stage' });
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
    peer.send({ type: 'heartbeat', cursor: 'c7', timestamp: new Date().toISOString() });
    await new Promise<void>((resolve) => {
      scene.browser.tabs[1]?.client.onMessage((message) => {
        if ('type' in message && message.type === 'heartbeat') resolve();
      });
    });
    leader.crash();
    expect(await (await scene.server.peers.next()).accept('c8')).toBe('c7');
    await untilStatus(following, 'live');
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

describe('a channel that only a follower wants', () => {
  const stage = { projectId: 'p1', env: 'stage' };
  const environment = { ...channelName, environment: 'stage' };

  async function openStage(): Promise<Pair & { readonly channel: Channel }> {
    const pair = await scene.startPair();
    scene.server.snapshot = { ...scene.server.snapshot, ...environment };
    const channel = pair.follower.client.channel(stage);
    expect(await pair.peer.received.next()).toMatchObject({ type: 'subscribe', env: 'stage' });
    pair.peer.send(caughtUp('c1', environment));
    await untilStatus(channel, 'live');
    return { ...pair, channel };
  }

  it('is opened by the leader, and closed when no tab wants it', async () => {
    const { peer, channel, following } = await openStage();
    channel.close();
    expect(await peer.received.next()).toMatchObject({ type: 'unsubscribe', env: 'stage' });
    expect((await untilStatus(channel, 'closed')).status).toEqual({ state: 'closed', error: null });
    expect(following.getState().status).toEqual({ state: 'live' });
  });

  it('is closed when the only tab that wants it is killed', async () => {
    const { peer, follower } = await openStage();
    follower.crash();
    expect(await peer.received.next()).toMatchObject({ type: 'unsubscribe', env: 'stage' });
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
