// @vitest-environment happy-dom
import { describe, expect, it, vi } from 'vitest';
import { createStore } from '../src/store.js';
import { event } from './scripted-server.js';
import { channelArguments, startScene, until, untilStatus } from './watching.js';

interface HappyWindow {
  happyDOM: { settings: { fetch: { disableSameOriginPolicy: boolean } } };
}
// The page is nowhere; every server is foreign to it.
(window as unknown as HappyWindow).happyDOM.settings.fetch.disableSameOriginPolicy = true;

function fire(target: EventTarget, type: string): void {
  target.dispatchEvent(new Event(type, { bubbles: true }));
}

describe('a page', () => {
  it('is stale at once when it goes offline, and back at once when it is online', async () => {
    const { server, client } = await startScene();
    const channel = client().channel(channelArguments);
    await (await server.peers.next()).accept('c1');
    await untilStatus(channel, 'live');
    fire(window, 'offline');
    await untilStatus(channel, 'stale');
    fire(window, 'online');
    await (await server.peers.next()).accept('c2');
    await untilStatus(channel, 'live');
  });

  it.each(['visibilitychange', 'pageshow'])('asks on %s whether the line is alive', async (type) => {
    const { server, client } = await startScene();
    const channel = client().channel(channelArguments);
    const peer = await server.peers.next();
    await peer.accept('c1');
    await untilStatus(channel, 'live');
    fire(type === 'pageshow' ? window : document, type);
    expect(await peer.received.next()).toEqual({ type: 'ping' });
    peer.send({ type: 'pong', timestamp: 1 });
    expect(channel.getState().status).toEqual({ state: 'live' });
  });

  it('is left alone once the client is closed', async () => {
    const added = vi.spyOn(window, 'addEventListener');
    const { client } = await startScene();
    const own = client();
    const signals = added.mock.calls.map(([, , options]) => (options as AddEventListenerOptions).signal);
    expect(signals).toHaveLength(4);
    own.close();
    expect(signals.every((signal) => signal?.aborted)).toBe(true);
    added.mockRestore();
  });

  it('is told of a burst once a frame', async () => {
    const store = createStore(10, () => undefined);
    let notifications = 0;
    store.view.subscribe(() => (notifications += 1));
    for (let index = 0; index <= 300; index += 1) store.apply(event(`e${index}`, `f${index}`));
    await until(store.view, ({ lastEvent }) => lastEvent?.id === 'e300');
    expect(notifications).toBe(2);
  });

  it('is told all the same when it gets no frames any more', async () => {
    vi.stubGlobal('requestAnimationFrame', () => 0);
    const store = createStore(10, () => undefined);
    store.apply(event('e1', 'f1'));
    store.apply(event('e2', 'f1'));
    await until(store.view, ({ lastEvent }) => lastEvent?.id === 'e2');
    vi.unstubAllGlobals();
  });
});
