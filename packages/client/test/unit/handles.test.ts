import { describe, expect, it } from 'vitest';
import type { Channel, EventMessage } from '../../src/index.js';
import { caughtUp, channelName, event, respondJson, stageName } from './scripted-server.js';
import { channelArguments, startFixture, until, untilConnection, untilStatus } from './client-fixture.js';

describe('ready()', () => {
  it('resolves with the state when the channel is live, at once if it is', async () => {
    const { server, connect } = await startFixture();
    const channel = connect().channel(channelArguments);
    const ready = channel.ready();
    await (await server.connections.next()).accept('c1');
    const { status, features } = await ready;
    expect([status.state, [...features.keys()]]).toEqual(['live', ['f1']]);
    expect(await channel.ready()).toBe(channel.getState());
  });

  it('rejects with the reason when it is aborted, and with the error when the channel is closed', async () => {
    const { server, connect } = await startFixture();
    server.respondToSnapshot = (response) =>
      respondJson(response, 403, { code: 'forbidden', message: 'No.' });
    const channel = connect().channel(channelArguments);
    await expect(channel.ready({ signal: AbortSignal.abort('enough') })).rejects.toBe('enough');
    await expect(channel.ready()).rejects.toMatchObject({ code: 'forbidden' });
    const other = (await startFixture()).connect().channel(channelArguments);
    const controller = new AbortController();
    const waiting = other.ready({ signal: controller.signal });
    controller.abort('later');
    await expect(waiting).rejects.toBe('later');
    const closed = other.ready();
    other.close();
    await expect(closed).rejects.toMatchObject({ code: 'closed' });
  });
});

describe('the last channel', () => {
  it('can be closed and another one opened, as in a change of the route, on the same connection', async () => {
    const { server, connect } = await startFixture();
    const client = connect({ lingerMs: 60_000 });
    const prod = client.channel(channelArguments);
    const connection = await server.connections.next();
    await connection.accept('c1');
    await untilStatus(prod, 'live');
    prod.close();
    expect(await connection.received.next()).toMatchObject({ type: 'unsubscribe' });
    connection.send({ type: 'unsubscribed', ...channelName });
    await untilStatus(prod, 'closed');
    expect(client.getStatus().state).toBe('live');
    const stage = client.channel({ projectId: 'p1', env: 'stage' });
    expect(await connection.received.next()).toMatchObject({ type: 'subscribe', env_id: '8' });
    connection.send(caughtUp('c1', stageName));
    await untilStatus(stage, 'live');
    expect(server.upgrades.all).toHaveLength(1);
  });
});

describe('a channel that is opened twice', () => {
  it('is closed by the two that opened it, however often each is closed', async () => {
    const { server, connect } = await startFixture();
    const client = connect();
    const [one, other] = [client.channel(channelArguments), client.channel(channelArguments)];
    const connection = await server.connections.next();
    await connection.accept('c1');
    await untilStatus(one, 'live');
    one.close();
    one.close();
    one[Symbol.dispose]();
    connection.send(event('e1', 'f1', { cursor: 'c2' }));
    await until(other, ({ lastEvent }) => lastEvent?.id === 'e1');
    other.close();
    expect(await connection.received.next()).toMatchObject({ type: 'unsubscribe' });
    connection.send({ type: 'unsubscribed', ...channelName });
    await untilStatus(other, 'closed');
    await untilConnection(client, 'idle');
    // One close too many does not keep the next channel open.
    other.close();
    const third = client.channel(channelArguments);
    const next = await server.connections.next();
    await next.accept('c3');
    await untilStatus(third, 'live');
    third.close();
    next.send({ type: 'unsubscribed', ...channelName });
    await untilConnection(client, 'idle');
  });

  it('calls a listener that subscribed twice twice, and once after one of both was removed', async () => {
    const { server, connect } = await startFixture();
    const channel = connect().channel(channelArguments);
    const connection = await server.connections.next();
    await connection.accept('c1');
    const ids: string[] = [];
    const listener = ({ id }: EventMessage): unknown => ids.push(id);
    const remove = channel.onEvent(listener);
    channel.onEvent(listener);
    connection.send(event('e1', 'f1'));
    await until(channel, ({ lastEvent }) => lastEvent?.id === 'e1');
    remove();
    remove();
    connection.send(event('e2', 'f1'));
    await until(channel, ({ lastEvent }) => lastEvent?.id === 'e2');
    expect(ids).toEqual(['e1', 'e1', 'e2']);
  });
});

describe('a channel that is being closed', () => {
  it('counts a close once, also if `debug` closes it again during the close', async () => {
    const { server, connect } = await startFixture();
    const client = connect({
      debug: (what, message) => {
        if (what === 'sent' && (message as { type: string }).type === 'unsubscribe') channel.close();
      },
    });
    const channel = client.channel(channelArguments);
    const connection = await server.connections.next();
    await connection.accept('c1');
    await untilStatus(channel, 'live');
    channel.close();
    connection.send({ type: 'unsubscribed', ...channelName });
    await untilStatus(channel, 'closed');
    await untilConnection(client, 'idle');
  });

  it('is opened anew by a listener of its end', async () => {
    const { server, connect } = await startFixture();
    const client = connect();
    server.respondToSnapshot = (response) => {
      server.respondToSnapshot = null;
      respondJson(response, 403, { code: 'forbidden', message: 'No.' });
    };
    const refused = client.channel(channelArguments);
    const reopened = new Promise<Channel>((resolve) => {
      const remove = refused.subscribe(({ status }) => {
        if (status.state !== 'closed') return;
        remove();
        resolve(client.channel(channelArguments));
      });
    });
    await (await server.connections.next()).accept('c1');
    await untilStatus(await reopened, 'live');
  });
});
