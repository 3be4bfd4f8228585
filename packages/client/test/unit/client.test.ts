import { describe, expect, it, onTestFinished, vi } from 'vitest';
import { FlagcastError } from '../../src/index.js';
import {
  respondJson,
  caughtUp,
  channelName,
  event,
  feature,
  heartbeat,
  stageName,
} from './scripted-server.js';
import {
  channelArguments,
  stageArguments,
  startFixture,
  until,
  untilConnection,
  untilMessage,
  untilStatus,
  useFastClock,
} from './client-fixture.js';

describe('the first connection', () => {
  it('stays open if the heartbeat interval is longer than a timer can be', async () => {
    const { server, connect } = await startFixture();
    const client = connect();
    const channel = client.channel(channelArguments);
    const connection = await server.connections.next();
    connection.hello({ heartbeat_interval_ms: 1e40 });
    await connection.received.next();
    connection.send(caughtUp('c1'));
    await untilStatus(channel, 'live');
    // A timer that overflows fires after 1 ms: before the response to the second snapshot.
    client.channel({ ...channelArguments, env: 'stage' });
    await connection.received.next();
    expect(channel.getState().status).toEqual({ state: 'live' });
    expect(server.connections.all).toHaveLength(1);
  });

  it('loads the snapshot, subscribes from its cursor, and is live after caught_up', async () => {
    const { server, connect } = await startFixture();
    const channel = connect().channel(channelArguments);
    expect(channel.getState().status).toEqual({ state: 'connecting' });
    const connection = await server.connections.next();
    connection.hello();
    const subscribe = await connection.received.next();
    expect(subscribe).toEqual({ type: 'subscribe', project_id: 'p1', env_id: '7', cursor: 'c0' });
    expect((await untilStatus(channel, 'catching-up')).features.get('f1')).toEqual(feature('f1'));
    connection.send(caughtUp('c1'));
    await untilStatus(channel, 'live');
    expect(connection.token).toBe('token');
    expect(server.snapshots.all.map(({ url, headers }) => [url, headers.authorization])).toEqual([
      ['/api/snapshot?project_id=p1&env=prod', 'Bearer token'],
    ]);
  });

  it('emits every message and snapshot after it has been applied', async () => {
    const { server, connect, errors } = await startFixture();
    const client = connect();
    const channel = client.channel(channelArguments);
    const messages: [string, boolean][] = [];
    client.onMessage((message) => {
      const name = 'type' in message ? message.type : 'snapshot';
      messages.push([name, channel.toSnapshot() !== null]);
      throw new Error('listener failed');
    });
    const connection = await server.connections.next();
    connection.hello();
    await connection.received.next();
    connection.send(caughtUp('c1'), event('e1', 'f1', { cursor: 'c2' }));
    await until(channel, ({ lastEvent }) => lastEvent?.id === 'e1');
    expect(new Map(messages)).toEqual(
      new Map([
        ['hello', false],
        ['snapshot', true],
        ['caught_up', true],
        ['feature_updated', true],
      ]),
    );
    expect(errors).toHaveLength(4);
  });

  it('opens with the first channel and closes with the last channel', async () => {
    const { server, connect } = await startFixture();
    const client = connect();
    expect(client.getStatus()).toMatchObject({ state: 'idle' });
    const channel = client.channel(channelArguments);
    const connection = await server.connections.next();
    await connection.accept();
    await untilStatus(channel, 'live');
    channel.close();
    expect(await connection.received.next()).toEqual({ type: 'unsubscribe', project_id: 'p1', env_id: '7' });
    connection.send({ type: 'unsubscribed', ...channelName });
    await connection.closed;
    expect(client.getStatus()).toMatchObject({ state: 'idle' });
    expect((await untilStatus(channel, 'closed')).status).toEqual({ state: 'closed', error: null });
  });

  it('is shared by all channels, and the same arguments share a state', async () => {
    const { server, connect } = await startFixture();
    const client = connect();
    const prod = client.channel(channelArguments);
    const stage = client.channel(stageArguments);
    const again = client.channel(channelArguments);
    expect(again.getState()).toBe(prod.getState());
    const connection = await server.connections.next();
    connection.hello();
    await connection.received.next();
    await connection.received.next();
    connection.send(caughtUp('c1'), caughtUp('c1', stageName));
    await Promise.all([untilStatus(prod, 'live'), untilStatus(stage, 'live')]);
    connection.send(event('e1', 'f1', { environment: 'stage', cursor: 'c2' }));
    await until(stage, ({ lastEvent }) => lastEvent?.id === 'e1');
    expect(prod.getState().lastEvent).toBeNull();
    prod.close();
    again.close();
    expect(await connection.received.next()).toEqual({ type: 'unsubscribe', project_id: 'p1', env_id: '7' });
    expect(server.upgrades.all).toHaveLength(1);
  });

  it('keeps a channel that is reopened while its unsubscribe request is pending', async () => {
    const { server, connect } = await startFixture();
    const client = connect();
    const channel = client.channel(channelArguments);
    const connection = await server.connections.next();
    await connection.accept('c1');
    await untilStatus(channel, 'live');
    channel.close();
    await connection.received.next();
    expect(client.channel(channelArguments).getState()).toBe(channel.getState());
    connection.send(event('e1', 'f1', { cursor: 'c2' }), { type: 'unsubscribed', ...channelName });
    expect(await connection.received.next()).toMatchObject({ type: 'subscribe', cursor: 'c2' });
    connection.send(caughtUp('c2'));
    await untilStatus(channel, 'live');
    expect(server.snapshots.all).toHaveLength(1);
  });
});

describe('reconnecting', () => {
  it('resumes from the newest cursor, applies no event twice and loads no snapshot', async () => {
    const { server, connect } = await startFixture();
    const channel = connect().channel(channelArguments);
    const seen: string[] = [];
    channel.onEvent(({ id }) => seen.push(id));
    const first = await server.connections.next();
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
    const second = await server.connections.next();
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

  it('resumes from the cursor of the last caught_up or heartbeat message', async () => {
    const { server, connect } = await startFixture();
    const channel = connect().channel(channelArguments);
    const first = await server.connections.next();
    await first.accept('c1');
    await untilStatus(channel, 'live');
    first.send(heartbeat('c5'));
    first.socket.close(4002, 'slow');
    expect(await (await server.connections.next()).accept()).toBe('c5');
  });

  it('loads a new snapshot after resync and keeps the identity of unchanged data', async () => {
    const { server, connect } = await startFixture();
    server.snapshot.features.push(feature('f2'));
    const channel = connect().channel(channelArguments);
    const connection = await server.connections.next();
    await connection.accept('c1');
    const before = await untilStatus(channel, 'live');
    server.snapshot = {
      ...channelName,
      cursor: 'c9',
      features: [feature('f1'), feature('f3')],
      embedded_state: true,
      pending_changes: [],
    };
    connection.send({ type: 'resync', ...channelName, reason: 'too_many_missed' });
    await untilStatus(channel, 'catching-up');
    expect(await connection.received.next()).toMatchObject({ type: 'subscribe', cursor: 'c9' });
    connection.send(caughtUp('c9'));
    const after = await untilStatus(channel, 'live');
    expect([...after.features.keys()]).toEqual(['f1', 'f3']);
    expect(after.features.get('f1')).toBe(before.features.get('f1'));
    expect(after.pendingChanges).toBe(before.pendingChanges);
  });

  it('resumes after close code 4000 of a draining server', async () => {
    const { server, connect } = await startFixture();
    const channel = connect().channel(channelArguments);
    const connection = await server.connections.next();
    await connection.accept('c1');
    await untilStatus(channel, 'live');
    connection.socket.close(4000, 'draining');
    expect(await (await server.connections.next()).accept('c2')).toBe('c1');
    await untilStatus(channel, 'live');
  });

  it('reconnects after a message that is not JSON, and ignores unknown message types', async () => {
    const { server, connect, errors } = await startFixture();
    const channel = connect().channel(channelArguments);
    const connection = await server.connections.next();
    await connection.accept('c1');
    await untilStatus(channel, 'live');
    connection.send('{"type":"something_new","environment":"prod","project_id":"p1"}', '{not JSON');
    await connection.closed;
    expect(errors).toHaveLength(1);
    expect(await (await server.connections.next()).accept('c2')).toBe('c1');
    await untilStatus(channel, 'live');
  });

  it('happens when the line is silent and a ping is not answered; the channel is stale after 15 s of silence', async () => {
    const { server, connect } = await startFixture();
    const client = connect();
    const channel = client.channel(channelArguments);
    const connection = await server.connections.next();
    await connection.accept('c1');
    await untilStatus(channel, 'live');
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'Date', 'performance'] });
    onTestFinished(() => void vi.useRealTimers());
    const beat = untilMessage(client, 'heartbeat');
    connection.send(heartbeat('c2'));
    await beat;
    await vi.advanceTimersByTimeAsync(14_800);
    expect(channel.getState().status.state).toBe('live');
    await vi.advanceTimersByTimeAsync(200);
    expect(channel.getState().status).toMatchObject({ state: 'stale', reason: 'disconnected' });
    expect(await connection.received.next()).toEqual({ type: 'ping' });
    connection.send({ type: 'pong', timestamp: 1 });
    await untilStatus(channel, 'live');
    await vi.advanceTimersByTimeAsync(15_000 + 5_000 + 250);
    expect(channel.getState().status.state).toBe('stale');
    expect(await (await server.connections.next()).accept('c3')).toBe('c2');
  });
});

describe('closing', () => {
  it('happens with a FlagcastError after a close code that forbids reconnecting', async () => {
    const { server, connect } = await startFixture();
    const client = connect();
    const channel = client.channel(channelArguments);
    const connection = await server.connections.next();
    connection.socket.close(4501, 'token_invalid');
    const status = await untilConnection(client, 'closed');
    const { status: channelStatus } = await untilStatus(channel, 'closed');
    expect(status).toMatchObject(channelStatus);
    const error = status.state === 'closed' ? status.error : null;
    expect(error).toBeInstanceOf(FlagcastError);
    expect(error).toMatchObject({ code: 'token_invalid', closeCode: 4501 });
    expect(error?.message).toContain('token_invalid');
    expect(client.channel(channelArguments).getState().status).toEqual(channelStatus);
    expect(server.upgrades.all).toHaveLength(1);
  });

  it.each(['forbidden', 'unknown_environment', 'too_many_channels'])(
    'affects only the channel that the error %s is about',
    async (code) => {
      const { server, connect } = await startFixture();
      const client = connect();
      const prod = client.channel(channelArguments);
      const stage = client.channel(stageArguments);
      const connection = await server.connections.next();
      connection.hello();
      await connection.received.next();
      await connection.received.next();
      connection.send(caughtUp('c1', stageName));
      connection.send({ type: 'error', code, message: 'No.', project_id: 'p1', environment_id: '7' });
      const { status } = await untilStatus(prod, 'closed');
      expect(status.state === 'closed' && status.error).toMatchObject({ code, message: 'No.' });
      await untilStatus(stage, 'live');
    },
  );

  it.each([400, 401, 403, 404])(
    'affects only the channel whose snapshot request fails with %i',
    async (status) => {
      const { server, connect } = await startFixture();
      server.respondToSnapshot = (response) =>
        respondJson(response, status, { code: 'why', message: 'Because.' });
      const channel = connect().channel(channelArguments);
      const state = await untilStatus(channel, 'closed');
      expect(state.status.state === 'closed' && state.status.error).toMatchObject({
        code: 'why',
        message: 'Because.',
        closeCode: 4100 + status,
      });
    },
  );

  it('happens with the refusal of the token, also if the snapshot is refused before the connection', async () => {
    const { server, connect } = await startFixture();
    server.respondToSnapshot = (response) =>
      respondJson(response, 401, { code: 'token_invalid', message: 'No.' });
    // The connection is never answered.
    server.refuseUpgrade = () => undefined;
    const client = connect();
    const channel = client.channel(channelArguments);
    for (const status of [
      await untilConnection(client, 'closed'),
      (await untilStatus(channel, 'closed')).status,
    ]) {
      expect(status.state === 'closed' && status.error).toMatchObject({
        code: 'token_invalid',
        closeCode: 4501,
      });
    }
  });

  it('affects all channels when the client is closed', async () => {
    const { server, connect } = await startFixture();
    const client = connect();
    const channel = client.channel(channelArguments);
    const connection = await server.connections.next();
    await connection.accept();
    await untilStatus(channel, 'live');
    client.close();
    expect(client.getStatus()).toMatchObject({ state: 'closed', error: null });
    expect((await untilStatus(channel, 'closed')).status).toEqual({ state: 'closed', error: null });
    await connection.closed;
  });
});

describe('retries', () => {
  it('repeats a snapshot request that was refused with 429', async () => {
    useFastClock();
    const { server, connect } = await startFixture();
    let requests = 0;
    server.respondToSnapshot = (response) => {
      requests += 1;
      if (requests > 2) respondJson(response, 200, server.snapshot);
      else respondJson(response, 429, { code: 'too_many_requests' }, { 'Retry-After': '1' });
    };
    const channel = connect().channel(channelArguments);
    await (await server.connections.next()).accept();
    await untilStatus(channel, 'live');
    expect(requests).toBe(3);
  });

  it('repeats a failed snapshot request after the time in Retry-After', async () => {
    useFastClock();
    const { server, connect, errors } = await startFixture();
    const times: number[] = [];
    server.respondToSnapshot = (response) => {
      times.push(Date.now());
      if (times.length === 1) respondJson(response, 503, { code: 'unavailable' }, { 'Retry-After': '1' });
      else if (times.length === 2) respondJson(response, 200, 'not a snapshot');
      else respondJson(response, 200, server.snapshot);
    };
    const channel = connect().channel(channelArguments);
    await (await server.connections.next()).accept();
    await untilStatus(channel, 'live');
    expect(Number(times[1]) - Number(times[0])).toBeGreaterThanOrEqual(1_000);
    expect(errors).toHaveLength(2);
  });

  it('repeats a subscribe request that failed with the error unavailable', async () => {
    const { server, connect } = await startFixture();
    const channel = connect().channel(channelArguments);
    const connection = await server.connections.next();
    connection.hello();
    await connection.received.next();
    const error = { type: 'error', message: '', project_id: 'p1', environment_id: '7' } as const;
    connection.send({ ...error, code: 'unavailable' });
    expect(await connection.received.next()).toMatchObject({ type: 'subscribe', cursor: 'c0' });
    connection.send(caughtUp('c1'));
    await untilStatus(channel, 'live');
    expect(server.snapshots.all).toHaveLength(1);
  });
});
