import type { ServerResponse } from 'node:http';
import type { Snapshot } from '#protocol';
import { describe, expect, it, vi } from 'vitest';
import type { Channel } from '../../src/index.js';
import { respondJson, caughtUp, event, feature, renamed, channelName, stageName } from './scripted-server.js';
import {
  channelArguments,
  recordEventIds,
  startTwoChannels,
  type TwoChannelsFixture,
  until,
  untilEvent,
  untilStatus,
} from './client-fixture.js';

/** The environment that `stage` and `again` have. */
const swappedName = { ...stageName, environment: 'prod' };

describe('a channel that is opened with a key that previously belonged to another environment', () => {
  /** Swaps the keys of prod and stage, and opens the key prod again. */
  async function openSwapped(): Promise<TwoChannelsFixture & { readonly again: Channel }> {
    const two = await startTwoChannels();
    const { connection, server, stage, client } = two;
    server.environments.set('prod', '8').set('stage', '7');
    connection.send(
      renamed(channelName, 'stage'),
      renamed(stageName, 'prod'),
      event('e1', 'f1', { environment_id: '8', cursor: 'c2' }),
    );
    await untilEvent(stage, 'e1');
    return { ...two, again: client.channel(channelArguments) };
  }

  it('is a different channel and shares the subscription of its environment', async () => {
    const { connection, prod, stage, again, client } = await openSwapped();
    expect(again.subscribe).not.toBe(prod.subscribe);
    expect(client.channel(channelArguments).subscribe).toBe(again.subscribe);
    expect((await untilStatus(again, 'live')).environment).toBe('prod');
    expect(again.getState().features).toEqual(stage.getState().features);
    const ids = [prod, stage, again].map(recordEventIds);
    connection.send(event('e2', 'f2', { environment_id: '8', cursor: 'c3' }));
    await Promise.all([untilEvent(stage, 'e2'), untilEvent(again, 'e2')]);
    expect(ids).toEqual([[], ['e2'], ['e2']]);
    expect(again.toSnapshot()).toEqual(stage.toSnapshot());
    expect(connection.received.all.map(({ type }) => type)).toEqual(['subscribe', 'subscribe']);
  });

  it('subscribes once after a reconnect, and delivers no event twice', async () => {
    const { connection, server, stage, again } = await openSwapped();
    await untilStatus(again, 'live');
    const ids = [stage, again].map(recordEventIds);
    connection.send(event('e2', 'f2', { environment_id: '8' }));
    await untilEvent(again, 'e2');
    connection.socket.terminate();
    const next = await server.connections.next();
    next.hello();
    const subscribed = [await next.received.next(), await next.received.next()];
    expect(subscribed.map((message) => 'env_id' in message && message.env_id).sort()).toEqual(['7', '8']);
    next.send(
      event('e2', 'f2', { environment_id: '8' }),
      event('e3', 'f3', { environment_id: '8', cursor: 'c4' }),
      caughtUp('c4', swappedName),
    );
    await Promise.all([untilStatus(stage, 'live'), untilStatus(again, 'live')]);
    expect(ids).toEqual([
      ['e2', 'e3'],
      ['e2', 'e3'],
    ]);
    expect(next.received.all).toHaveLength(2);
  });

  it('contains the events of a batch whose cursor has not arrived yet', async () => {
    const { connection, server, client, prod, stage } = await startTwoChannels();
    server.environments.set('prod', '8').set('stage', '7');
    server.snapshot = { ...server.snapshot, cursor: 'c2' };
    connection.send(renamed(channelName, 'stage'), renamed(stageName, 'prod'));
    connection.send(
      event('e1', 'f1', { environment_id: '8', cursor: 'c2' }),
      event('e2', 'f2', { environment_id: '8' }),
    );
    await Promise.all([untilEvent(stage, 'e2'), until(prod, ({ environment }) => environment === 'stage')]);
    const again = client.channel(channelArguments);
    await untilStatus(again, 'live');
    connection.send(event('e3', 'f3', { environment_id: '8', cursor: 'c3' }));
    await untilEvent(again, 'e3');
    expect([...again.getState().features.keys()]).toEqual(['f1', 'f2', 'f3']);
  });

  it('has the newest state after a resync, independent of the order of the snapshots', async () => {
    const { connection, server, stage, again } = await openSwapped();
    await untilStatus(again, 'live');
    const held: ServerResponse[] = [];
    server.respondToSnapshot = (response) => held.push(response);
    const known = server.snapshots.all.length;
    connection.send({ type: 'resync', ...stageName, environment: 'prod', reason: 'too_many_missed' });
    while (server.snapshots.all.length < known + 2) await server.snapshots.next();
    const answer = (index: number, cursor: string, id: string): void => {
      const snapshot: Snapshot = { ...server.snapshot, ...swappedName, cursor, features: [feature(id)] };
      respondJson(held[index] as ServerResponse, 200, snapshot);
    };
    answer(0, 'c9', 'f9');
    let message = await connection.received.next();
    while (!('cursor' in message) || message.cursor !== 'c9') message = await connection.received.next();
    connection.send(event('e5', 'f5', { environment_id: '8', cursor: 'c10' }), caughtUp('c10', swappedName));
    await Promise.race([untilStatus(stage, 'live'), untilStatus(again, 'live')]);
    answer(1, 'c8', 'f8');
    await Promise.all([untilStatus(stage, 'live'), untilStatus(again, 'live')]);
    for (const channel of [stage, again])
      expect([...channel.getState().features.keys()]).toEqual(['f9', 'f5']);
  });

  /** Sends an event without a state. Returns the functions that answer the request of `stage`, then that of `again`. */
  async function requestSnapshots({
    connection,
    server,
  }: TwoChannelsFixture): Promise<
    [answerOlder: (name: string) => void, answerNewer: (name: string) => void]
  > {
    // Without jitter the requests follow the order of the channels.
    vi.spyOn(Math, 'random').mockReturnValue(0);
    const held: ((name: string) => void)[] = [];
    server.respondToSnapshot = (response) => {
      held.push((name) =>
        respondJson(response, 200, {
          ...server.snapshot,
          ...swappedName,
          features: [feature('f1', { name })],
        }),
      );
    };
    const { feature: _, ...incomplete } = event('e2', 'f2', { environment_id: '8', cursor: 'c3' });
    connection.send(incomplete);
    while (held.length < 2) await server.snapshots.next();
    return held as Awaited<ReturnType<typeof requestSnapshots>>;
  }

  const untilNamed = async (channel: Channel, name: string) =>
    await until(channel, ({ features }) => features.get('f1')?.name === name);

  it.each(['older', 'newer'])(
    'keeps the events after a reconnect when the snapshot of the %s channel arrives later',
    async (which) => {
      const two = await openSwapped();
      const { connection, server, stage, again } = two;
      await untilStatus(again, 'live');
      const answers = await requestSnapshots(two);
      const channels = [stage, again];
      if (which === 'older') {
        answers.reverse();
        channels.reverse();
      }
      const [loaded, loading] = channels as [Channel, Channel];
      answers[0]('first');
      await untilNamed(loaded, 'first');
      connection.socket.terminate();
      const next = await server.connections.next();
      next.hello();
      await next.received.next();
      await next.received.next();
      next.send(caughtUp('c3', swappedName), event('e3', 'f3', { environment_id: '8' }));
      await Promise.all(channels.map(async (channel) => await untilEvent(channel, 'e3')));
      answers[1]('second');
      await untilNamed(loading, 'second');
      for (const { getState } of channels) expect([...getState().features.keys()]).toContain('f3');
    },
  );

  it('delivers no event twice after a reconnect when a change that is no event made the states differ', async () => {
    const two = await openSwapped();
    const { connection, server, stage, again } = two;
    await untilStatus(again, 'live');
    const ids = [stage, again].map(recordEventIds);
    const [answerOlder, answerNewer] = await requestSnapshots(two);
    answerOlder('before');
    answerNewer('after');
    await Promise.all([untilNamed(stage, 'before'), untilNamed(again, 'after')]);
    connection.send(event('e3', 'f3', { environment_id: '8' }));
    await Promise.all([untilEvent(stage, 'e3'), untilEvent(again, 'e3')]);
    connection.socket.terminate();
    const next = await server.connections.next();
    next.hello();
    await next.received.next();
    await next.received.next();
    next.send(
      event('e3', 'f3', { environment_id: '8' }),
      event('e4', 'f4', { environment_id: '8', cursor: 'c4' }),
      caughtUp('c4', swappedName),
    );
    await Promise.all([untilEvent(stage, 'e4'), untilEvent(again, 'e4')]);
    expect(ids).toEqual([
      ['e2', 'e3', 'e4'],
      ['e2', 'e3', 'e4'],
    ]);
    expect(again.toSnapshot()).toEqual(stage.toSnapshot());
  });

  it.each(['older', 'newer'])(
    'stays live when the %s channel of the same environment is closed',
    async (which) => {
      const two = await openSwapped();
      const { connection } = two;
      const [stage, again] = which === 'older' ? [two.stage, two.again] : [two.again, two.stage];
      await untilStatus(two.again, 'live');
      stage.close();
      expect(await connection.received.next()).toMatchObject({ type: 'unsubscribe', env_id: '8' });
      connection.send({ type: 'unsubscribed', ...stageName, environment: 'prod' });
      expect(await connection.received.next()).toMatchObject({
        type: 'subscribe',
        env_id: '8',
        cursor: 'c2',
      });
      await untilStatus(stage, 'closed');
      connection.send(caughtUp('c2', swappedName));
      await untilStatus(again, 'live');
    },
  );
});
