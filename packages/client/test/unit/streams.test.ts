import { once } from 'node:events';
import type { ServerResponse } from 'node:http';
import type { ServerMessage } from '#protocol';
import { describe, expect, it, onTestFinished, vi } from 'vitest';
import type { Channel, Client } from '../../src/index.js';
import {
  respondJson,
  caughtUp,
  channelName,
  event,
  heartbeat,
  hello,
  renamed,
  type ScriptedStream,
  stageName,
  stale,
} from './scripted-server.js';
import {
  noWebSocket,
  channelArguments,
  type ClientFixture,
  startFixture,
  until,
  untilConnection,
  untilMessage,
  untilStatus,
} from './client-fixture.js';
import { useTabFixture } from './tab-fixture.js';

function write(response: ServerResponse, ...messages: ServerMessage[]): void {
  for (const message of messages) {
    const id = 'cursor' in message ? `id: ${message.cursor ?? ''}\r\n` : '';
    response.write(`${id}data: ${JSON.stringify(message)}\r\n\r\n`);
  }
}

const prodPlace = { project_id: 'p1', env_id: '7' };
const stagePlace = { project_id: 'p1', env_id: '8' };

interface TwoChannels extends ClientFixture {
  readonly client: Client;
  readonly prod: Channel;
  readonly stage: Channel;
  readonly stream: ScriptedStream;
}

/** Starts a client with the channels prod and stage in one stream, both live at c1. */
async function startTwoChannels(): Promise<TwoChannels> {
  const fixture = await startFixture();
  const client = fixture.connect({ WebSocket: noWebSocket });
  const prod = client.channel(channelArguments);
  const stage = client.channel({ projectId: 'p1', env: 'stage' });
  let stream = await fixture.server.streams.next();
  // The snapshots of the two may arrive too far apart for one stream.
  while (stream.subscribe.length < 2) stream = await fixture.server.streams.next();
  write(stream.response, hello(), caughtUp('c1'), caughtUp('c1', stageName));
  await Promise.all([untilStatus(prod, 'live'), untilStatus(stage, 'live')]);
  return { ...fixture, client, prod, stage, stream };
}

async function ended({ response }: ScriptedStream): Promise<void> {
  if (!response.closed) await once(response, 'close');
}

it('one event stream carries all channels if no WebSocket can be opened', async () => {
  const { server, client, prod, stage, stream } = await startTwoChannels();
  expect(stream.request.headers).toMatchObject({
    authorization: 'Bearer token',
    accept: 'text/event-stream',
    'content-type': 'application/json',
  });
  expect(stream.subscribe).toHaveLength(2);
  expect(stream.subscribe).toEqual(
    expect.arrayContaining([
      { ...prodPlace, cursor: 'c0' },
      { ...stagePlace, cursor: 'c0' },
    ]),
  );
  write(stream.response, event('e1', 'f1'), event('e2', 'f1', stageName));
  await until(prod, ({ lastEvent }) => lastEvent?.id === 'e1');
  await until(stage, ({ lastEvent }) => lastEvent?.id === 'e2');
  expect(client.getStatus()).toMatchObject({ state: 'live' });
  expect(server.upgrades.all).toHaveLength(0);
});

it('a channel over an event stream goes from connecting to live without being stale', async () => {
  const { server, connect } = await startFixture();
  const channel = connect({ WebSocket: noWebSocket }).channel(channelArguments);
  const states = new Set<string>();
  channel.subscribe(({ status }) => states.add(status.state));
  const { response } = await server.streams.next();
  write(response, hello());
  await untilStatus(channel, 'catching-up');
  write(response, caughtUp('c1'));
  await untilStatus(channel, 'live');
  expect([...states]).not.toContain('stale');
});

it('another channel replaces the stream by one that continues at the cursors of all', async () => {
  const { server, client, prod, stream } = await startTwoChannels();
  write(stream.response, event('e1', 'f1', { cursor: 'c2' }));
  await until(prod, ({ lastEvent }) => lastEvent?.id === 'e1');
  server.environments.set('dev', '9');
  const dev = client.channel({ projectId: 'p1', env: 'dev' });
  const next = await server.streams.next();
  expect(next.subscribe).toEqual([
    { ...prodPlace, cursor: 'c2' },
    { ...stagePlace, cursor: 'c1' },
    { project_id: 'p1', env_id: '9', cursor: 'c0' },
  ]);
  await ended(stream);
  expect(prod.getState().status.state).toBe('catching-up');
  const devName = { project_id: 'p1', environment: 'dev', environment_id: '9' };
  write(next.response, hello(), caughtUp('c2', devName), caughtUp('c2'));
  await Promise.all([untilStatus(dev, 'live'), untilStatus(prod, 'live')]);
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

it('a stream resumes from its cursor', async () => {
  const { server, connect } = await startFixture();
  const channel = connect({ WebSocket: noWebSocket }).channel(channelArguments);
  const first = await server.streams.next();
  // A message in two chunks, with a character that some regular expressions treat as a line terminator.
  const text = `data: ${JSON.stringify(event('e1', 'f1', { actor: 'a\u2028b', cursor: 'c2' }))}\n\n`;
  const bytes = Buffer.from(text);
  write(first.response, hello(), caughtUp('c1'));
  const cut = bytes.indexOf(0xe2) + 1;
  first.response.write(bytes.subarray(0, cut));
  first.response.write(bytes.subarray(cut));
  const { lastEvent } = await until(channel, (state) => state.lastEvent !== null);
  expect(lastEvent?.actor).toBe('a\u2028b');
  first.response.end();
  await untilStatus(channel, 'stale');
  const second = await server.streams.next();
  expect(second.subscribe).toEqual([{ ...prodPlace, cursor: 'c2' }]);
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
  expect(second.subscribe).toEqual([{ ...prodPlace, cursor: 'c9' }]);
  write(second.response, hello(), caughtUp('c9'));
  await untilStatus(channel, 'live');
});

it('a channel that the server refuses closes, and no other channel', async () => {
  const { client, prod, stage, stream } = await startTwoChannels();
  write(stream.response, { type: 'error', code: 'forbidden', message: 'No.', ...stageName });
  const { status } = await untilStatus(stage, 'closed');
  expect(status.state === 'closed' && status.error).toMatchObject({ code: 'forbidden', message: 'No.' });
  expect(prod.getState().status).toEqual({ state: 'live' });
  // The user may no longer see anything: the stream ends.
  write(stream.response, { type: 'close', code: 4503, reason: 'forbidden' });
  const closed = await untilStatus(prod, 'closed');
  expect(closed.status.state === 'closed' && closed.status.error).toMatchObject({ code: 'forbidden' });
  await untilConnection(client, 'closed');
});

it('a refused stream is opened again after the time that the server asks for', async () => {
  const { server, connect } = await startFixture();
  const errors: unknown[] = [];
  server.respondToStream = (response) => {
    server.respondToStream = null;
    respondJson(response, 503, { code: 'draining', message: 'Later.' });
  };
  const channel = connect({ WebSocket: noWebSocket, onError: (error) => errors.push(error) }).channel(
    channelArguments,
  );
  await server.streams.next();
  const { response } = await server.streams.next();
  write(response, hello(), caughtUp('c1'));
  await untilStatus(channel, 'live');
  expect(errors).toMatchObject([{ code: 'draining' }]);
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
  expect(second.subscribe).toEqual([{ ...prodPlace, cursor: 'c1' }]);
  write(second.response, hello(), caughtUp('c1'), { type: 'close', code: 4501, reason: 'unknown_user' });
  const status = await untilConnection(client, 'closed');
  expect(status.state === 'closed' && status.error).toMatchObject({ code: 'unknown_user', closeCode: 4501 });
  await untilStatus(channel, 'closed');
});

it('the stream ends when its last channel is closed', async () => {
  const { client, prod, stage, server, stream } = await startTwoChannels();
  prod.close();
  const next = await server.streams.next();
  await ended(stream);
  expect(next.subscribe).toEqual([{ ...stagePlace, cursor: 'c1' }]);
  write(next.response, hello(), caughtUp('c1', stageName));
  stage.close();
  await ended(next);
  await untilConnection(client, 'idle');
});

it('a silent stream is replaced', async () => {
  const { server, client, prod, stream } = await startTwoChannels();
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'Date', 'performance'] });
  onTestFinished(() => void vi.useRealTimers());
  const beat = untilMessage(client, 'heartbeat');
  write(stream.response, heartbeat('c2'));
  await beat;
  const reconnecting = server.streams.next();
  await vi.advanceTimersByTimeAsync(14_800);
  expect(prod.getState().status.state).toBe('live');
  await vi.advanceTimersByTimeAsync(200);
  expect(prod.getState().status.state).toBe('stale');
  await vi.advanceTimersByTimeAsync(20_250 + 1_000);
  vi.useRealTimers();
  expect((await reconnecting).subscribe).toEqual(expect.arrayContaining([{ ...prodPlace, cursor: 'c2' }]));
});

it('a stream requests its channel by the id of the environment', async () => {
  const { server, connect } = await startFixture();
  const channel = connect({ WebSocket: noWebSocket }).channel(channelArguments);
  const { subscribe, response } = await server.streams.next();
  expect(subscribe).toEqual([{ ...prodPlace, cursor: 'c0' }]);
  write(response, hello(), caughtUp('c1'), renamed(channelName, 'production'));
  await until(channel, ({ environment }) => environment === 'production');
  write(response, event('e1', 'f1', { environment: 'production', environment_id: '7' }));
  await until(channel, ({ lastEvent }) => lastEvent?.id === 'e1');
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

it("a heartbeat's cursor applies only to channels that are caught up", async () => {
  const { server, client, stream } = await startTwoChannels();
  stream.response.end();
  const second = await server.streams.next();
  const beat = untilMessage(client, 'heartbeat');
  write(second.response, hello(), caughtUp('c1'), heartbeat('c9'));
  await beat;
  second.response.end();
  const third = await server.streams.next();
  expect(third.subscribe).toEqual(
    expect.arrayContaining([
      { ...prodPlace, cursor: 'c9' },
      { ...stagePlace, cursor: 'c1' },
    ]),
  );
});

describe('tabs without WebSockets', () => {
  const fixture = useTabFixture();

  it('share one stream, which has the channels of all tabs', async () => {
    const leader = fixture.openTab({ WebSocket: noWebSocket });
    const prod = leader.client.channel(channelArguments);
    const first = await fixture.server.streams.next();
    write(first.response, hello(), caughtUp('c1'));
    await untilStatus(prod, 'live');
    const follower = fixture.openTab({ WebSocket: noWebSocket });
    const stage = follower.client.channel({ projectId: 'p1', env: 'stage' });
    const next = await fixture.server.streams.next();
    expect(next.subscribe).toEqual([
      { ...prodPlace, cursor: 'c1' },
      { ...stagePlace, cursor: 'c0' },
    ]);
    write(next.response, hello(), caughtUp('c1'), caughtUp('c1', stageName));
    await untilStatus(stage, 'live');
    write(next.response, event('e1', 'f1', stageName));
    await until(stage, ({ lastEvent }) => lastEvent?.id === 'e1');
    expect(fixture.server.streams.all).toHaveLength(2);
  });
});
