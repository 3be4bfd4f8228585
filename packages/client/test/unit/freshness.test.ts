import { expect, it, onTestFinished, vi } from 'vitest';
import { caughtUp, event, fresh, heartbeat, stale } from './scripted-server.js';
import {
  channelArguments,
  startFixture,
  startLiveChannel,
  startTwoChannels,
  until,
  untilConnection,
  untilMessage,
  untilStatus,
} from './client-fixture.js';

const since = '2026-01-02T03:04:05.678Z';
const staleStatus = { state: 'stale', sinceMs: Date.parse(since), reason: 'read_overdue' };

it('the client and every channel are stale while the server is stale, and live afterwards', async () => {
  const { client, connection, server, prod, stage } = await startTwoChannels();
  const channels = [prod, stage];
  connection.send(stale(since));
  for (const channel of channels) expect((await untilStatus(channel, 'stale')).status).toEqual(staleStatus);
  expect(await untilConnection(client, 'stale')).toMatchObject(staleStatus);
  connection.send(stale(since, 'database_unreachable'));
  await until(prod, ({ status }) => status.state === 'stale' && status.reason === 'database_unreachable');
  // Events of the last read may still arrive. They do not make the server fresh.
  connection.send(event('e1', 'f1'));
  await until(prod, ({ lastEvent }) => lastEvent?.id === 'e1');
  expect(client.getStatus().state).toBe('stale');
  connection.send(fresh);
  for (const channel of channels) await untilStatus(channel, 'live');
  expect(client.getStatus()).toMatchObject({ state: 'live' });
  expect(server.upgrades.all).toHaveLength(1);
});

it('a channel that is not caught up is stale with the server, and catches up when the server is fresh', async () => {
  const { server, connect } = await startFixture();
  const channel = connect().channel(channelArguments);
  const connection = await server.connections.next();
  connection.hello();
  connection.send(stale(since));
  await connection.received.next();
  await untilStatus(channel, 'stale');
  connection.send(fresh);
  await untilStatus(channel, 'catching-up');
  connection.send(caughtUp('c1'));
  await untilStatus(channel, 'live');
});

it('a channel that catches up with a stale server is stale', async () => {
  const { server, connect } = await startFixture();
  const client = connect();
  const channel = client.channel(channelArguments);
  const connection = await server.connections.next();
  connection.hello();
  connection.send(stale(since));
  await connection.received.next();
  const taken = untilMessage(client, 'caught_up');
  connection.send(caughtUp('c1'));
  await taken;
  expect((await untilStatus(channel, 'stale')).status).toEqual(staleStatus);
});

it('a new connection is fresh until the server reports that it is stale', async () => {
  const { server, connect } = await startFixture();
  const client = connect();
  const channel = client.channel(channelArguments);
  const first = await server.connections.next();
  await first.accept('c1');
  first.send(stale(since));
  await untilStatus(channel, 'stale');
  first.socket.terminate();
  // The state is as old as it was while the server was stale.
  const disconnected = { ...staleStatus, reason: 'disconnected' };
  await until(channel, ({ status }) => status.state === 'stale' && status.reason === 'disconnected');
  expect([channel.getState().status, client.getStatus()]).toMatchObject([disconnected, disconnected]);
  const second = await server.connections.next();
  await second.accept('c2');
  await untilStatus(channel, 'live');
  second.socket.terminate();
  const third = await server.connections.next();
  third.hello();
  third.send(stale(since));
  await until(channel, ({ status }) => status.state === 'stale' && status.reason === 'read_overdue');
});

it('after a lost connection, sinceMs is the time of the newest heartbeat', async () => {
  const { client, connection, channel } = await startLiveChannel();
  const received = untilMessage(client, 'pong');
  connection.send(heartbeat('c2', '2026-01-01T00:00:00Z'), heartbeat('c3', since), heartbeat('c4'), {
    type: 'pong',
    timestamp: 1,
  });
  await received;
  connection.socket.terminate();
  const status = { state: 'stale', sinceMs: Date.parse(since), reason: 'disconnected' };
  expect((await untilStatus(channel, 'stale')).status).toEqual(status);
  expect(client.getStatus()).toMatchObject(status);
});

it("sinceMs is never in the future, even if the server's clock is ahead", async () => {
  const { client, connection, channel } = await startLiveChannel();
  const received = untilMessage(client, 'heartbeat');
  connection.send(heartbeat('c2', '2999-01-01T00:00:00Z'));
  await received;
  connection.socket.terminate();
  const { status } = await untilStatus(channel, 'stale');
  expect(status.state === 'stale' && status.sinceMs).toBeLessThanOrEqual(Date.now());
});

it('a channel is not connecting in the first state that has the features of its snapshot', async () => {
  const { server, connect } = await startFixture();
  const channel = connect().channel(channelArguments);
  const states: unknown[] = [];
  channel.subscribe(({ status, environment, features }) =>
    states.push([status.state, environment, features.size]),
  );
  const connection = await server.connections.next();
  connection.hello();
  await connection.received.next();
  connection.send(caughtUp('c1'));
  await untilStatus(channel, 'live');
  expect(states).toEqual([
    ['catching-up', 'prod', 1],
    ['live', 'prod', 1],
  ]);
});

it.each([
  ['two seconds after the machine has slept for a minute', 60_000, 2_000],
  ['15 s after the last message when the clock is set back by an hour', -3_600_000, 15_000],
])('a channel is stale %s, and live when the server answers', async (_, jumpMs, noticedAfterMs) => {
  const { server, client, connection, channel } = await startLiveChannel();
  // Timers stop while a machine sleeps: the clock jumps, and they go on as if there had been no time.
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'Date'] });
  onTestFinished(() => void vi.useRealTimers());
  const received = untilMessage(client, 'heartbeat');
  connection.send(heartbeat('c2'));
  await received;
  vi.setSystemTime(Date.now() + jumpMs);
  vi.advanceTimersByTime(noticedAfterMs);
  expect(channel.getState().status).toMatchObject({ state: 'stale', reason: 'disconnected' });
  expect(await connection.received.next()).toEqual({ type: 'ping' });
  connection.send({ type: 'pong', timestamp: 1 });
  await untilStatus(channel, 'live');
  expect(server.upgrades.all).toHaveLength(1);
});
