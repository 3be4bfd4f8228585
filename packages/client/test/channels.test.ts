import { describe, expect, it, onTestFinished, vi } from 'vitest';
import type { Channel, Client } from '../src/index.js';
import {
  answerJson,
  caughtUp,
  channelName,
  event,
  feature,
  refused,
  renamed,
  type ScriptedPeer,
  stageName,
} from './scripted-server.js';
import { channelArguments, type Scene, startScene, until, untilConnection, untilStatus } from './watching.js';

const stageArguments = { projectId: 'p1', env: 'stage' };

interface Two extends Scene {
  readonly own: Client;
  readonly peer: ScriptedPeer;
  readonly prod: Channel;
  readonly stage: Channel;
}

/** A client with the channels prod and stage, both live. */
async function startTwo(): Promise<Two> {
  const scene = await startScene();
  const own = scene.client();
  const prod = own.channel(channelArguments);
  const stage = own.channel(stageArguments);
  const peer = await scene.server.peers.next();
  peer.hello();
  await peer.received.next();
  await peer.received.next();
  peer.send(caughtUp('c1'), caughtUp('c1', stageName));
  await Promise.all([untilStatus(prod, 'live'), untilStatus(stage, 'live')]);
  return { ...scene, own, peer, prod, stage };
}

/** The ids of the channel's events, as they come. */
function idsOf(channel: Channel): string[] {
  const ids: string[] = [];
  channel.onEvent(({ id }) => ids.push(id));
  return ids;
}

async function untilEvent(channel: Channel, id: string): Promise<void> {
  await until(channel, ({ lastEvent }) => lastEvent?.id === id);
}

/** The environments that the snapshots were requested of, as `env=prod` or `env_id=7`. */
function requested({ server }: Scene): (string | undefined)[] {
  return server.snapshots.all.map(({ url }) => url?.split('&')[1]);
}

describe('a channel', () => {
  it('names its environment by the key once, and by the id from then on', async () => {
    const scene = await startScene();
    const channel = scene.client().channel(channelArguments);
    expect(channel.getState().environment).toBeNull();
    const peer = await scene.server.peers.next();
    peer.hello();
    expect(await peer.received.next()).toEqual({
      type: 'subscribe',
      project_id: 'p1',
      env_id: '7',
      cursor: 'c0',
    });
    peer.send(caughtUp('c1'));
    expect((await untilStatus(channel, 'live')).environment).toBe('prod');
    peer.send({ type: 'resync', ...channelName, reason: 'cursor_expired' });
    expect(await peer.received.next()).toMatchObject({ type: 'subscribe', env_id: '7' });
    expect(requested(scene)).toEqual(['env=prod', 'env_id=7']);
    channel.close();
    expect(await peer.received.next()).toEqual({ type: 'unsubscribe', project_id: 'p1', env_id: '7' });
  });

  it('keeps its events when two environments swap their keys', async () => {
    const { peer, prod, stage } = await startTwo();
    const ids = [idsOf(prod), idsOf(stage)];
    peer.send(
      renamed(channelName, 'former-prod'),
      renamed(stageName, 'prod'),
      renamed({ ...channelName, environment: 'former-prod' }, 'stage'),
      event('e1', 'f1', {
        environment: 'stage',
        environment_id: '7',
        feature: feature('f1', { name: 'Seven' }),
      }),
      event('e2', 'f1', {
        environment: 'prod',
        environment_id: '8',
        feature: feature('f1', { name: 'Eight' }),
      }),
    );
    await Promise.all([untilEvent(prod, 'e1'), untilEvent(stage, 'e2')]);
    expect(ids).toEqual([['e1'], ['e2']]);
    expect([prod, stage].map((channel) => channel.getState().features.get('f1')?.name)).toEqual([
      'Seven',
      'Eight',
    ]);
    expect([prod, stage].map((channel) => channel.getState().environment)).toEqual(['stage', 'prod']);
    expect(prod.toSnapshot()).toMatchObject({ environment: 'stage', environment_id: '7' });
    expect([prod.env, stage.env]).toEqual(['prod', 'stage']);
  });

  it('takes no message of an environment of another project that has the same id', async () => {
    const { peer, prod } = await startTwo();
    const ids = idsOf(prod);
    peer.send(event('e1', 'f1', { project_id: 'p2' }), event('e2', 'f1'));
    await untilEvent(prod, 'e2');
    expect(ids).toEqual(['e2']);
  });

  it('follows the id when the key has changed while it was away', async () => {
    const { server, client } = await startScene();
    const channel = client().channel(channelArguments);
    const first = await server.peers.next();
    await first.accept('c1');
    await untilStatus(channel, 'live');
    first.socket.terminate();
    const second = await server.peers.next();
    second.hello();
    expect(await second.received.next()).toMatchObject({ env_id: '7', cursor: 'c1' });
    second.send(caughtUp('c2', { ...channelName, environment: 'production' }));
    const { environment } = await untilStatus(channel, 'live');
    expect(environment).toBe('production');
    expect(channel.toSnapshot()?.environment).toBe('production');
    expect(server.snapshots.all).toHaveLength(1);
  });

  it('resolves its key anew when it is opened again', async () => {
    const scene = await startScene();
    const { server } = scene;
    const own = scene.client();
    const first = own.channel(channelArguments);
    const stage = own.channel(stageArguments);
    const peer = await server.peers.next();
    peer.hello();
    await peer.received.next();
    await peer.received.next();
    first.close();
    expect(await peer.received.next()).toMatchObject({ type: 'unsubscribe', env_id: '7' });
    peer.send({ type: 'unsubscribed', ...channelName });
    await untilStatus(first, 'closed');
    server.environments.set('prod', '9');
    const second = own.channel(channelArguments);
    expect(second).not.toBe(first);
    expect(await peer.received.next()).toMatchObject({ type: 'subscribe', env_id: '9' });
    expect(stage.getState().status.state).not.toBe('closed');
  });
});

describe('a channel that is opened by a key that another environment had', () => {
  /** prod and stage have swapped their keys, and the key prod is opened again. */
  async function openSwapped(): Promise<Two & { readonly again: Channel }> {
    const two = await startTwo();
    const { peer, server, stage, own } = two;
    server.environments.set('prod', '8').set('stage', '7');
    peer.send(
      renamed(channelName, 'stage'),
      renamed(stageName, 'prod'),
      event('e1', 'f1', { environment_id: '8', cursor: 'c2' }),
    );
    await untilEvent(stage, 'e1');
    return { ...two, again: own.channel(channelArguments) };
  }

  it('is another channel, and shares the subscription of the environment', async () => {
    const { peer, prod, stage, again, own } = await openSwapped();
    expect(again).not.toBe(prod);
    expect(own.channel(channelArguments)).toBe(again);
    expect((await untilStatus(again, 'live')).environment).toBe('prod');
    expect(again.getState().features).toEqual(stage.getState().features);
    const ids = [prod, stage, again].map(idsOf);
    peer.send(event('e2', 'f2', { environment_id: '8', cursor: 'c3' }));
    await Promise.all([untilEvent(stage, 'e2'), untilEvent(again, 'e2')]);
    expect(ids).toEqual([[], ['e2'], ['e2']]);
    expect(again.toSnapshot()).toEqual(stage.toSnapshot());
    expect(peer.received.all.map(({ type }) => type)).toEqual(['subscribe', 'subscribe']);
  });

  it('is subscribed once after a reconnect, and repeats nothing', async () => {
    const { peer, server, stage, again } = await openSwapped();
    await untilStatus(again, 'live');
    const ids = [stage, again].map(idsOf);
    peer.send(event('e2', 'f2', { environment_id: '8' }));
    await untilEvent(again, 'e2');
    peer.socket.terminate();
    const next = await server.peers.next();
    next.hello();
    const subscribed = [await next.received.next(), await next.received.next()];
    expect(subscribed.map((message) => 'env_id' in message && message.env_id).sort()).toEqual(['7', '8']);
    next.send(
      event('e2', 'f2', { environment_id: '8' }),
      event('e3', 'f3', { environment_id: '8', cursor: 'c4' }),
      caughtUp('c4', { ...stageName, environment: 'prod' }),
    );
    await Promise.all([untilStatus(stage, 'live'), untilStatus(again, 'live')]);
    expect(ids).toEqual([
      ['e2', 'e3'],
      ['e2', 'e3'],
    ]);
    expect(next.received.all).toHaveLength(2);
  });

  it('goes on when the other channel is closed', async () => {
    const { peer, stage, again } = await openSwapped();
    await untilStatus(again, 'live');
    stage.close();
    expect(await peer.received.next()).toMatchObject({ type: 'unsubscribe', env_id: '8' });
    peer.send({ type: 'unsubscribed', ...stageName, environment: 'prod' });
    expect(await peer.received.next()).toMatchObject({ type: 'subscribe', env_id: '8', cursor: 'c2' });
    await untilStatus(stage, 'closed');
    peer.send(caughtUp('c2', { ...stageName, environment: 'prod' }));
    await untilStatus(again, 'live');
  });
});

describe('an environment that is gone', () => {
  const codes = ['environment_deleted', 'project_archived', 'project_deleted'];

  it.each(codes)('%s ends its channel, and no other', async (code) => {
    const { peer, prod, stage, own } = await startTwo();
    peer.send(refused(channelName, code));
    const { status } = await untilStatus(prod, 'closed');
    expect(status.state === 'closed' && status.error).toMatchObject({ code, message: 'No.' });
    peer.send(event('e1', 'f1', { environment: 'stage' }));
    await untilEvent(stage, 'e1');
    expect(stage.getState().status).toEqual({ state: 'live' });
    expect(own.getStatus()).toEqual({ state: 'live' });
  });

  it.each(codes)(
    '%s, the only one of the connection: the client opens other channels afterwards',
    async (code) => {
      const { server, client } = await startScene();
      const own = client();
      const channel = own.channel(channelArguments);
      const peer = await server.peers.next();
      await peer.accept('c1');
      await untilStatus(channel, 'live');
      peer.socket.close(4504, code);
      const { status } = await untilStatus(channel, 'closed');
      expect(status.state === 'closed' && status.error).toMatchObject({ code, closeCode: 4504 });
      expect(own.getStatus()).toEqual({ state: 'idle' });
      const stage = own.channel(stageArguments);
      const next = await server.peers.next();
      next.hello();
      await next.received.next();
      next.send(caughtUp('c1', stageName));
      await untilStatus(stage, 'live');
    },
  );

  it('leaves a channel whose subscription is on its way', async () => {
    const { server, client } = await startScene();
    const own = client();
    const channel = own.channel(channelArguments);
    const peer = await server.peers.next();
    await peer.accept('c1');
    await untilStatus(channel, 'live');
    const stage = own.channel(stageArguments);
    expect(await peer.received.next()).toMatchObject({ type: 'subscribe', env_id: '8' });
    peer.socket.close(4504, 'environment_deleted');
    await untilStatus(channel, 'closed');
    const next = await server.peers.next();
    next.hello();
    expect(await next.received.next()).toMatchObject({ type: 'subscribe', env_id: '8' });
    next.send(caughtUp('c1', stageName));
    await untilStatus(stage, 'live');
  });

  it('leaves a channel whose snapshot is on its way', async () => {
    const { server, client } = await startScene();
    const own = client();
    const channel = own.channel(channelArguments);
    const peer = await server.peers.next();
    await peer.accept('c1');
    await untilStatus(channel, 'live');
    let answer: () => void = () => undefined;
    server.answerSnapshot = (response, request) =>
      (answer = () => server.answerWithSnapshot(response, request));
    const stage = own.channel(stageArguments);
    await server.snapshots.next();
    await server.snapshots.next();
    peer.socket.close(4504, 'environment_deleted');
    await untilStatus(channel, 'closed');
    await untilConnection(own, 'stale');
    answer();
    const next = await server.peers.next();
    next.hello();
    expect(await next.received.next()).toMatchObject({ type: 'subscribe', env_id: '8' });
    next.send(caughtUp('c1', stageName));
    await untilStatus(stage, 'live');
  });
});

it('a state that is unreadable is not fetched', async () => {
  const { server, client } = await startScene();
  const channel = client().channel(channelArguments);
  const peer = await server.peers.next();
  await peer.accept('c1');
  const before = await untilStatus(channel, 'live');
  // A snapshot would be requested at once.
  const random = vi.spyOn(Math, 'random').mockReturnValue(0);
  onTestFinished(() => random.mockRestore());
  const { feature: _, ...unreadable } = event('e1', 'f1', { feature_unreadable: true, cursor: 'c2' });
  peer.send(unreadable);
  await untilEvent(channel, 'e1');
  const other = client().channel({ ...channelArguments, env: 'dev' });
  server.answerSnapshot = (response) => answerJson(response, 403, { code: 'forbidden' });
  await untilStatus(other, 'closed');
  expect(server.snapshots.all.map(({ url }) => url?.split('&')[1])).toEqual(['env=prod', 'env=dev']);
  expect(channel.getState().features).toBe(before.features);
  expect(channel.toSnapshot()?.cursor).toBe('c2');
});
