import { once } from 'node:events';
import { beforeEach, describe, expect, it, onTestFinished, vi } from 'vitest';
import { event } from './scripted-server.js';
import { channelArguments, createChannelStore, startFixture, until, untilStatus } from './client-fixture.js';
import { openPage, type TestPage } from './page-globals.js';

let page: TestPage;

beforeEach(() => {
  page = openPage();
});

function fire(target: EventTarget, type: string): void {
  target.dispatchEvent(new Event(type, { bubbles: true }));
}

describe('a page', () => {
  it('makes the client stale on the offline event, and reconnect on the online event', async () => {
    const { server, connect } = await startFixture();
    const channel = connect().channel(channelArguments);
    await (await server.connections.next()).accept('c1');
    await untilStatus(channel, 'live');
    fire(page.window, 'offline');
    await untilStatus(channel, 'stale');
    fire(page.window, 'online');
    await (await server.connections.next()).accept('c2');
    await untilStatus(channel, 'live');
  });

  it.each(['visibilitychange', 'pageshow'])('makes the client send a ping on %s', async (type) => {
    const { server, connect } = await startFixture();
    const channel = connect().channel(channelArguments);
    const connection = await server.connections.next();
    await connection.accept('c1');
    await untilStatus(channel, 'live');
    fire(type === 'pageshow' ? page.window : page.document, type);
    expect(await connection.received.next()).toEqual({ type: 'ping' });
    connection.send({ type: 'pong', timestamp: 1 });
    expect(channel.getState().status).toEqual({ state: 'live' });
  });

  it('that the user often returns to notices that its connection is dead', async () => {
    const { server, connect } = await startFixture();
    const channel = connect().channel(channelArguments);
    const connection = await server.connections.next();
    await connection.accept('c1');
    await untilStatus(channel, 'live');
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
    onTestFinished(() => void vi.useRealTimers());
    fire(page.document, 'visibilitychange');
    vi.advanceTimersByTime(3_000);
    fire(page.document, 'visibilitychange');
    vi.advanceTimersByTime(3_000);
    expect(channel.getState().status).toMatchObject({ state: 'stale', reason: 'disconnected' });
  });

  it('that is left has no connection, so that the browser can keep it, and resumes when it is shown again', async () => {
    const { server, connect, errors } = await startFixture();
    const channel = connect().channel(channelArguments);
    const connection = await server.connections.next();
    await connection.accept('c1');
    await untilStatus(channel, 'live');
    const closed = once(connection.socket, 'close');
    fire(page.window, 'pagehide');
    await untilStatus(channel, 'stale');
    await closed;
    expect(errors).toEqual([]);
    fire(page.window, 'pageshow');
    expect(await (await server.connections.next()).accept('c2')).toBe('c1');
    await untilStatus(channel, 'live');
  });

  it('of another origin than its server reads how to allow it, because its browser hides the refusal', async () => {
    const { server, connect } = await startFixture();
    server.refuseUpgrade = (socket) => socket.end('HTTP/1.1 403 Forbidden\r\n\r\n');
    vi.stubGlobal('location', new URL('https://app.example.com/flags'));
    const client = connect();
    const channel = client.channel(channelArguments);
    const observable = { subscribe: client.subscribe, getState: client.getStatus };
    const { lastError } = await until(observable, ({ attempt }) => attempt === 1);
    await until(channel, ({ features }) => features.size > 0);
    expect(lastError?.message).toBe(
      `No connection to ${server.url}/ by websocket (1006). Is https://app.example.com in its FLAGCAST_ALLOWED_ORIGINS?`,
    );
  });

  it('has no listeners of the client after the client is closed', async () => {
    const added = vi.spyOn(globalThis, 'addEventListener');
    const { connect } = await startFixture();
    const client = connect();
    const signals = added.mock.calls.map(([, , options]) => (options as AddEventListenerOptions).signal);
    expect(signals).toHaveLength(5);
    client.close();
    expect(signals.every((signal) => signal?.aborted)).toBe(true);
  });

  it('is notified of a burst of events once per animation frame', async () => {
    const store = createChannelStore(10, () => undefined);
    let notifications = 0;
    store.view.subscribe(() => (notifications += 1));
    for (let index = 0; index <= 300; index += 1) store.apply(event(`e${index}`, `f${index}`));
    await until(store.view, ({ lastEvent }) => lastEvent?.id === 'e300');
    expect(notifications).toBe(2);
  });

  it('is notified by a timer if it gets no animation frames', async () => {
    vi.stubGlobal('requestAnimationFrame', () => 0);
    const store = createChannelStore(10, () => undefined);
    store.apply(event('e1', 'f1'));
    store.apply(event('e2', 'f1'));
    await until(store.view, ({ lastEvent }) => lastEvent?.id === 'e2');
  });
});
