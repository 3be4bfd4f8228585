import { expect, it } from 'vitest';
import type { Client } from '../src/index.js';
import { caughtUp, event, fresh, heartbeat, stageName, stale } from './scripted-server.js';
import { channelArguments, startScene, until, untilConnection, untilStatus } from './watching.js';

const since = '2026-01-02T03:04:05.678Z';
const staleStatus = { state: 'stale', sinceMs: Date.parse(since), reason: 'read_overdue' };
const stageArguments = { projectId: 'p1', env: 'stage' };

/** Resolves with the next message of this type, once it has been taken in. */
async function untilMessage(client: Client, type: string): Promise<void> {
  await new Promise<void>((resolve) => {
    const off = client.onMessage((message) => {
      if (!('type' in message) || message.type !== type) return;
      off();
      resolve();
    });
  });
}

it('every channel and the client are stale while the server is, and live again with it', async () => {
  const { server, client } = await startScene();
  const own = client();
  const prod = own.channel(channelArguments);
  const channels = [prod, own.channel(stageArguments)];
  const peer = await server.peers.next();
  peer.hello();
  await peer.received.next();
  await peer.received.next();
  peer.send(caughtUp('c1'), caughtUp('c1', stageName));
  await Promise.all(channels.map(async (channel) => await untilStatus(channel, 'live')));
  peer.send(stale(since));
  for (const channel of channels) expect((await untilStatus(channel, 'stale')).status).toEqual(staleStatus);
  expect(await untilConnection(own, 'stale')).toEqual(staleStatus);
  peer.send(stale(since, 'database_unreachable'));
  await until(prod, ({ status }) => status.state === 'stale' && status.reason === 'database_unreachable');
  // Events of the last read may still come. They do not make the server fresh.
  peer.send(event('e1', 'f1'));
  await until(prod, ({ lastEvent }) => lastEvent?.id === 'e1');
  expect(own.getStatus().state).toBe('stale');
  peer.send(fresh);
  for (const channel of channels) await untilStatus(channel, 'live');
  expect(own.getStatus()).toEqual({ state: 'live' });
  expect(server.upgrades.all).toHaveLength(1);
});

it('a channel that is not caught up yet is stale with the server, and catches up when it is fresh', async () => {
  const { server, client } = await startScene();
  const channel = client().channel(channelArguments);
  const peer = await server.peers.next();
  peer.hello();
  peer.send(stale(since));
  await peer.received.next();
  await untilStatus(channel, 'stale');
  peer.send(fresh);
  await untilStatus(channel, 'catching-up');
  peer.send(caughtUp('c1'));
  await untilStatus(channel, 'live');
});

it('a channel that catches up with a stale server is stale', async () => {
  const { server, client } = await startScene();
  const own = client();
  const channel = own.channel(channelArguments);
  const peer = await server.peers.next();
  peer.hello();
  peer.send(stale(since));
  await peer.received.next();
  const taken = untilMessage(own, 'caught_up');
  peer.send(caughtUp('c1'));
  await taken;
  expect((await untilStatus(channel, 'stale')).status).toEqual(staleStatus);
});

it('a new connection is fresh until the server sends that it is stale', async () => {
  const { server, client } = await startScene();
  const own = client();
  const channel = own.channel(channelArguments);
  const first = await server.peers.next();
  await first.accept('c1');
  first.send(stale(since));
  await untilStatus(channel, 'stale');
  first.socket.terminate();
  // The state is no newer than it was while the server was stale.
  const disconnected = { ...staleStatus, reason: 'disconnected' };
  await until(channel, ({ status }) => status.state === 'stale' && status.reason === 'disconnected');
  expect([channel.getState().status, own.getStatus()]).toEqual([disconnected, disconnected]);
  const second = await server.peers.next();
  await second.accept('c2');
  await untilStatus(channel, 'live');
  second.socket.terminate();
  const third = await server.peers.next();
  third.hello();
  third.send(stale(since));
  await until(channel, ({ status }) => status.state === 'stale' && status.reason === 'read_overdue');
});

it('when the connection is lost, the state is accurate as of the newest heartbeat', async () => {
  const { server, client } = await startScene();
  const own = client();
  const channel = own.channel(channelArguments);
  const peer = await server.peers.next();
  await peer.accept('c1');
  await untilStatus(channel, 'live');
  const received = untilMessage(own, 'pong');
  peer.send(heartbeat('c2', '2026-01-01T00:00:00Z'), heartbeat('c3', since), heartbeat('c4'), {
    type: 'pong',
    timestamp: 1,
  });
  await received;
  peer.socket.terminate();
  const status = { state: 'stale', sinceMs: Date.parse(since), reason: 'disconnected' };
  expect((await untilStatus(channel, 'stale')).status).toEqual(status);
  expect(own.getStatus()).toEqual(status);
});

it('a server whose clock is ahead does not make the state newer than the present', async () => {
  const { server, client } = await startScene();
  const own = client();
  const channel = own.channel(channelArguments);
  const peer = await server.peers.next();
  await peer.accept('c1');
  await untilStatus(channel, 'live');
  const received = untilMessage(own, 'heartbeat');
  peer.send(heartbeat('c2', '2999-01-01T00:00:00Z'));
  await received;
  peer.socket.terminate();
  const { status } = await untilStatus(channel, 'stale');
  expect(status.state === 'stale' && status.sinceMs).toBeLessThanOrEqual(Date.now());
});
