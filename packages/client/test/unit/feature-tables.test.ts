import type { ServerResponse } from 'node:http';
import type { EventMessage, Snapshot } from '#protocol';
import { describe, expect, it, onTestFinished, vi } from 'vitest';
import { channelArguments, startFixture, until, untilStatus } from './client-fixture.js';
import { caughtUp, event, feature, respondJson, step } from './scripted-server.js';

describe('an event without the state of its feature', () => {
  const bare = (id: string, changes: Partial<EventMessage>): EventMessage => {
    const message = event(id, 'f1', changes);
    delete message.feature;
    return message;
  };

  /** A channel that is live and waits for the snapshot after an event without state. */
  async function startReload() {
    const { server, connect } = await startFixture();
    const channel = connect().channel(channelArguments);
    const connection = await server.connections.next();
    await connection.accept('c1');
    await untilStatus(channel, 'live');
    const responses: ServerResponse[] = [];
    server.respondToSnapshot = (response) => responses.push(response);
    const ids: string[] = [];
    channel.onEvent(({ id }) => ids.push(id));
    // The first events of a batch, whose last one has the cursor.
    connection.send(bare('e1', {}));
    await server.snapshots.next();
    await server.snapshots.next();
    const respond = (changes: Partial<Snapshot>): void =>
      respondJson(responses.shift() as ServerResponse, 200, { ...server.snapshot, ...changes });
    return { server, channel, connection, ids, respond };
  }

  it('leads to a snapshot, which takes back none of the events since it was requested', async () => {
    const { channel, connection, ids, respond } = await startReload();
    connection.send(
      step('e2', 'p1', 'pending', 'f1'),
      event('e3', 'f1', { feature: feature('f1', { name: 'newer' }) }),
      event('e4', 'f2', { type: 'feature_deleted', action: 'deleted', feature: null, cursor: 'c2' }),
    );
    await until(channel, ({ lastEvent }) => lastEvent?.id === 'e4');
    const { activity, lagMs } = channel.getState();
    respond({ features: [feature('f1', { name: 'older' }), feature('f2'), feature('f3')] });
    const { features, pendingChanges, ...state } = await until(channel, ({ features: all }) => all.has('f3'));
    expect([...features.values()].map(({ id, name }) => [id, name])).toEqual([
      ['f1', 'newer'],
      ['f3', 'Feature f3'],
    ]);
    expect(pendingChanges.get('f1')).toMatchObject([{ id: 'p1' }]);
    expect(state).toMatchObject({ status: { state: 'live' }, activity, lagMs });
    expect(ids).toEqual(['e1', 'e2', 'e3', 'e4']);
  });

  it('leads to a snapshot, after which a resumed batch is still delivered once', async () => {
    const { server, channel, connection, ids, respond } = await startReload();
    respond({ features: [feature('f3')] });
    await until(channel, ({ features }) => features.has('f3'));
    connection.socket.terminate();
    await (await server.connections.next()).accept('c2', bare('e1', {}), event('e2', 'f1', { cursor: 'c2' }));
    await until(channel, ({ lastEvent }) => lastEvent?.id === 'e2');
    expect(ids).toEqual(['e1', 'e2']);
  });
});

describe('a server without feature tables', () => {
  const bare = (id: string): EventMessage => {
    const message = event(id, 'f1', { cursor: `c-${id}` });
    delete message.feature;
    return message;
  };

  it('receives no second snapshot request after events without feature state', async () => {
    const { server, connect } = await startFixture();
    server.snapshot = { ...server.snapshot, embedded_state: false, features: [] };
    const channel = connect().channel(channelArguments);
    const connection = await server.connections.next();
    await connection.accept();
    await untilStatus(channel, 'live');
    // Without jitter the next snapshot would be requested immediately.
    const random = vi.spyOn(Math, 'random').mockReturnValue(0);
    onTestFinished(() => random.mockRestore());
    connection.send(bare('e1'));
    await until(channel, ({ lastEvent }) => lastEvent?.id === 'e1');
    connection.send(bare('e2'));
    await until(channel, ({ lastEvent }) => lastEvent?.id === 'e2');
    connect().channel({ ...channelArguments, env: 'dev' });
    const requests = [await server.snapshots.next(), await server.snapshots.next()];
    expect(requests.map(({ url }) => url)).toEqual([
      '/api/snapshot?project_id=p1&env=prod',
      '/api/snapshot?project_id=p1&env=dev',
    ]);
    expect(channel.getState()).toMatchObject({
      status: { state: 'live' },
      activity: [{ id: 'e2' }, { id: 'e1' }],
    });
  });

  it('that loses its feature tables receives one snapshot request per burst, and one for events during the request', async () => {
    const { server, connect } = await startFixture();
    const channel = connect().channel(channelArguments);
    const connection = await server.connections.next();
    connection.hello({ embedded_state: false });
    await connection.received.next();
    await server.snapshots.next();
    connection.send(caughtUp('c1'));
    await untilStatus(channel, 'live');
    const held: ServerResponse[] = [];
    server.respondToSnapshot = (response) => {
      held.push(response);
      if (held.length === 2) respondJson(response, 200, snapshotNamed('second'));
    };
    const snapshotNamed = (name: string): Snapshot => ({
      ...server.snapshot,
      cursor: 'c-snapshot',
      features: [feature('f1', { name })],
    });
    for (let index = 0; index < 20; index += 1) connection.send(bare(`e${index}`));
    await server.snapshots.next();
    for (let index = 20; index < 40; index += 1) connection.send(bare(`e${index}`));
    await until(channel, ({ lastEvent }) => lastEvent?.id === 'e39');
    respondJson(held[0] as ServerResponse, 200, snapshotNamed('first'));
    await until(channel, ({ features }) => features.get('f1')?.name === 'second');
    expect(server.snapshots.all).toHaveLength(3);
    expect(channel.getState().status).toEqual({ state: 'live' });
    // The client resumes from the stream's cursor: the snapshot may contain events that have not arrived yet.
    connection.socket.terminate();
    expect(await (await server.connections.next()).accept()).toBe('c-e39');
  });
});
