import { describe, expect, it, onTestFinished, vi } from 'vitest';
import {
  respondJson,
  caughtUp,
  channelName,
  event,
  feature,
  refused,
  renamed,
  stageName,
} from './scripted-server.js';
import {
  channelArguments,
  type ClientFixture,
  recordEventIds,
  stageArguments,
  startFixture,
  startTwoChannels,
  untilConnection,
  untilEvent,
  untilStatus,
} from './client-fixture.js';

/** Returns the environments of the snapshot requests, as `env=prod` or `env_id=7`. */
function requestedEnvironments({ server }: ClientFixture): (string | undefined)[] {
  return server.snapshots.all.map(({ url }) => url?.split('&')[1]);
}

describe('a channel', () => {
  it("sends the environment's key in its first request, and the id in all others", async () => {
    const fixture = await startFixture();
    const channel = fixture.connect().channel(channelArguments);
    expect(channel.getState().environment).toBeNull();
    const connection = await fixture.server.connections.next();
    connection.hello();
    expect(await connection.received.next()).toEqual({
      type: 'subscribe',
      project_id: 'p1',
      env_id: '7',
      cursor: 'c0',
    });
    connection.send(caughtUp('c1'));
    expect((await untilStatus(channel, 'live')).environment).toBe('prod');
    connection.send({ type: 'resync', ...channelName, reason: 'cursor_expired' });
    expect(await connection.received.next()).toMatchObject({ type: 'subscribe', env_id: '7' });
    expect(requestedEnvironments(fixture)).toEqual(['env=prod', 'env_id=7']);
    channel.close();
    expect(await connection.received.next()).toEqual({ type: 'unsubscribe', project_id: 'p1', env_id: '7' });
  });

  it('keeps receiving the events of its environment when two environments swap their keys', async () => {
    const { connection, prod, stage } = await startTwoChannels();
    const ids = [recordEventIds(prod), recordEventIds(stage)];
    connection.send(
      renamed(channelName, 'former-prod'),
      renamed(stageName, 'prod'),
      renamed({ ...channelName, environment: 'former-prod' }, 'stage'),
      event('e1', 'f1', {
        environment: 'stage',
        environment_id: '7',
        feature: feature('f1', { name: 'Seven' }),
      }),
      event('e2', 'f1', {
        environment: 'prod',
        environment_id: '8',
        feature: feature('f1', { name: 'Eight' }),
      }),
    );
    await Promise.all([untilEvent(prod, 'e1'), untilEvent(stage, 'e2')]);
    expect(ids).toEqual([['e1'], ['e2']]);
    expect([prod, stage].map((channel) => channel.getState().features.get('f1')?.name)).toEqual([
      'Seven',
      'Eight',
    ]);
    expect([prod, stage].map((channel) => channel.getState().environment)).toEqual(['stage', 'prod']);
    expect(prod.toSnapshot()).toMatchObject({ environment: 'stage', environment_id: '7' });
    expect([prod.env, stage.env]).toEqual(['prod', 'stage']);
  });

  it('ignores messages of another project whose environment has the same id', async () => {
    const { connection, prod } = await startTwoChannels();
    const ids = recordEventIds(prod);
    connection.send(event('e1', 'f1', { project_id: 'p2' }), event('e2', 'f1'));
    await untilEvent(prod, 'e2');
    expect(ids).toEqual(['e2']);
  });

  it("follows the environment's id when the key changed while the client was disconnected", async () => {
    const { server, connect } = await startFixture();
    const channel = connect().channel(channelArguments);
    const first = await server.connections.next();
    await first.accept('c1');
    await untilStatus(channel, 'live');
    first.socket.terminate();
    const second = await server.connections.next();
    second.hello();
    expect(await second.received.next()).toMatchObject({ env_id: '7', cursor: 'c1' });
    second.send(caughtUp('c2', { ...channelName, environment: 'production' }));
    const { environment } = await untilStatus(channel, 'live');
    expect(environment).toBe('production');
    expect(channel.toSnapshot()?.environment).toBe('production');
    expect(server.snapshots.all).toHaveLength(1);
  });

  it('resolves the key again when it is reopened', async () => {
    const fixture = await startFixture();
    const { server } = fixture;
    const client = fixture.connect();
    const first = client.channel(channelArguments);
    const stage = client.channel(stageArguments);
    const connection = await server.connections.next();
    connection.hello();
    await connection.received.next();
    await connection.received.next();
    first.close();
    expect(await connection.received.next()).toMatchObject({ type: 'unsubscribe', env_id: '7' });
    connection.send({ type: 'unsubscribed', ...channelName });
    await untilStatus(first, 'closed');
    server.environments.set('prod', '9');
    const second = client.channel(channelArguments);
    expect(second).not.toBe(first);
    expect(await connection.received.next()).toMatchObject({ type: 'subscribe', env_id: '9' });
    expect(stage.getState().status.state).not.toBe('closed');
  });
});

describe('the end of an environment', () => {
  const codes = ['environment_deleted', 'project_archived', 'project_deleted'];

  it.each(codes)('%s closes the channel of the environment and no other channel', async (code) => {
    const { connection, prod, stage, client } = await startTwoChannels();
    connection.send(refused(channelName, code));
    const { status } = await untilStatus(prod, 'closed');
    expect(status.state === 'closed' && status.error).toMatchObject({ code, message: 'No.' });
    connection.send(event('e1', 'f1', { environment: 'stage' }));
    await untilEvent(stage, 'e1');
    expect(stage.getState().status).toEqual({ state: 'live' });
    expect(client.getStatus()).toMatchObject({ state: 'live' });
  });

  it.each(codes)(
    'after close code 4504 with %s for its only channel, the client can open other channels',
    async (code) => {
      const { server, connect } = await startFixture();
      const client = connect();
      const channel = client.channel(channelArguments);
      const connection = await server.connections.next();
      await connection.accept('c1');
      await untilStatus(channel, 'live');
      connection.socket.close(4504, code);
      const { status } = await untilStatus(channel, 'closed');
      expect(status.state === 'closed' && status.error).toMatchObject({ code, closeCode: 4504 });
      await untilConnection(client, 'idle');
      const stage = client.channel(stageArguments);
      const next = await server.connections.next();
      next.hello();
      await next.received.next();
      next.send(caughtUp('c1', stageName));
      await untilStatus(stage, 'live');
    },
  );

  it('does not close a channel whose subscribe request is pending', async () => {
    const { server, connect } = await startFixture();
    const client = connect();
    const channel = client.channel(channelArguments);
    const connection = await server.connections.next();
    await connection.accept('c1');
    await untilStatus(channel, 'live');
    const stage = client.channel(stageArguments);
    expect(await connection.received.next()).toMatchObject({ type: 'subscribe', env_id: '8' });
    connection.socket.close(4504, 'environment_deleted');
    await untilStatus(channel, 'closed');
    const next = await server.connections.next();
    next.hello();
    expect(await next.received.next()).toMatchObject({ type: 'subscribe', env_id: '8' });
    next.send(caughtUp('c1', stageName));
    await untilStatus(stage, 'live');
  });

  it('does not close a channel whose snapshot request is pending', async () => {
    const { server, connect } = await startFixture();
    const client = connect();
    const channel = client.channel(channelArguments);
    const connection = await server.connections.next();
    await connection.accept('c1');
    await untilStatus(channel, 'live');
    let answer: () => void = () => undefined;
    server.respondToSnapshot = (response, request) =>
      (answer = () => server.respondWithSnapshot(response, request));
    const stage = client.channel(stageArguments);
    await server.snapshots.next();
    await server.snapshots.next();
    connection.socket.close(4504, 'environment_deleted');
    await untilStatus(channel, 'closed');
    await untilConnection(client, 'stale');
    answer();
    const next = await server.connections.next();
    next.hello();
    expect(await next.received.next()).toMatchObject({ type: 'subscribe', env_id: '8' });
    next.send(caughtUp('c1', stageName));
    await untilStatus(stage, 'live');
  });
});

it('an event with an unreadable feature state does not trigger a snapshot request', async () => {
  const { server, connect } = await startFixture();
  const channel = connect().channel(channelArguments);
  const connection = await server.connections.next();
  await connection.accept('c1');
  const before = await untilStatus(channel, 'live');
  // Without jitter a snapshot would be requested immediately.
  const random = vi.spyOn(Math, 'random').mockReturnValue(0);
  onTestFinished(() => random.mockRestore());
  const { feature: _, ...unreadable } = event('e1', 'f1', { feature_unreadable: true, cursor: 'c2' });
  connection.send(unreadable);
  await untilEvent(channel, 'e1');
  const other = connect().channel({ ...channelArguments, env: 'dev' });
  server.respondToSnapshot = (response) => respondJson(response, 403, { code: 'forbidden' });
  await untilStatus(other, 'closed');
  expect(server.snapshots.all.map(({ url }) => url?.split('&')[1])).toEqual(['env=prod', 'env=dev']);
  expect(channel.getState().features).toBe(before.features);
  expect(channel.toSnapshot()?.cursor).toBe('c2');
});
