import { once } from 'node:events';
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { ChannelName, ServerMessage } from '#protocol';
import { expect, it, onTestFinished, vi } from 'vitest';
import type { WebSocketClass } from '../../src/index.js';
import {
  respondJson,
  caughtUp,
  channelName,
  event,
  fresh,
  heartbeat,
  hello,
  renamed,
  stageName,
  stale,
} from './scripted-server.js';
import {
  channelArguments,
  startFixture,
  until,
  untilConnection,
  untilMessage,
  untilStatus,
} from './client-fixture.js';

/** Throws as in a page whose policy forbids WebSockets. */
const noWebSocket = function () {
  throw new Error('WebSockets are not available');
} as unknown as WebSocketClass;

function write(response: ServerResponse, ...messages: ServerMessage[]): void {
  for (const message of messages) {
    const id = 'cursor' in message ? `id: ${message.cursor ?? ''}\r\n` : '';
    response.write(`${id}data: ${JSON.stringify(message)}\r\n\r\n`);
  }
}

/** Returns the channel of a stream. */
function nameOf({ url }: IncomingMessage): ChannelName {
  return url?.endsWith('project_id=p1&env_id=8') ? stageName : channelName;
}

function lastEventId({ request }: { request: IncomingMessage }): unknown {
  return request.headers['last-event-id'];
}

it('event streams carry each channel separately if no WebSocket can be opened', async () => {
  const { server, connect } = await startFixture();
  const client = connect({ WebSocket: noWebSocket });
  const prod = client.channel(channelArguments);
  const stage = client.channel({ projectId: 'p1', env: 'stage' });
  const streams = [await server.streams.next(), await server.streams.next()];
  for (const { request, response } of streams) {
    expect(request.headers).toMatchObject({
      authorization: 'Bearer token',
      accept: 'text/event-stream',
      'last-event-id': 'c0',
    });
    const name = nameOf(request);
    const { environment } = name;
    write(response, hello(), caughtUp('c1', name), event(`e-${environment}`, 'f1', { environment }));
  }
  const [{ lastEvent }] = await Promise.all([
    until(prod, (state) => state.status.state === 'live' && state.lastEvent !== null),
    until(stage, (state) => state.status.state === 'live' && state.lastEvent !== null),
  ]);
  expect(lastEvent?.id).toBe('e-prod');
  expect(client.getStatus()).toMatchObject({ state: 'live' });
  expect(server.upgrades.all).toHaveLength(0);
});

it('the client uses event streams after three WebSockets that closed before hello', async () => {
  const { server, connect } = await startFixture();
  server.refuseUpgrade = (socket) => socket.destroy();
  const channel = connect().channel(channelArguments);
  const { response } = await server.streams.next();
  write(response, hello(), caughtUp('c1'));
  await untilStatus(channel, 'live');
  expect(server.upgrades.all).toHaveLength(3);
});

it('a stream resumes from its cursor, after the time in the retry field', async () => {
  const { server, connect } = await startFixture();
  const channel = connect({ WebSocket: noWebSocket }).channel(channelArguments);
  const first = await server.streams.next();
  first.response.write('retry: 300\n');
  // A message in two chunks, with a character that some regular expressions treat as a line terminator.
  const text = `data: ${JSON.stringify(event('e1', 'f1', { actor: 'a\u2028b', cursor: 'c2' }))}\n\n`;
  const bytes = Buffer.from(text);
  write(first.response, hello(), caughtUp('c1'));
  const cut = bytes.indexOf(0xe2) + 1;
  first.response.write(bytes.subarray(0, cut));
  first.response.write(bytes.subarray(cut));
  const { lastEvent } = await until(channel, (state) => state.lastEvent !== null);
  expect(lastEvent?.actor).toBe('a\u2028b');
  const lostAtMs = Date.now();
  first.response.end();
  await untilStatus(channel, 'stale');
  const second = await server.streams.next();
  expect(Date.now() - lostAtMs).toBeGreaterThanOrEqual(290);
  expect(lastEventId(second)).toBe('c2');
  write(second.response, hello(), caughtUp('c3'));
  await untilStatus(channel, 'live');
  expect(server.snapshots.all).toHaveLength(1);
});

it('a resync loads a new snapshot and opens a new stream', async () => {
  const { server, connect } = await startFixture();
  const channel = connect({ WebSocket: noWebSocket }).channel(channelArguments);
  const first = await server.streams.next();
  write(first.response, hello());
  server.snapshot = { ...server.snapshot, cursor: 'c9' };
  write(first.response, { type: 'resync', ...channelName, reason: 'cursor_expired' });
  first.response.end();
  const second = await server.streams.next();
  expect(lastEventId(second)).toBe('c9');
  write(second.response, hello(), caughtUp('c9'));
  await untilStatus(channel, 'live');
});

it('a refused stream closes its channel and no other channel', async () => {
  const { server, connect } = await startFixture();
  const client = connect({ WebSocket: noWebSocket });
  server.respondToStream = (response, request) => {
    if (nameOf(request) === stageName) respondJson(response, 403, { code: 'forbidden', message: 'No.' });
    else response.writeHead(200).flushHeaders();
  };
  const prod = client.channel(channelArguments);
  const stage = client.channel({ projectId: 'p1', env: 'stage' });
  const { status } = await untilStatus(stage, 'closed');
  expect(status.state === 'closed' && status.error).toMatchObject({ code: 'forbidden', message: 'No.' });
  const { response } = server.streams.all.find(({ request }) => nameOf(request) === channelName) ?? {};
  if (response === undefined) throw new Error('prod has no stream');
  write(response, hello(), caughtUp('c1'));
  await untilStatus(prod, 'live');
  // The permission is revoked later: the stream ends with a close message.
  write(response, { type: 'close', code: 4503, reason: 'forbidden' });
  const ended = await untilStatus(prod, 'closed');
  expect(ended.status.state === 'closed' && ended.status.error).toMatchObject({ code: 'forbidden' });
});

it('an expired token leads to a new stream with a new token, and a refused token closes the client', async () => {
  const { server, connect } = await startFixture();
  let count = 0;
  const client = connect({ WebSocket: noWebSocket, getToken: () => `t${(count += 1)}` });
  const channel = client.channel(channelArguments);
  const first = await server.streams.next();
  write(first.response, hello(), caughtUp('c1'), { type: 'close', code: 4001, reason: 'token_expired' });
  const second = await server.streams.next();
  expect(second.request.headers.authorization).toBe('Bearer t2');
  expect(lastEventId(second)).toBe('c1');
  write(second.response, hello(), caughtUp('c1'), { type: 'close', code: 4501, reason: 'unknown_user' });
  const status = await untilConnection(client, 'closed');
  expect(status.state === 'closed' && status.error).toMatchObject({ code: 'unknown_user', closeCode: 4501 });
  await untilStatus(channel, 'closed');
});

it('a stream ends when its channel is closed', async () => {
  const { server, connect } = await startFixture();
  const client = connect({ WebSocket: noWebSocket });
  const channel = client.channel(channelArguments);
  const { response } = await server.streams.next();
  const ended = new Promise((resolve) => response.once('close', resolve));
  write(response, hello(), caughtUp('c1'));
  await untilStatus(channel, 'live');
  channel.close();
  await ended;
  await untilConnection(client, 'idle');
});

it('one silent stream among several leads to a reconnect', async () => {
  const { server, connect } = await startFixture();
  const client = connect({ WebSocket: noWebSocket });
  const channels = [channelArguments, { projectId: 'p1', env: 'stage' }].map((name) => client.channel(name));
  const first = await server.streams.next();
  const second = await server.streams.next();
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'Date', 'performance'] });
  onTestFinished(() => void vi.useRealTimers());
  write(first.response, hello({ heartbeat_interval_ms: 100 }));
  write(second.response, hello({ heartbeat_interval_ms: 100 }));
  const reconnected = new AbortController();
  const reconnecting = server.streams.next().finally(() => reconnected.abort());
  // A reconnect ends all streams.
  const ended = once(first.response, 'close');
  while (!reconnected.signal.aborted) {
    const beat = untilMessage(client, 'heartbeat');
    write(first.response, heartbeat('c1'));
    await Promise.race([beat, ended]);
    await vi.advanceTimersByTimeAsync(50);
  }
  const third = await reconnecting;
  expect(third.request.headers['last-event-id']).toBe('c0');
  for (const channel of channels) channel.close();
});

it('a stream requests its channel by the id of the environment', async () => {
  const { server, connect } = await startFixture();
  const channel = connect({ WebSocket: noWebSocket }).channel(channelArguments);
  const { request, response } = await server.streams.next();
  expect(request.url).toBe('/api/events?project_id=p1&env_id=7');
  write(response, hello(), caughtUp('c1'), renamed(channelName, 'production'));
  await until(channel, ({ environment }) => environment === 'production');
  write(response, event('e1', 'f1', { environment: 'production', environment_id: '7' }));
  await until(channel, ({ lastEvent }) => lastEvent?.id === 'e1');
});

it('all channels are stale while the server of one stream is stale', async () => {
  const { server, connect } = await startFixture();
  const client = connect({ WebSocket: noWebSocket });
  const channels = [client.channel(channelArguments), client.channel({ projectId: 'p1', env: 'stage' })];
  const [one, other] = [await server.streams.next(), await server.streams.next()];
  for (const { request, response } of [one, other]) write(response, hello(), caughtUp('c1', nameOf(request)));
  const all = async (state: 'live' | 'stale'): Promise<unknown> =>
    await Promise.all(channels.map(async (channel) => await untilStatus(channel, state)));
  await all('live');
  write(one.response, stale('2026-01-01T00:00:00Z'));
  await all('stale');
  write(other.response, stale('2026-01-01T00:00:00Z'), fresh, event('e1', 'f1', nameOf(other.request)));
  const changed = channels.find(({ env }) => env === nameOf(other.request).environment);
  if (changed) await until(changed, ({ lastEvent }) => lastEvent?.id === 'e1');
  expect(client.getStatus().state).toBe('stale');
  write(one.response, fresh);
  await all('live');
});

it('the other channels are live when the channel of the stale stream is closed', async () => {
  const { server, connect } = await startFixture();
  const client = connect({ WebSocket: noWebSocket });
  const prod = client.channel(channelArguments);
  const stage = client.channel({ projectId: 'p1', env: 'stage' });
  for (const { request, response } of [await server.streams.next(), await server.streams.next()]) {
    const name = nameOf(request);
    write(response, hello(), caughtUp('c1', name));
    if (name === channelName) write(response, stale('2026-01-01T00:00:00Z'));
  }
  await untilStatus(stage, 'stale');
  prod.close();
  await untilStatus(stage, 'live');
});

it('a channel is live after a reconnect without the channel of the stale stream', async () => {
  const { server, connect } = await startFixture();
  const client = connect({ WebSocket: noWebSocket });
  const prod = client.channel(channelArguments);
  const stage = client.channel({ projectId: 'p1', env: 'stage' });
  const streams = [await server.streams.next(), await server.streams.next()];
  for (const { request, response } of streams) write(response, hello(), caughtUp('c1', nameOf(request)));
  await untilStatus(stage, 'live');
  const stopped = streams.find(({ request }) => nameOf(request) === channelName);
  if (stopped) write(stopped.response, stale('2026-01-01T00:00:00Z'));
  await untilStatus(stage, 'stale');
  for (const { response } of streams) response.end();
  await until(stage, ({ status }) => status.state === 'stale' && status.reason === 'disconnected');
  prod.close();
  // The client may have opened the stream of the other channel before it was closed.
  let stream = await server.streams.next();
  while (nameOf(stream.request) !== stageName) stream = await server.streams.next();
  write(stream.response, hello(), caughtUp('c1', stageName));
  await untilStatus(stage, 'live');
});

it('a stream that is opened after a resync is fresh until its server reports that it is stale', async () => {
  const { server, connect } = await startFixture();
  const channel = connect({ WebSocket: noWebSocket }).channel(channelArguments);
  const first = await server.streams.next();
  write(first.response, hello(), caughtUp('c1'), stale('2026-01-01T00:00:00Z'));
  await untilStatus(channel, 'stale');
  write(first.response, { type: 'resync', ...channelName, reason: 'cursor_expired' });
  const second = await server.streams.next();
  write(second.response, hello(), caughtUp('c1'));
  await untilStatus(channel, 'live');
});

it("a heartbeat's cursor applies only to the channel of its stream", async () => {
  const { server, connect } = await startFixture();
  const client = connect({ WebSocket: noWebSocket });
  const channels = [client.channel(channelArguments), client.channel({ projectId: 'p1', env: 'stage' })];
  const streams = [await server.streams.next(), await server.streams.next()];
  for (const stream of streams) {
    write(stream.response, hello(), caughtUp('c1', nameOf(stream.request)));
  }
  await Promise.all(channels.map(async (channel) => await untilStatus(channel, 'live')));
  const prod = streams.find(({ request }) => nameOf(request) === channelName);
  const received = new Promise<void>((resolve) => {
    client.onMessage((message) => {
      if ('type' in message && message.type === 'heartbeat') resolve();
    });
  });
  if (prod) write(prod.response, heartbeat('c9'));
  await received;
  for (const { response } of streams) response.end();
  const again = [await server.streams.next(), await server.streams.next()];
  const resumed = Object.fromEntries(
    again.map((stream) => [nameOf(stream.request).environment, lastEventId(stream)]),
  );
  expect(resumed).toEqual({ prod: 'c9', stage: 'c1' });
});
