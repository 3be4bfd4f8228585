import type { ServerResponse } from 'node:http';
import type { EventMessage, Snapshot } from '#protocol';
import { describe, expect, it, onTestFinished, vi } from 'vitest';
import { createClient, FlagcastError } from '../src/index.js';
import {
  answerJson,
  caughtUp,
  channelName,
  event,
  feature,
  heartbeat,
  stageName,
} from './scripted-server.js';
import { channelArguments, startScene, until, untilConnection, untilStatus } from './watching.js';

describe('first connect', () => {
  it('takes the snapshot, subscribes with its cursor, and is live after caught_up', async () => {
    const { server, client } = await startScene();
    const channel = client().channel(channelArguments);
    expect(channel.getState().status).toEqual({ state: 'connecting' });
    const peer = await server.peers.next();
    peer.hello();
    const subscribe = await peer.received.next();
    expect(subscribe).toEqual({ type: 'subscribe', project_id: 'p1', env_id: '7', cursor: 'c0' });
    expect((await untilStatus(channel, 'catching-up')).features.get('f1')).toEqual(feature('f1'));
    peer.send(caughtUp('c1'));
    await untilStatus(channel, 'live');
    expect(peer.token).toBe('token');
    expect(server.snapshots.all.map(({ url, headers }) => [url, headers.authorization])).toEqual([
      ['/api/snapshot?project_id=p1&env=prod', 'Bearer token'],
    ]);
  });

  it('tells of every message and snapshot, once it has been taken in', async () => {
    const { server, client, errors } = await startScene();
    const own = client();
    const channel = own.channel(channelArguments);
    const told: [string, boolean][] = [];
    own.onMessage((message) => {
      const name = 'features' in message ? 'snapshot' : message.type;
      told.push([name, channel.toSnapshot() !== null]);
      throw new Error('of the listener');
    });
    const peer = await server.peers.next();
    peer.hello();
    await peer.received.next();
    peer.send(caughtUp('c1'), event('e1', 'f1', { cursor: 'c2' }));
    await until(channel, ({ lastEvent }) => lastEvent?.id === 'e1');
    expect(new Map(told)).toEqual(
      new Map([
        ['hello', false],
        ['snapshot', true],
        ['caught_up', true],
        ['feature_updated', true],
      ]),
    );
    expect(errors).toHaveLength(4);
  });

  it('is not made before a channel is wanted, and ends with the last one', async () => {
    const { server, client } = await startScene();
    const own = client();
    expect(own.getStatus()).toEqual({ state: 'idle' });
    const channel = own.channel(channelArguments);
    const peer = await server.peers.next();
    await peer.accept();
    await untilStatus(channel, 'live');
    channel.close();
    expect(await peer.received.next()).toEqual({ type: 'unsubscribe', project_id: 'p1', env_id: '7' });
    peer.send({ type: 'unsubscribed', ...channelName });
    await peer.closed;
    expect(own.getStatus()).toEqual({ state: 'idle' });
    expect((await untilStatus(channel, 'closed')).status).toEqual({ state: 'closed', error: null });
  });

  it('puts all channels on one connection, and the same arguments on one channel', async () => {
    const { server, client } = await startScene();
    const own = client();
    const prod = own.channel(channelArguments);
    const stage = own.channel({ projectId: 'p1', env: 'stage' });
    expect(own.channel(channelArguments)).toBe(prod);
    const peer = await server.peers.next();
    peer.hello();
    await peer.received.next();
    await peer.received.next();
    peer.send(caughtUp('c1'), caughtUp('c1', stageName));
    await Promise.all([untilStatus(prod, 'live'), untilStatus(stage, 'live')]);
    peer.send(event('e1', 'f1', { environment: 'stage', cursor: 'c2' }));
    await until(stage, ({ lastEvent }) => lastEvent?.id === 'e1');
    expect(prod.getState().lastEvent).toBeNull();
    prod.close();
    prod.close();
    expect(await peer.received.next()).toEqual({ type: 'unsubscribe', project_id: 'p1', env_id: '7' });
    expect(server.upgrades.all).toHaveLength(1);
  });

  it('goes on with a channel that is opened again while it is being left', async () => {
    const { server, client } = await startScene();
    const own = client();
    const channel = own.channel(channelArguments);
    const peer = await server.peers.next();
    await peer.accept('c1');
    await untilStatus(channel, 'live');
    channel.close();
    await peer.received.next();
    expect(own.channel(channelArguments)).toBe(channel);
    peer.send(event('e1', 'f1', { cursor: 'c2' }), { type: 'unsubscribed', ...channelName });
    expect(await peer.received.next()).toMatchObject({ type: 'subscribe', cursor: 'c2' });
    peer.send(caughtUp('c2'));
    await untilStatus(channel, 'live');
    expect(server.snapshots.all).toHaveLength(1);
  });
});

describe('resume', () => {
  it('goes on from the newest cursor, applies nothing twice and fetches no snapshot', async () => {
    const { server, client } = await startScene();
    const channel = client().channel(channelArguments);
    const seen: string[] = [];
    channel.onEvent(({ id }) => seen.push(id));
    const first = await server.peers.next();
    await first.accept('c1');
    first.send(event('e1', 'f1', { cursor: 'c2' }), event('e2', 'f2'));
    await until(channel, ({ lastEvent }) => lastEvent?.id === 'e2');
    const before = Date.now();
    first.socket.terminate();
    const stale = await untilStatus(channel, 'stale');
    expect(stale.features.get('f2')).toBeDefined();
    expect(stale.status).toEqual({
      state: 'stale',
      sinceMs: expect.any(Number) as number,
      reason: 'disconnected',
    });
    if (stale.status.state === 'stale') expect(stale.status.sinceMs).toBeLessThanOrEqual(before);
    const second = await server.peers.next();
    const cursor = await second.accept(
      'c3',
      event('e2', 'f2', { feature: feature('f2', { name: 'repeated' }) }),
      event('e3', 'f3', { cursor: 'c3' }),
    );
    expect(cursor).toBe('c2');
    const live = await untilStatus(channel, 'live');
    expect(seen).toEqual(['e1', 'e2', 'e3']);
    expect(live.features.get('f2')?.name).toBe('Feature f2');
    expect(server.snapshots.all).toHaveLength(1);
  });

  it('keeps the cursors of caught_up and of heartbeats', async () => {
    const { server, client } = await startScene();
    const channel = client().channel(channelArguments);
    const first = await server.peers.next();
    await first.accept('c1');
    await untilStatus(channel, 'live');
    first.send(heartbeat('c5'));
    first.socket.close(4002, 'slow');
    expect(await (await server.peers.next()).accept()).toBe('c5');
  });

  it('takes a new snapshot on resync, and keeps what has not changed', async () => {
    const { server, client } = await startScene();
    server.snapshot.features.push(feature('f2'));
    const channel = client().channel(channelArguments);
    const peer = await server.peers.next();
    await peer.accept('c1');
    const before = await untilStatus(channel, 'live');
    server.snapshot = {
      ...channelName,
      cursor: 'c9',
      features: [feature('f1'), feature('f3')],
      embedded_state: true,
      pending_changes: [],
    };
    peer.send({ type: 'resync', ...channelName, reason: 'too_many_missed' });
    await untilStatus(channel, 'catching-up');
    expect(await peer.received.next()).toMatchObject({ type: 'subscribe', cursor: 'c9' });
    peer.send(caughtUp('c9'));
    const after = await untilStatus(channel, 'live');
    expect([...after.features.keys()]).toEqual(['f1', 'f3']);
    expect(after.features.get('f1')).toBe(before.features.get('f1'));
    expect(after.pendingChanges).toBe(before.pendingChanges);
  });

  it('spreads over two seconds when the server drains', async () => {
    const { server, client } = await startScene();
    const channel = client().channel(channelArguments);
    const peer = await server.peers.next();
    await peer.accept('c1');
    await untilStatus(channel, 'live');
    peer.socket.close(4000, 'draining');
    expect(await (await server.peers.next()).accept('c2')).toBe('c1');
    await untilStatus(channel, 'live');
  });

  it('survives messages that are none', async () => {
    const { server, client, errors } = await startScene();
    const channel = client().channel(channelArguments);
    const peer = await server.peers.next();
    await peer.accept('c1');
    await untilStatus(channel, 'live');
    peer.send('{"type":"something_new","environment":"prod","project_id":"p1"}', '{not JSON');
    await peer.closed;
    expect(errors).toHaveLength(1);
    expect(await (await server.peers.next()).accept('c2')).toBe('c1');
    await untilStatus(channel, 'live');
  });

  it('notices a dead line by its silence', async () => {
    const { server, client } = await startScene();
    const channel = client().channel(channelArguments);
    const peer = await server.peers.next();
    peer.hello({ heartbeat_interval_ms: 40 });
    await peer.received.next();
    peer.send(caughtUp('c1'));
    // Nothing more, and no close: as when a NAT has forgotten the connection.
    await untilStatus(channel, 'stale');
    expect(await (await server.peers.next()).accept('c2')).toBe('c1');
  });
});

describe('the end', () => {
  it('comes with a typed error by a terminal close code', async () => {
    const { server, client } = await startScene();
    const own = client();
    const channel = own.channel(channelArguments);
    const peer = await server.peers.next();
    peer.socket.close(4501, 'token_invalid');
    const status = await untilConnection(own, 'closed');
    const { status: channelStatus } = await untilStatus(channel, 'closed');
    expect(channelStatus).toEqual(status);
    const error = status.state === 'closed' ? status.error : null;
    expect(error).toBeInstanceOf(FlagcastError);
    expect(error).toMatchObject({ code: 'token_invalid', closeCode: 4501 });
    expect(error?.message).toContain('token_invalid');
    expect(own.channel(channelArguments).getState().status).toEqual(status);
    expect(server.upgrades.all).toHaveLength(1);
  });

  it.each(['forbidden', 'unknown_environment', 'too_many_channels'])(
    'comes to one channel alone by an error %s',
    async (code) => {
      const { server, client } = await startScene();
      const own = client();
      const prod = own.channel(channelArguments);
      const stage = own.channel({ projectId: 'p1', env: 'stage' });
      const peer = await server.peers.next();
      peer.hello();
      await peer.received.next();
      await peer.received.next();
      peer.send(caughtUp('c1', stageName));
      peer.send({ type: 'error', code, message: 'No.', project_id: 'p1', environment_id: '7' });
      const { status } = await untilStatus(prod, 'closed');
      expect(status.state === 'closed' && status.error).toMatchObject({ code, message: 'No.' });
      await untilStatus(stage, 'live');
    },
  );

  it.each([400, 401, 403, 404])('comes to a channel whose snapshot is refused with %i', async (status) => {
    const { server, client } = await startScene();
    server.answerSnapshot = (response) => answerJson(response, status, { code: 'why', message: 'Because.' });
    const channel = client().channel(channelArguments);
    const state = await untilStatus(channel, 'closed');
    expect(state.status.state === 'closed' && state.status.error).toMatchObject({
      code: 'why',
      message: 'Because.',
      closeCode: 4100 + status,
    });
  });

  it('comes to everything with close', async () => {
    const { server, client } = await startScene();
    const own = client();
    const channel = own.channel(channelArguments);
    const peer = await server.peers.next();
    await peer.accept();
    await untilStatus(channel, 'live');
    own.close();
    expect(own.getStatus()).toEqual({ state: 'closed', error: null });
    expect((await untilStatus(channel, 'closed')).status).toEqual({ state: 'closed', error: null });
    await peer.closed;
  });

  it('is told at once for a url that is none', () => {
    expect(() => createClient({ url: '/flags', getToken: () => '' })).toThrow(
      expect.objectContaining({ code: 'bad_url' }),
    );
  });
});

describe('what is tried again', () => {
  it('a snapshot that is refused because the user has too many requests under way', async () => {
    const { server, client } = await startScene();
    let requests = 0;
    server.answerSnapshot = (response) => {
      requests += 1;
      if (requests > 2) answerJson(response, 200, server.snapshot);
      else answerJson(response, 429, { code: 'too_many_requests' }, { 'Retry-After': '1' });
    };
    const channel = client().channel(channelArguments);
    await (await server.peers.next()).accept();
    await untilStatus(channel, 'live');
    expect(requests).toBe(3);
  });

  it('a snapshot that is not to be had, when the server has said', async () => {
    const { server, client, errors } = await startScene();
    const times: number[] = [];
    server.answerSnapshot = (response) => {
      times.push(Date.now());
      if (times.length === 1) answerJson(response, 503, { code: 'unavailable' }, { 'Retry-After': '1' });
      else if (times.length === 2) answerJson(response, 200, 'not a snapshot');
      else answerJson(response, 200, server.snapshot);
    };
    const channel = client().channel(channelArguments);
    await (await server.peers.next()).accept();
    await untilStatus(channel, 'live');
    expect(Number(times[1]) - Number(times[0])).toBeGreaterThanOrEqual(1_000);
    expect(errors).toHaveLength(2);
  });

  it('a subscription while the database does not answer', async () => {
    const { server, client } = await startScene();
    const channel = client().channel(channelArguments);
    const peer = await server.peers.next();
    peer.hello();
    await peer.received.next();
    const error = { type: 'error', message: '', project_id: 'p1', environment_id: '7' } as const;
    peer.send({ ...error, code: 'unavailable' });
    expect(await peer.received.next()).toMatchObject({ type: 'subscribe', cursor: 'c0' });
    peer.send(caughtUp('c1'));
    await untilStatus(channel, 'live');
    expect(server.snapshots.all).toHaveLength(1);
  });
});

describe('a server without feature tables', () => {
  const bare = (id: string): EventMessage => {
    const message = event(id, 'f1', { cursor: `c-${id}` });
    delete message.feature;
    return message;
  };

  it('is not asked again for a snapshot that has no states in it', async () => {
    const { server, client } = await startScene();
    server.snapshot = { ...server.snapshot, embedded_state: false, features: [] };
    const channel = client().channel(channelArguments);
    const peer = await server.peers.next();
    await peer.accept();
    await untilStatus(channel, 'live');
    // The next one would be asked for at once.
    const random = vi.spyOn(Math, 'random').mockReturnValue(0);
    onTestFinished(() => random.mockRestore());
    peer.send(bare('e1'));
    await until(channel, ({ lastEvent }) => lastEvent?.id === 'e1');
    peer.send(bare('e2'));
    await until(channel, ({ lastEvent }) => lastEvent?.id === 'e2');
    client().channel({ ...channelArguments, env: 'dev' });
    const asked = [await server.snapshots.next(), await server.snapshots.next()];
    expect(asked.map(({ url }) => url)).toEqual([
      '/api/snapshot?project_id=p1&env=prod',
      '/api/snapshot?project_id=p1&env=dev',
    ]);
    expect(channel.getState()).toMatchObject({
      status: { state: 'live' },
      activity: [{ id: 'e2' }, { id: 'e1' }],
    });
  });

  it('that has lost sight of them is asked for its snapshot once for a burst of events, and once more for what came meanwhile', async () => {
    const { server, client } = await startScene();
    const channel = client().channel(channelArguments);
    const peer = await server.peers.next();
    peer.hello({ embedded_state: false });
    await peer.received.next();
    await server.snapshots.next();
    peer.send(caughtUp('c1'));
    await untilStatus(channel, 'live');
    const held: ServerResponse[] = [];
    server.answerSnapshot = (response) => {
      held.push(response);
      if (held.length === 2) answerJson(response, 200, snapshotNamed('second'));
    };
    const snapshotNamed = (name: string): Snapshot => ({
      ...server.snapshot,
      cursor: 'c-snapshot',
      features: [feature('f1', { name })],
    });
    for (let index = 0; index < 20; index += 1) peer.send(bare(`e${index}`));
    await server.snapshots.next();
    for (let index = 20; index < 40; index += 1) peer.send(bare(`e${index}`));
    await until(channel, ({ lastEvent }) => lastEvent?.id === 'e39');
    answerJson(held[0] as ServerResponse, 200, snapshotNamed('first'));
    await until(channel, ({ features }) => features.get('f1')?.name === 'second');
    expect(server.snapshots.all).toHaveLength(3);
    expect(channel.getState().status).toEqual({ state: 'live' });
    // The stream's own cursor counts: a snapshot tells of events that are still to come.
    peer.socket.terminate();
    expect(await (await server.peers.next()).accept()).toBe('c-e39');
  });
});
