// @vitest-environment happy-dom
import { act, type ReactNode, StrictMode, useEffect } from 'react';
import { createRoot, hydrateRoot, type Root } from 'react-dom/client';
import { renderToString } from 'react-dom/server';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import {
  FlagcastProvider,
  useActivity,
  useChannel,
  useChannelState,
  useConnectionStatus,
  useFeature,
  useFeatures,
  usePendingChanges,
} from '../src/react/index.js';
import type { Channel, Client } from '../src/index.js';
import { createStore, type Store } from '../src/store.js';
import {
  caughtUp,
  channelName,
  event,
  feature,
  pendingChange,
  type ScriptedPeer,
  type ScriptedServer,
  stageName,
  step,
} from './scripted-server.js';
import { channelArguments, startScene, until, untilStatus } from './watching.js';

interface Page {
  IS_REACT_ACT_ENVIRONMENT: boolean;
  window: { happyDOM: { settings: { fetch: { disableSameOriginPolicy: boolean } } } };
}
const page = globalThis as unknown as Page;
// The page is nowhere; every server is foreign to it.
page.window.happyDOM.settings.fetch.disableSameOriginPolicy = true;

let container: HTMLElement;
let root: Root | undefined;
beforeEach(() => {
  page.IS_REACT_ACT_ENVIRONMENT = true;
  container = document.createElement('div');
});
afterEach(() => {
  act(() => root?.unmount());
  root = undefined;
});

function show(element: ReactNode): void {
  root ??= createRoot(container);
  const shown = root;
  act(() => shown.render(element));
}

/** A channel without a connection: the store is the test's. */
function filledChannel(): { store: Store; channel: Channel } {
  const store = createStore(200, () => undefined);
  store.replace({
    ...channelName,
    cursor: 'c0',
    features: [feature('f1'), feature('f2')],
    embedded_state: true,
    pending_changes: [pendingChange('p1', ['f1'])],
  });
  const channel = { ...channelArguments, ...store.view, toSnapshot: () => null, close: () => undefined };
  return { store, channel };
}

/** Applies, and waits until all that was applied is on the screen. */
async function applied(store: Store, apply: () => void): Promise<void> {
  const last = event(`last-${Math.random()}`, 'none', { feature: null });
  await act(async () => {
    apply();
    store.apply(last);
    await until(store.view, (state) => state.lastEvent === last);
  });
}

/** Shows what the hook gives, and keeps all that it gave: one element for each rendering. */
function probe<Given>(use: () => Given): { Probe: () => ReactNode; given: Given[] } {
  const given: Given[] = [];
  const Probe = (): ReactNode => {
    given.push(use());
    return null;
  };
  return { Probe, given };
}

describe('a component is rendered again only when its part changes', () => {
  it('useFeature', async () => {
    const { store, channel } = filledChannel();
    const first = probe(() => useFeature('f1'));
    const second = probe(() => useFeature('f2'));
    show(
      <FlagcastProvider channel={channel}>
        <first.Probe />
        <second.Probe />
      </FlagcastProvider>,
    );
    await applied(store, () => store.apply(event('e1', 'f1')));
    expect(first.given.map((given) => given?.enabled)).toEqual([false, true]);
    expect(second.given).toHaveLength(1);
    await applied(store, () => store.apply(event('e2', 'f1', { action: 'deleted', feature: null })));
    expect(first.given.at(-1)).toBeUndefined();
    expect(second.given).toHaveLength(1);
  });

  it('a burst of events of one feature costs a rendering a frame', async () => {
    const { store, channel } = filledChannel();
    const { Probe, given } = probe(() => useFeature('f1'));
    show(
      <FlagcastProvider channel={channel}>
        <Probe />
      </FlagcastProvider>,
    );
    await applied(store, () => {
      for (let index = 0; index < 300; index += 1) {
        store.apply(event(`e${index}`, 'f1', { feature: feature('f1', { name: `Name ${index}` }) }));
      }
    });
    expect(given.at(-1)?.name).toBe('Name 299');
    expect(given.length).toBeLessThanOrEqual(3);
  });

  it('useFeatures: what a selector makes anew stays the same object while its elements do', async () => {
    const { store, channel } = filledChannel();
    const all = probe(() => useFeatures());
    const enabled = probe(() =>
      useFeatures((features) => [...features.values()].filter((one) => one.enabled)),
    );
    const counts = probe(() => useFeatures((features) => ({ all: features.size })));
    show(
      <FlagcastProvider channel={channel}>
        <all.Probe />
        <enabled.Probe />
        <counts.Probe />
      </FlagcastProvider>,
    );
    const renamed = event('e1', 'f1', { feature: feature('f1', { name: 'New' }) });
    await applied(store, () => store.apply(renamed));
    expect(all.given.map((features) => features.get('f1')?.name)).toEqual(['Feature f1', 'New']);
    expect(enabled.given).toHaveLength(1);
    expect(counts.given).toHaveLength(1);
    await applied(store, () => store.apply(event('e2', 'f2')));
    expect(enabled.given.map((features) => features.length)).toEqual([0, 1]);
    expect(counts.given).toHaveLength(1);
  });

  it('a selector that was written inline keeps its object through renderings of the parent', () => {
    const { channel } = filledChannel();
    const { Probe, given } = probe(() => useFeatures((features) => [...features.keys()]));
    const App = ({ title }: { title: string }): ReactNode => (
      <FlagcastProvider channel={channel}>
        {title}
        <Probe />
      </FlagcastProvider>
    );
    show(<App title="one" />);
    show(<App title="two" />);
    expect(given).toHaveLength(2);
    expect(given[1]).toBe(given[0]);
  });

  it('usePendingChanges', async () => {
    const { store, channel } = filledChannel();
    const first = probe(() => usePendingChanges('f1'));
    const second = probe(() => usePendingChanges('f2'));
    const all = probe(() => usePendingChanges());
    show(
      <FlagcastProvider channel={channel}>
        <first.Probe />
        <second.Probe />
        <all.Probe />
      </FlagcastProvider>,
    );
    await applied(store, () => store.apply(step('e1', 'p2', 'pending', 'f2')));
    expect(second.given.map((changes) => changes.map(({ id }) => id))).toEqual([[], ['p2']]);
    expect(first.given).toHaveLength(1);
    await applied(store, () => store.apply(step('e2', 'p2', 'approved', 'f2')));
    expect(second.given.at(-1)).toEqual([]);
    expect(first.given).toHaveLength(1);
    expect(all.given.map((changes) => [...changes.keys()])).toEqual([['f1'], ['f1', 'f2'], ['f1']]);
  });

  it('useActivity, useConnectionStatus and useChannelState', async () => {
    const { store, channel } = filledChannel();
    const activity = probe(useActivity);
    const status = probe(useConnectionStatus);
    const lag = probe(() => useChannelState((state) => state.lagMs !== null));
    show(
      <FlagcastProvider channel={channel}>
        <activity.Probe />
        <status.Probe />
        <lag.Probe />
      </FlagcastProvider>,
    );
    await applied(store, () => store.apply(event('e1', 'f1')));
    expect(activity.given.at(-1)?.map(({ id }) => id)).toContain('e1');
    expect(lag.given).toEqual([false, true]);
    expect(status.given).toEqual([{ state: 'connecting' }]);
    await applied(store, () =>
      store.setStatus({ state: 'stale', sinceMs: 1, reason: 'disconnected' }, 'prod'),
    );
    expect(status.given).toEqual([
      { state: 'connecting' },
      { state: 'stale', sinceMs: 1, reason: 'disconnected' },
    ]);
  });
});

describe('FlagcastProvider with a client', () => {
  const Name = (): ReactNode => useFeature('f1')?.name ?? 'nothing';
  const provider = (client: Client, env: string): ReactNode => (
    <StrictMode>
      <FlagcastProvider client={client} projectId="p1" env={env}>
        <Name />
      </FlagcastProvider>
    </StrictMode>
  );

  /** Brings the channel that the page has opened to life. */
  async function connected(server: ScriptedServer, client: Client): Promise<ScriptedPeer> {
    const channel = client.channel(channelArguments);
    const peer = await server.peers.next();
    await act(async () => {
      await peer.accept();
      await untilStatus(channel, 'live');
    });
    channel.close();
    return peer;
  }

  it('opens its channel once under StrictMode, and ends it with the last rendering', async () => {
    const { server, client } = await startScene();
    const own = client();
    show(provider(own, 'prod'));
    expect(container.textContent).toBe('nothing');
    const peer = await connected(server, own);
    expect(container.textContent).toBe('Feature f1');
    expect(server.upgrades.all).toHaveLength(1);
    expect(server.snapshots.all).toHaveLength(1);
    act(() => root?.unmount());
    root = undefined;
    expect(await peer.received.next()).toMatchObject({ type: 'unsubscribe', env_id: '7' });
  });

  it('never shows the features of one environment as those of another', async () => {
    const { server, client } = await startScene();
    const own = client();
    const shown: string[] = [];
    const Spy = ({ env }: { env: string }): ReactNode => {
      shown.push(`${env}: ${useFeature('f1')?.name ?? 'nothing'}`);
      return null;
    };
    const app = (env: string): ReactNode => (
      <FlagcastProvider client={own} projectId="p1" env={env}>
        <Spy env={env} />
      </FlagcastProvider>
    );
    show(app('prod'));
    const peer = await connected(server, own);
    show(app('stage'));
    expect(shown).toContain('prod: Feature f1');
    expect(shown.filter((line) => line.startsWith('stage'))).not.toContain('stage: Feature f1');
    const stage = own.channel({ projectId: 'p1', env: 'stage' });
    await act(async () => {
      let message = await peer.received.next();
      while (message.type !== 'subscribe') message = await peer.received.next();
      peer.send(caughtUp('c1', stageName));
      await untilStatus(stage, 'live');
    });
    expect(shown.at(-1)).toBe('stage: Feature f1');
  });

  it('gives its channel to effects', async () => {
    const { server, client } = await startScene();
    const own = client();
    const channels: (Channel | null)[] = [];
    const Spy = (): ReactNode => {
      const channel = useChannel();
      useEffect(() => {
        channels.push(channel);
      }, [channel]);
      return null;
    };
    show(
      <FlagcastProvider client={own} projectId="p1" env="prod">
        <Spy />
      </FlagcastProvider>,
    );
    await connected(server, own);
    expect(channels).toEqual([null, own.channel(channelArguments)]);
  });
});

describe('rendering on a server', () => {
  it('shows `connecting`, which hydration agrees with, and then the channel', async () => {
    const { channel } = filledChannel();
    const shown: string[] = [];
    const Status = (): ReactNode => {
      const { state } = useConnectionStatus();
      const text = `${state}, ${useFeatures().size} features`;
      shown.push(text);
      return <p>{text}</p>;
    };
    const app = (
      <FlagcastProvider channel={channel}>
        <Status />
      </FlagcastProvider>
    );
    container.innerHTML = renderToString(app);
    expect(container.textContent).toBe('connecting, 0 features');
    const errors: unknown[] = [];
    await act(async () => {
      root = hydrateRoot(container, app, { onRecoverableError: (error) => errors.push(error) });
      await Promise.resolve();
    });
    expect(container.textContent).toBe('connecting, 2 features');
    expect(errors).toEqual([]);
  });
});

it('a hook without a provider says what is missing', () => {
  const Alone = (): ReactNode => useFeature('f1')?.name;
  expect(() => renderToString(<Alone />)).toThrow('No FlagcastProvider');
});
