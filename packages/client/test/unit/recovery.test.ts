import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Duplex } from 'node:stream';
import { describe, expect, it, onTestFinished, vi } from 'vitest';
import type { ConnectionStatus, FlagcastError, ServerMessage, WebSocketClass } from '../../src/index.js';
import { createRequest } from '../../src/request.js';
import { caughtUp, channelName, event, respondJson, type ScriptedConnection } from './scripted-server.js';
import {
  channelArguments,
  startFixture,
  until,
  untilConnection,
  untilMessage,
  untilStatus,
  useFastClock,
} from './client-fixture.js';

describe('an answer to the request for the snapshot', () => {
  const answers: [string, (response: ServerResponse) => unknown][] = [
    ['a 403 of a proxy', (response) => response.writeHead(403).end('<h1>Forbidden</h1>')],
    [
      'a 404 of a proxy with JSON',
      (response) => respondJson(response, 404, { code: 5, message: 'no route' }),
    ],
    ['a 408 of a proxy', (response) => response.writeHead(408).end()],
    ['the page of a sign-in', (response) => response.writeHead(200).end('<h1>Sign in</h1>')],
    ['the 404 of another path', (response) => respondJson(response, 404, { code: 'not_found', message: '' })],
  ];
  it.each(answers)('is not final if it is %s', async (_, answer) => {
    const { server, connect, errors } = await startFixture();
    server.respondToSnapshot = (response) => {
      server.respondToSnapshot = null;
      answer(response);
    };
    const channel = connect().channel(channelArguments);
    await (await server.connections.next()).accept('c1');
    await untilStatus(channel, 'live');
    expect(errors).toMatchObject([{ name: 'FlagcastError', code: expect.any(String) as string }]);
  });

  it.each([
    ['Wed, 21 Oct 2026 07:28:00 GMT', 0],
    ['-1', 0],
    ['2', 2_000],
    ['3600', 60_000],
    ['3000000000', 60_000],
  ])('that says `Retry-After: %s` delays the next request by %i ms', async (header, retryAfterMs) => {
    const fetchRefused = async () =>
      await Promise.resolve(new Response(null, { status: 503, headers: { 'Retry-After': header } }));
    const request = createRequest(
      () => 'http://127.0.0.1/',
      fetchRefused,
      () => 'token',
    );
    await expect(request('snapshot', {})).rejects.toMatchObject({ code: 'http_503', retryAfterMs });
  });

  it(
    'that requests a long delay is repeated as soon as the connection is there',
    { timeout: 20_000 },
    async () => {
      const { server, connect, errors } = await startFixture();
      server.respondToSnapshot = (response) => {
        server.respondToSnapshot = null;
        respondJson(response, 503, { code: 'unavailable', message: '' }, { 'Retry-After': '60' });
      };
      const channel = connect().channel(channelArguments);
      const connection = await server.connections.next();
      await vi.waitFor(() => expect(errors).toHaveLength(1), 10_000);
      await connection.accept('c1');
      await untilStatus(channel, 'live');
    },
  );
});

describe('a snapshot', () => {
  /** Opens a channel that is live, and stops the timers: they run when the test advances them. */
  const startLiveChannel = async () => {
    const { server, connect } = await startFixture();
    const request = vi.fn(fetch);
    const client = connect({ fetch: request });
    const channel = client.channel(channelArguments);
    const connection = await server.connections.next();
    await connection.accept('c1');
    await untilStatus(channel, 'live');
    await server.snapshots.next();
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
    onTestFinished(() => void vi.useRealTimers());
    return { server, client, channel, connection, request };
  };
  /** Longer than the pause before a snapshot, shorter than that of a server that asks for one. */
  const pauseMs = 1_000;
  const resync: ServerMessage = { type: 'resync', ...channelName, reason: 'cursor_expired' };
  /** An event after which the state has to be loaded. */
  const incomplete = (id: string) => JSON.stringify({ ...event(id, 'f1'), feature: undefined });

  it.each([
    [401, 'bad_token'],
    [403, 'forbidden'],
    [404, 'unknown_environment'],
  ])('that is refused with the status %i leaves no timer behind', async (status, code) => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
    // Every pause has a length.
    vi.spyOn(Math, 'random').mockReturnValue(0.9);
    onTestFinished(() => {
      vi.useRealTimers();
      vi.restoreAllMocks();
    });
    const { connect } = await startFixture();
    const client = connect({
      WebSocket: function () {
        return { send: () => undefined, close: () => undefined };
      } as unknown as WebSocketClass,
      fetch: async () => await Promise.resolve(Response.json({ code, message: 'No.' }, { status })),
    });
    const channel = client.channel(channelArguments);
    await untilStatus(channel, 'closed');
    // The frame in which listeners were called, and the one after it.
    vi.advanceTimersByTime(32);
    expect(client.getStatus().state).toBe(status === 401 ? 'closed' : 'idle');
    expect(vi.getTimerCount()).toBe(0);
  });

  it('that is wanted while another one loads follows it at once if the pause is over', async () => {
    const { server, channel, connection } = await startLiveChannel();
    const loading: [ServerResponse, IncomingMessage][] = [];
    server.respondToSnapshot = (...exchange) => loading.push(exchange);
    connection.send(incomplete('e1'));
    await until(channel, ({ lastEvent }) => lastEvent?.id === 'e1');
    vi.advanceTimersByTime(pauseMs);
    await server.snapshots.next();
    connection.send(incomplete('e2'));
    await until(channel, ({ lastEvent }) => lastEvent?.id === 'e2');
    vi.advanceTimersByTime(pauseMs);
    expect(loading).toHaveLength(1);
    for (const exchange of loading) server.respondWithSnapshot(...exchange);
    await server.snapshots.next();
    expect(loading).toHaveLength(2);
  });

  it('does not wait for its pause after a new connection, unless the server asked for it', async () => {
    const { server, client, channel, connection, request } = await startLiveChannel();
    const failOnce = (status: number, code: string, headers: Record<string, string>): void => {
      server.respondToSnapshot = (response) => {
        server.respondToSnapshot = null;
        respondJson(response, status, { code, message: '' }, headers);
      };
    };
    const observable = { subscribe: client.subscribe, getState: client.getStatus };
    const fails = async (code: string) =>
      await until<ConnectionStatus>(observable, ({ lastError }) => lastError?.code === code);
    /** Makes the channel live on a new connection, while the snapshot's pause lasts. */
    const reconnect = async (before: ScriptedConnection): Promise<ScriptedConnection> => {
      before.send(resync);
      await untilMessage(client, 'resync');
      client.reconnect();
      const next = await server.connections.next();
      await next.accept('c2');
      await untilStatus(channel, 'live');
      return next;
    };
    const second = await reconnect(connection);

    // Also after a failure.
    failOnce(503, 'unavailable', {});
    second.send(resync);
    await untilMessage(client, 'resync');
    vi.advanceTimersByTime(pauseMs);
    await fails('unavailable');
    vi.advanceTimersByTime(pauseMs);
    expect(await second.received.next()).toMatchObject({ type: 'subscribe' });
    second.send(caughtUp('c3'));
    await untilStatus(channel, 'live');
    const third = await reconnect(second);

    failOnce(429, 'too_many_requests', { 'Retry-After': '5' });
    third.send(resync);
    await untilMessage(client, 'resync');
    vi.advanceTimersByTime(pauseMs);
    await fails('too_many_requests');
    client.reconnect();
    const fourth = await server.connections.next();
    const requests = request.mock.calls.length;
    fourth.hello();
    await untilConnection(client, 'live');
    vi.advanceTimersByTime(4_900);
    expect(request).toHaveBeenCalledTimes(requests);
    vi.advanceTimersByTime(pauseMs);
    expect(await fourth.received.next()).toMatchObject({ type: 'subscribe' });
  });
});

describe('the status of the connection', () => {
  it('says why attempts fail and when the next one starts, and so does onError', async () => {
    const { server, connect, errors } = await startFixture();
    server.refuseUpgrade = (socket) => socket.destroy();
    const client = connect();
    client.channel(channelArguments);
    const observable = { subscribe: client.subscribe, getState: client.getStatus };
    const failed = await until<ConnectionStatus>(observable, ({ attempt }) => attempt === 2);
    const error = { code: 'connection_lost', closeCode: 1006, url: `${server.url}/`, attempt: 2 };
    expect(failed).toMatchObject({ state: 'connecting', transport: 'websocket', lastError: error });
    expect(failed.retryAtMs).toEqual(expect.any(Number));
    expect(failed.lastError?.delayMs).toEqual(expect.any(Number));
    await until(observable, ({ transport }) => transport === 'sse');
    expect(errors).toMatchObject([{ ...error, attempt: 1 }, error, { ...error, attempt: 3 }]);
  });

  it('has no failed attempt while connected, and the last error', async () => {
    const { server, connect, errors } = await startFixture();
    const client = connect();
    const channel = client.channel(channelArguments);
    const connection = await server.connections.next();
    await connection.accept('c1');
    await untilStatus(channel, 'live');
    expect(client.getStatus()).toEqual({
      state: 'live',
      transport: 'websocket',
      attempt: 0,
      retryAtMs: null,
      lastError: null,
    });
    connection.socket.close(4005, 'unavailable');
    await (await server.connections.next()).accept('c1');
    await untilConnection(client, 'live');
    expect(client.getStatus()).toMatchObject({ attempt: 0, retryAtMs: null });
    expect(client.getStatus().lastError).toMatchObject({ code: 'unavailable', closeCode: 4005, attempt: 1 });
    expect(errors).toEqual([client.getStatus().lastError]);
    expect((errors[0] as FlagcastError).message).toContain('Lost connection to');
  });

  it('has the failure of a snapshot, also while the connection is live', async () => {
    const { server, connect, errors } = await startFixture();
    const answers: ServerResponse[] = [];
    server.respondToSnapshot = (response) => answers.push(response);
    const client = connect();
    client.channel(channelArguments);
    (await server.connections.next()).hello();
    await untilConnection(client, 'live');
    await server.snapshots.next();
    answers[0]?.writeHead(502).end();
    const observable = { subscribe: client.subscribe, getState: client.getStatus };
    const { lastError, state } = await until(observable, (status) => status.lastError !== null);
    expect([state, lastError?.code]).toEqual(['live', 'http_502']);
    expect(errors).toEqual([lastError]);
  });

  it('is retried although `onError` throws, whose exception is logged', async () => {
    const logged = vi.spyOn(console, 'error').mockReturnValue();
    onTestFinished(() => logged.mockRestore());
    const { server, connect } = await startFixture();
    server.respondToSnapshot = (response) => {
      server.respondToSnapshot = null;
      response.writeHead(503).end();
    };
    const problem = new Error('onError failed');
    const onError = (): never => {
      throw problem;
    };
    const channel = connect({ onError }).channel(channelArguments);
    await (await server.connections.next()).accept('c1');
    await untilStatus(channel, 'live');
    expect(logged.mock.calls).toEqual([[problem]]);
  });

  it('has an error of its own kind if a snapshot is not answered in time', async () => {
    vi.spyOn(AbortSignal, 'timeout').mockReturnValue(
      AbortSignal.abort(new DOMException('The operation timed out.', 'TimeoutError')),
    );
    onTestFinished(() => void vi.restoreAllMocks());
    const { connect, errors } = await startFixture();
    const client = connect();
    client.channel(channelArguments);
    const observable = { subscribe: client.subscribe, getState: client.getStatus };
    const { lastError } = await until(observable, (status) => status.lastError !== null);
    expect(lastError).toMatchObject({ name: 'FlagcastError', code: 'snapshot_failed' });
    expect(errors).toContain(lastError);
  });

  it('ends its wait when the app asks for it', async () => {
    const { server, connect } = await startFixture();
    const client = connect();
    const channel = client.channel(channelArguments);
    const connection = await server.connections.next();
    await connection.accept('c1');
    await untilStatus(channel, 'live');
    // The timer of the next attempt never fires.
    vi.useFakeTimers({ toFake: ['setTimeout'] });
    onTestFinished(() => void vi.useRealTimers());
    connection.socket.close(4000, 'draining');
    await untilConnection(client, 'stale');
    client.reconnect();
    await (await server.connections.next()).accept('c2');
    await untilConnection(client, 'live');
  });
});

it('a server that answers each subscription with `resync` gets fewer and fewer requests for snapshots', async () => {
  const { server, connect } = await startFixture();
  // 500 ms of jitter become 0.5 ms.
  const random = vi.spyOn(Math, 'random').mockReturnValue(0.001);
  const timeouts = vi.spyOn(globalThis, 'setTimeout');
  onTestFinished(() => void vi.restoreAllMocks());
  const channel = connect().channel(channelArguments);
  const connection = await server.connections.next();
  connection.hello();
  const takePausesMs = (): number[] =>
    timeouts.mock.calls.splice(0).flatMap(([, delayMs = 0]) => (delayMs < 16 ? delayMs / random() : []));
  for (let count = 0; count < 5; count += 1) {
    await connection.received.next();
    connection.send({ type: 'resync', ...channelName, reason: 'too_many_missed' });
  }
  await connection.received.next();
  expect(takePausesMs()).toEqual([500, 1_000, 2_000, 4_000, 8_000]);
  connection.send(caughtUp('c1'));
  await untilStatus(channel, 'live');
  connection.send({ type: 'resync', ...channelName, reason: 'too_many_missed' });
  await connection.received.next();
  expect(takePausesMs()).toEqual([500]);
});

it('a live channel whose snapshots fail requests them less and less often', async () => {
  const { server, connect } = await startFixture();
  const random = vi.spyOn(Math, 'random').mockReturnValue(0.001);
  onTestFinished(() => void vi.restoreAllMocks());
  const channel = connect().channel(channelArguments);
  const connection = await server.connections.next();
  await connection.accept('c1');
  await untilStatus(channel, 'live');
  await server.snapshots.next();
  const timeouts = vi.spyOn(globalThis, 'setTimeout');
  server.respondToSnapshot = (response) => response.writeHead(503).end();
  connection.send(JSON.stringify({ ...event('e1', 'f1'), feature: undefined }));
  for (let count = 0; count < 5; count += 1) await server.snapshots.next();
  const pausesMs = timeouts.mock.calls.flatMap(([, delayMs = 0]) =>
    delayMs > 0 && delayMs < 16 ? delayMs / random() : [],
  );
  expect(pausesMs).toEqual([500, 500, 1_000, 2_000, 4_000]);
});

it('a channel with a snapshot catches up until the first connection, and is stale after a failed attempt', async () => {
  const { server, connect } = await startFixture();
  const sockets: Duplex[] = [];
  server.refuseUpgrade = (socket) => sockets.push(socket);
  const channel = connect().channel(channelArguments);
  await until(channel, ({ environment }) => environment === 'prod');
  expect(channel.getState().status).toEqual({ state: 'catching-up' });
  for (const socket of sockets) socket.destroy();
  const { status } = await untilStatus(channel, 'stale');
  expect(status).toEqual({ state: 'stale', sinceMs: expect.any(Number) as number, reason: 'disconnected' });
});

it('debug logs messages and decisions, and no token', async () => {
  useFastClock();
  const { server, connect } = await startFixture();
  const logged: unknown[][] = [];
  const channel = connect({ getToken: () => 'secret', debug: (...parts) => logged.push(parts) }).channel(
    channelArguments,
  );
  const connection = await server.connections.next();
  await connection.accept('c1');
  await untilStatus(channel, 'live');
  connection.send({ type: 'authenticated', token_expires_at: new Date(Date.now() + 2_500).toISOString() });
  expect(await connection.received.next()).toEqual({ type: 'auth', token: 'secret' });
  const text = JSON.stringify(logged);
  for (const part of [
    'authorizing + token = connecting',
    'received',
    'sent',
    'subscribe',
    'caught_up',
    'auth',
  ]) {
    expect(text).toContain(part);
  }
  expect(text).not.toContain('secret');
});
