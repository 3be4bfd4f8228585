import type { ServerResponse } from 'node:http';
import type { EventMessage, Snapshot } from '#protocol';
import { describe, expect, it, onTestFinished, vi } from 'vitest';
import { channelArguments, startFixture, until, untilStatus } from './client-fixture.js';
import { caughtUp, event, feature, respondJson } from './scripted-server.js';

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
