import type { AnnounceMessage, PresenceUser, ServerMessage } from '#protocol';
import { describe, expect, it, onTestFinished, vi } from 'vitest';
import { type Presence, presence } from '../../src/presence/index.js';
import type { Client } from '../../src/index.js';
import { caughtUp, type ScriptedConnection } from './scripted-server.js';
import {
  channelArguments,
  startFixture,
  startLiveChannel,
  until,
  untilConnection,
  untilMessage,
  untilStatus,
} from './client-fixture.js';
import { openPage, type TestPage } from './page-globals.js';
import { TabFixture } from './tab-fixture.js';

const subject = { projectId: 'p1', environmentId: '7', featureId: 'f1' };
const announced = {
  type: 'announce',
  view: expect.any(String) as string,
  project_id: 'p1',
  env_id: '7',
  feature_id: 'f1',
};

function user(id: string, field: string | null = null): PresenceUser {
  return { user_id: id, username: `user ${id}`, field };
}

function present(...users: PresenceUser[]): ServerMessage {
  const ids = { project_id: 'p1', environment_id: '7', feature_id: 'f1' };
  return { type: 'presence', ...ids, users, count: users.length };
}

async function start(): Promise<{ client: Client; connection: ScriptedConnection; opened: Presence }> {
  const { client, connection } = await startLiveChannel();
  const opened = presence(client, subject);
  onTestFinished(opened.close);
  return { client, connection, opened };
}

function setHidden({ document }: TestPage, hidden: boolean): void {
  document.hidden = hidden;
  document.dispatchEvent(new Event('visibilitychange'));
}

describe('presence', () => {
  it('announces the subject, and has the other users', async () => {
    const { connection, opened } = await start();
    expect(await connection.received.next()).toEqual(announced);
    expect(opened.getState()).toEqual({ others: [], count: 0 });
    connection.send(present(user('2', 'name'), user('1'), user('3')));
    const { others, count } = await until(opened, (state) => state.count > 0);
    expect([others, count]).toEqual([[user('2', 'name'), user('3')], 2]);
    connection.send({ ...(present(user('4')) as object), feature_id: 'f2' } as ServerMessage);
    connection.send({ ...(present(user('1'), user('4')) as object), count: 5_000 } as ServerMessage);
    expect(await until(opened, (state) => state.count > 2)).toEqual({ others: [user('4')], count: 4_999 });
  });

  it('is renewed every 4 s, and sends a field that the user stays in', async () => {
    const { connection, opened } = await start();
    await connection.received.next();
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
    onTestFinished(() => void vi.useRealTimers());
    opened.setField('name');
    opened.setField('description');
    opened.setField('description');
    vi.advanceTimersByTime(200);
    expect(await connection.received.next()).toEqual({ ...announced, field: 'description' });
    vi.advanceTimersByTime(4_000);
    expect(await connection.received.next()).toEqual({ ...announced, field: 'description' });
    opened.setField(null);
    vi.advanceTimersByTime(200);
    expect(await connection.received.next()).toEqual(announced);
  });

  it('ends when it is closed, and while the page is hidden', async () => {
    const page = openPage();
    const { client, connection, opened } = await start();
    const { view } = (await connection.received.next()) as AnnounceMessage;
    connection.send(present(user('2')));
    await until(opened, ({ count }) => count === 1);
    setHidden(page, true);
    expect(await connection.received.next()).toEqual({ type: 'announce', view });
    expect(opened.getState().count).toBe(0);
    // It was on its way.
    const arrived = untilMessage(client, 'presence');
    connection.send(present(user('2')));
    await arrived;
    expect(opened.getState().count).toBe(0);
    setHidden(page, false);
    expect(await connection.received.next()).toEqual({ ...announced, view });
    opened.close();
    expect(await connection.received.next()).toEqual({ type: 'announce', view });
  });

  it('is announced again after a reconnect and after a resync, and has no others meanwhile', async () => {
    const { server, connect } = await startFixture();
    const client = connect();
    const channel = client.channel(channelArguments);
    const connection = await server.connections.next();
    const opened = presence(client, subject);
    onTestFinished(opened.close);
    await connection.accept('c1');
    await untilStatus(channel, 'live');
    expect(await connection.received.next()).toEqual(announced);
    connection.send(present(user('2')));
    await until(opened, ({ count }) => count === 1);
    const emptied = until(opened, ({ count }) => count === 0);
    connection.socket.terminate();
    await emptied;
    const next = await server.connections.next();
    await next.accept('c2');
    expect(await next.received.next()).toEqual(announced);
    next.send(caughtUp('c3'));
    expect(await next.received.next()).toEqual(announced);
  });

  it('is announced again at once when a late heartbeat has arrived', async () => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
    onTestFinished(() => void vi.useRealTimers());
    const { client, connection } = await start();
    const { view } = (await connection.received.next()) as AnnounceMessage;
    vi.advanceTimersByTime(15_000);
    expect(client.getStatus()).toMatchObject({ state: 'stale' });
    connection.send({ type: 'pong', timestamp: 1 });
    await untilConnection(client, 'live');
    const sent = [await connection.received.next()];
    while (sent.at(-1)?.type !== 'ping') sent.push(await connection.received.next());
    expect(await connection.received.next()).toEqual({ type: 'announce', view });
    expect(await connection.received.next()).toEqual({ ...announced, view });
  });

  it('ends with its client, and leaves no timer', async () => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
    onTestFinished(() => void vi.useRealTimers());
    const { client, connection } = await start();
    await connection.received.next();
    client.close();
    await vi.runOnlyPendingTimersAsync();
    expect(vi.getTimerCount()).toBe(0);
  });

  it('sends nothing to a server without presence', async () => {
    const { server, connect } = await startFixture();
    const client = connect();
    client.channel(channelArguments);
    const connection = await server.connections.next();
    connection.hello({ presence: false });
    await connection.received.next();
    const live = untilMessage(client, 'caught_up');
    connection.send(caughtUp('c1'));
    await live;
    const opened = presence(client, subject);
    opened.close();
    client.send({ type: 'ping' });
    expect(await connection.received.next()).toEqual({ type: 'ping' });
  });

  it('of a tab without a connection goes through the leading tab', async () => {
    const fixture = new TabFixture();
    await fixture.start();
    onTestFinished(() => fixture.close());
    const { follower, connection } = await fixture.startPair();
    const opened = presence(follower.client, subject);
    onTestFinished(opened.close);
    expect(await connection.received.next()).toEqual(announced);
    connection.send(present(user('1'), user('2')));
    expect(await until(opened, ({ count }) => count > 0)).toEqual({ others: [user('2')], count: 1 });
  });
});
