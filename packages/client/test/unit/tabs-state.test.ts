import type { EventMessage } from '#protocol';
import { describe, expect, it, onTestFinished, vi } from 'vitest';
import type { Channel } from '../../src/index.js';
import {
  caughtUp,
  channelName,
  event,
  feature,
  fresh,
  heartbeat,
  refused,
  renamed,
  stageName,
  stale,
} from './scripted-server.js';
import { type TabPair, useTabFixture } from './tab-fixture.js';
import {
  channelArguments,
  recordEventIds,
  stageArguments,
  until,
  untilConnection,
  untilEvent,
  untilStatus,
  useFastClock,
} from './client-fixture.js';

const fixture = useTabFixture();

describe('the status of shared tabs', () => {
  it('a follower is stale while the leader is disconnected, and live afterwards', async () => {
    const { connection, leaderChannel, followerChannel, follower } = await fixture.startPair();
    const stale = Promise.all([untilStatus(leaderChannel, 'stale'), untilStatus(followerChannel, 'stale')]);
    connection.socket.terminate();
    await stale;
    expect(follower.client.getStatus().state).toBe('stale');
    const again = await fixture.server.connections.next();
    again.hello();
    await again.received.next();
    await untilStatus(followerChannel, 'catching-up');
    again.send(event('e1', 'f1', { cursor: 'c2' }), caughtUp('c2'));
    await Promise.all([untilStatus(leaderChannel, 'live'), untilStatus(followerChannel, 'live')]);
    expect(followerChannel.getState().lastEvent?.id).toBe('e1');
    expect(fixture.server.snapshots.all).toHaveLength(1);
  });

  it.each([
    ['while it is live', true],
    ['before its snapshot', false],
  ])('a channel that is refused %s closes in both tabs with the same error', async (_when, isLive) => {
    const { connection } = await fixture.startPair();
    const stage = { projectId: 'p1', env: 'stage' };
    const refusal = { code: 'forbidden', message: 'No.' };
    if (!isLive) {
      fixture.server.respondToSnapshot = (response) => {
        response.writeHead(403, { 'Content-Type': 'application/json' }).end(JSON.stringify(refusal));
      };
    }
    const channels = fixture.browser.tabs.map(({ client }) => client.channel(stage));
    if (isLive) {
      while ((await connection.received.next()).type !== 'subscribe' || connection.received.all.length < 2);
      connection.send(caughtUp('c1', stageName));
      await Promise.all(channels.map(async (channel) => await untilStatus(channel, 'live')));
      connection.send({ type: 'error', ...refusal, project_id: 'p1', environment_id: '8' });
    }
    for (const channel of channels) {
      const { status } = await untilStatus(channel, 'closed');
      expect(status.state === 'closed' && status.error).toMatchObject(refusal);
    }
  });

  it('after the server has refused the token of the leader, each tab closes with its own refusal', async () => {
    const { leader, follower, connection } = await fixture.startPair();
    connection.socket.close(4501, 'token_invalid');
    const next = await fixture.server.connections.next();
    next.socket.close(4503, 'user_inactive');
    for (const [tab, code] of [
      [leader, 'token_invalid'],
      [follower, 'user_inactive'],
    ] as const) {
      const status = await untilConnection(tab.client, 'closed');
      expect(status.state === 'closed' && status.error).toMatchObject({ code });
    }
  });

  it('after a resync, both tabs have the new snapshot, which is requested once', async () => {
    const { connection, leaderChannel, followerChannel } = await fixture.startPair();
    fixture.server.snapshot = { ...fixture.server.snapshot, cursor: 'c9', features: [feature('f9')] };
    connection.send({ type: 'resync', ...channelName, reason: 'history_changed' });
    expect(await connection.received.next()).toMatchObject({ type: 'subscribe', cursor: 'c9' });
    connection.send(caughtUp('c9'));
    await Promise.all(
      [leaderChannel, followerChannel].map(async (channel) => {
        await until(channel, ({ features, status }) => features.has('f9') && status.state === 'live');
        expect([...channel.getState().features.keys()]).toEqual(['f9']);
      }),
    );
    expect(fixture.server.snapshots.all).toHaveLength(2);
  });

  it('a heartbeat advances the cursor of every tab', async () => {
    const { leader, connection, followerChannel } = await fixture.startPair();
    connection.send(heartbeat('c7'));
    await new Promise<void>((resolve) => {
      fixture.browser.tabs[1]?.client.onMessage((message) => {
        if ('type' in message && message.type === 'heartbeat') resolve();
      });
    });
    leader.crash();
    expect(await (await fixture.server.connections.next()).accept('c8')).toBe('c7');
    await untilStatus(followerChannel, 'live');
  });

  it('followers, including new ones, are stale with the reason of the server', async () => {
    const { connection, leaderChannel, followerChannel, follower } = await fixture.startPair();
    const since = '2026-01-02T03:04:05.678Z';
    const status = { state: 'stale', sinceMs: Date.parse(since), reason: 'read_failed' };
    connection.send(stale(since, 'read_failed'));
    for (const channel of [leaderChannel, followerChannel])
      expect((await untilStatus(channel, 'stale')).status).toEqual(status);
    expect(follower.client.getStatus()).toMatchObject(status);
    const third = fixture.openTab().client.channel(channelArguments);
    expect((await untilStatus(third, 'stale')).status).toEqual(status);
    connection.send(event('e1', 'f1', { cursor: 'c2' }));
    await Promise.all([followerChannel, third].map(async (channel) => await untilEvent(channel, 'e1')));
    expect(followerChannel.getState().status).toEqual(status);
    connection.send(fresh);
    await Promise.all(
      [leaderChannel, followerChannel, third].map(async (channel) => await untilStatus(channel, 'live')),
    );
    expect(fixture.server.upgrades.all).toHaveLength(1);
    expect(fixture.server.snapshots.all).toHaveLength(1);
  });

  it('the connection of a new leader is fresh until its server reports that it is stale', async () => {
    const { leader, connection, followerChannel } = await fixture.startPair();
    connection.send(stale('2026-01-01T00:00:00Z'));
    await untilStatus(followerChannel, 'stale');
    leader.client.close();
    await (await fixture.server.connections.next()).accept('c2');
    await untilStatus(followerChannel, 'live');
  });

  it('followers return when a late heartbeat shows that the connection of the leader is not lost', async () => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'Date'], shouldAdvanceTime: true });
    onTestFinished(() => void vi.useRealTimers());
    const { connection, leaderChannel, followerChannel } = await fixture.startPair();
    const silent = [leaderChannel, followerChannel].map(
      async (channel) => await untilStatus(channel, 'stale'),
    );
    // The interval of heartbeats is 13.5 s.
    await vi.advanceTimersByTimeAsync(15_000);
    await Promise.all(silent);
    connection.send(heartbeat('c2'));
    await Promise.all(
      [leaderChannel, followerChannel].map(async (channel) => await untilStatus(channel, 'live')),
    );
    const third = fixture.openTab().client.channel(channelArguments);
    await untilStatus(third, 'live');
    connection.send(event('e1', 'f1', { cursor: 'c3' }));
    await Promise.all([followerChannel, third].map(async (channel) => await untilEvent(channel, 'e1')));
    expect(fixture.server.upgrades.all).toHaveLength(1);
  });

  it('sinceMs of a follower is the time of the newest heartbeat after the leader lost its connection', async () => {
    const { connection, follower, followerChannel } = await fixture.startPair();
    const since = '2026-01-02T03:04:05.678Z';
    const taken = new Promise<void>((resolve) => {
      follower.client.onMessage((message) => {
        if ('type' in message && message.type === 'heartbeat') resolve();
      });
    });
    connection.send(heartbeat('c2', since));
    await taken;
    connection.socket.terminate();
    expect((await untilStatus(followerChannel, 'stale')).status).toEqual({
      state: 'stale',
      sinceMs: Date.parse(since),
      reason: 'disconnected',
    });
  });

  it('an event with an unreadable feature state does not delay the snapshot of a new tab', async () => {
    const { connection, followerChannel } = await fixture.startPair();
    const { feature: _, ...unreadable } = event('e1', 'f1', { feature_unreadable: true, cursor: 'c2' });
    connection.send(unreadable);
    await untilEvent(followerChannel, 'e1');
    const third = fixture.openTab().client.channel(channelArguments);
    await untilStatus(third, 'live');
    expect(third.getState().features).toEqual(followerChannel.getState().features);
    expect(fixture.server.snapshots.all).toHaveLength(1);
  });

  it('events without feature state do not delay the snapshot of a new tab if the server has no feature tables', async () => {
    fixture.server.snapshot = { ...fixture.server.snapshot, embedded_state: false, features: [] };
    const { connection, followerChannel } = await fixture.startPair();
    const { feature: _, ...bare } = event('e1', 'f1', { cursor: 'c2' });
    connection.send(bare);
    await untilEvent(followerChannel, 'e1');
    await untilStatus(fixture.openTab().client.channel(channelArguments), 'live');
    expect(fixture.server.snapshots.all).toHaveLength(1);
  });

  it('after events without feature state, both tabs have a snapshot that was requested later', async () => {
    const { connection, leaderChannel, followerChannel } = await fixture.startPair();
    const bare = (id: string): EventMessage => {
      const message = event(id, 'f1', { cursor: `c-${id}` });
      delete message.feature;
      return message;
    };
    fixture.server.snapshot = { ...fixture.server.snapshot, features: [feature('f1', { name: 'New' })] };
    connection.send(bare('e1'));
    await Promise.all(
      [leaderChannel, followerChannel].map(async (channel) => {
        await until(channel, ({ features }) => features.get('f1')?.name === 'New');
        expect(channel.getState().status).toEqual({ state: 'live' });
      }),
    );
    expect(fixture.server.snapshots.all).toHaveLength(2);
  });
});

describe('a shared channel whose environment gets a new key', () => {
  const production = { ...channelName, environment: 'production' };

  it('stays live in all tabs and shows the new key', async () => {
    const { connection, leaderChannel, followerChannel } = await fixture.startPair();
    connection.send(renamed(channelName, 'production'), event('e1', 'f1', { ...production, cursor: 'c2' }));
    for (const channel of [leaderChannel, followerChannel]) {
      await untilEvent(channel, 'e1');
      expect(channel.getState().environment).toBe('production');
      expect(channel.toSnapshot()).toMatchObject(production);
    }
  });

  it('is resumed by the next leader with the id of the environment', async () => {
    const { leader, connection, followerChannel } = await fixture.startPair();
    const third = fixture.openTab().client.channel(channelArguments);
    await untilStatus(third, 'live');
    connection.send(renamed(channelName, 'production'));
    for (const channel of [followerChannel, third]) {
      await until(channel, ({ environment }) => environment === 'production');
    }
    leader.crash();
    const next = await fixture.server.connections.next();
    next.hello();
    expect(await next.received.next()).toMatchObject({ type: 'subscribe', env_id: '7', cursor: 'c1' });
    next.send(event('e1', 'f1', { ...production, cursor: 'c2' }), caughtUp('c2', production));
    await Promise.all([followerChannel, third].map(async (channel) => await untilEvent(channel, 'e1')));
    await Promise.all([followerChannel, third].map(async (channel) => await untilStatus(channel, 'live')));
    expect(fixture.server.snapshots.all).toHaveLength(1);
  });

  it('delivers the missed events to a tab that was frozen during the change', async () => {
    const { follower, connection, leaderChannel, followerChannel } = await fixture.startPair();
    connection.send(renamed(channelName, 'production'));
    await until(followerChannel, ({ environment }) => environment === 'production');
    follower.fire('pagehide');
    await untilStatus(followerChannel, 'stale');
    connection.send(event('e1', 'f1', { ...production, cursor: 'c2' }), event('e2', 'f2', production));
    await untilEvent(leaderChannel, 'e2');
    const ids = recordEventIds(followerChannel);
    follower.fire('pageshow');
    await untilStatus(followerChannel, 'live');
    connection.send(event('e3', 'f3', { ...production, cursor: 'c3' }));
    await untilEvent(followerChannel, 'e3');
    // A tab that loads a snapshot gets no events for what it contains.
    expect(ids).toEqual(['e1', 'e2', 'e3']);
    expect(connection.received.all.map(({ type }) => type)).toEqual(['subscribe']);
  });

  it('is opened by its id when the leader opens it for another tab', async () => {
    const leader = fixture.openTab();
    leader.client.channel({ projectId: 'p1', env: 'dev' });
    const connection = await fixture.server.connections.next();
    await connection.accept('c1');
    const tab = fixture.openTab();
    const channel = tab.client.channel(channelArguments);
    expect(await connection.received.next()).toMatchObject({ type: 'subscribe', env_id: '7' });
    connection.send(caughtUp('c1'));
    await untilStatus(channel, 'live');
    tab.fire('pagehide');
    expect(await connection.received.next()).toMatchObject({ type: 'unsubscribe', env_id: '7' });
    const closed = new Promise<void>((resolve) => {
      leader.client.onMessage((message) => {
        if ('type' in message && message.type === 'unsubscribed') resolve();
      });
    });
    connection.send({ type: 'unsubscribed', ...channelName });
    await closed;
    fixture.server.environments.delete('prod');
    fixture.server.environments.set('production', '7');
    // The tab does not respond to the state request of the leader, as if it were busy.
    tab.setUnresponsive(true);
    useFastClock();
    tab.fire('pageshow');
    expect(await connection.received.next()).toMatchObject({ type: 'subscribe', env_id: '7' });
    expect(fixture.server.snapshots.all.at(-1)?.url).toBe('/api/snapshot?project_id=p1&env_id=7');
  });

  it('is not returned to another tab that opens the previous key', async () => {
    const { connection, followerChannel } = await fixture.startPair();
    connection.send(renamed(channelName, 'production'));
    await until(followerChannel, ({ environment }) => environment === 'production');
    fixture.server.environments.delete('prod');
    fixture.server.environments.set('production', '7').set('prod', '8');
    fixture.server.snapshot = { ...fixture.server.snapshot, features: [feature('f8')] };
    const other = fixture.openTab().client.channel(channelArguments);
    expect(await connection.received.next()).toMatchObject({ type: 'subscribe', env_id: '8' });
    connection.send(caughtUp('c1', { ...stageName, environment: 'prod' }));
    expect([...(await untilStatus(other, 'live')).features.keys()]).toEqual(['f8']);
    connection.send(
      event('e1', 'f1', { ...production, cursor: 'c2' }),
      event('e2', 'f8', { environment_id: '8', cursor: 'c3' }),
    );
    await Promise.all([untilEvent(followerChannel, 'e1'), untilEvent(other, 'e2')]);
    expect(other.getState().activity).toHaveLength(1);
    expect(followerChannel.getState().features.has('f8')).toBe(false);
  });

  it.each(['environment_deleted', 'project_archived'])('closes in all tabs after %s', async (code) => {
    const { connection, leaderChannel, followerChannel } = await fixture.startPair();
    const stage = fixture.openTab().client.channel(stageArguments);
    await connection.received.next();
    connection.send(caughtUp('c1', stageName), refused(channelName, code));
    for (const channel of [leaderChannel, followerChannel]) {
      const { status } = await untilStatus(channel, 'closed');
      expect(status.state === 'closed' && status.error).toMatchObject({ code });
    }
    await untilStatus(stage, 'live');
  });

  it('closes in each tab with the response of the server if it was the only channel', async () => {
    const { connection, leaderChannel, followerChannel } = await fixture.startPair();
    connection.socket.close(4504, 'environment_deleted');
    const next = await fixture.server.connections.next();
    next.hello();
    expect(await next.received.next()).toMatchObject({ type: 'subscribe', env_id: '7' });
    next.send(refused(channelName, 'unknown_environment'));
    for (const [channel, code] of [
      [leaderChannel, 'environment_deleted'],
      [followerChannel, 'unknown_environment'],
    ] as const) {
      const { status } = await untilStatus(channel, 'closed');
      expect(status.state === 'closed' && status.error).toMatchObject({ code });
    }
  });
});

describe('a channel that is open only in a follower', () => {
  const stage = { projectId: 'p1', env: 'stage' };
  const environment = stageName;

  async function openStage(): Promise<TabPair & { readonly channel: Channel }> {
    const pair = await fixture.startPair();
    fixture.server.snapshot = { ...fixture.server.snapshot, ...environment };
    const channel = pair.follower.client.channel(stage);
    expect(await pair.connection.received.next()).toMatchObject({ type: 'subscribe', env_id: '8' });
    pair.connection.send(caughtUp('c1', environment));
    await untilStatus(channel, 'live');
    return { ...pair, channel };
  }

  it('is opened by the leader, and closed when the follower closes it', async () => {
    const { connection, channel, followerChannel } = await openStage();
    channel.close();
    expect(await connection.received.next()).toMatchObject({ type: 'unsubscribe', env_id: '8' });
    expect((await untilStatus(channel, 'closed')).status).toEqual({ state: 'closed', error: null });
    expect(followerChannel.getState().status).toEqual({ state: 'live' });
  });

  it('is closed when the follower is killed', async () => {
    const { connection, follower } = await openStage();
    follower.crash();
    expect(await connection.received.next()).toMatchObject({ type: 'unsubscribe', env_id: '8' });
  });

  it('stays open while another tab has it open', async () => {
    const { connection, channel, leader, followerChannel } = await openStage();
    const stageOfLeader = leader.client.channel(stage);
    await untilStatus(stageOfLeader, 'live');
    channel.close();
    await untilStatus(channel, 'closed');
    connection.send(
      event('e1', 'f1', { environment: 'stage', cursor: 'c2' }),
      event('e2', 'f1', { cursor: 'c3' }),
    );
    await Promise.all([untilEvent(stageOfLeader, 'e1'), untilEvent(followerChannel, 'e2')]);
    expect(connection.received.all.map(({ type }) => type)).toEqual(['subscribe', 'subscribe']);
  });
});
