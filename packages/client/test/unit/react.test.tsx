// @vitest-environment happy-dom
import type { AnnounceMessage } from '#protocol';
import { act, type ReactNode, StrictMode, useEffect } from 'react';
import { createRoot, hydrateRoot } from 'react-dom/client';
import { renderToString } from 'react-dom/server';
import { describe, expect, it } from 'vitest';
import { type Approvals, approvals } from '../../src/approvals/index.js';
import type { Channel, Client } from '../../src/index.js';
import { usePresence } from '../../src/presence/react.js';
import {
  FlagcastProvider,
  useActivity,
  useApprovals,
  useChannel,
  useChannelState,
  useClientStatus,
  useConnectionStatus,
  useFeature,
  useFeatures,
  useFlag,
  usePendingChanges,
} from '../../src/react/index.js';
import {
  caughtUp,
  channelName,
  event,
  feature,
  pendingChange,
  type ScriptedConnection,
  type ScriptedServer,
  stageName,
  step,
} from './scripted-server.js';
import {
  channelArguments,
  type ChannelStore,
  createChannelStore,
  stageArguments,
  startFixture,
  startLiveChannel,
  until,
  untilConnection,
  untilMessage,
  untilStatus,
} from './client-fixture.js';
import { applied, probe, useReactPage } from './react-page.js';

const page = useReactPage();
const { show } = page;

/** Creates a channel without a connection. The test writes to its store. */
function filledChannel(): { store: ChannelStore; channel: Channel } {
  const store = createChannelStore(200, () => undefined);
  store.replace({
    ...channelName,
    cursor: 'c0',
    features: [feature('f1'), feature('f2')],
    embedded_state: true,
    pending_changes: [pendingChange('p1', ['f1'])],
  });
  const channel = {
    ...channelArguments,
    ...store.view,
    toSnapshot: () => null,
    close: () => undefined,
    ready: async () => await Promise.resolve(store.view.getState()),
    [Symbol.dispose]: () => undefined,
  };
  return { store, channel };
}

describe('a component renders again only when its part of the state changes', () => {
  it('with useFeature', async () => {
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
    expect(first.values.map((value) => value?.enabled)).toEqual([false, true]);
    expect(second.values).toHaveLength(1);
    await applied(store, () => store.apply(event('e2', 'f1', { action: 'deleted', feature: null })));
    expect(first.values.at(-1)).toBeUndefined();
    expect(second.values).toHaveLength(1);
  });

  it('and once per animation frame during a burst of events', async () => {
    const { store, channel } = filledChannel();
    const { Probe, values } = probe(() => useFeature('f1'));
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
    expect(values.at(-1)?.name).toBe('Name 299');
    expect(values.length).toBeLessThanOrEqual(3);
  });

  it('with useFeatures, whose selector may create a new list or object with the same elements', async () => {
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
    expect(all.values.map((features) => features.get('f1')?.name)).toEqual(['Feature f1', 'New']);
    expect(enabled.values).toHaveLength(1);
    expect(counts.values).toHaveLength(1);
    await applied(store, () => store.apply(event('e2', 'f2')));
    expect(enabled.values.map((features) => features.length)).toEqual([0, 1]);
    expect(counts.values).toHaveLength(1);
  });

  it('with an inline selector, which returns the same object when the parent renders', () => {
    const { channel } = filledChannel();
    const { Probe, values } = probe(() => useFeatures((features) => [...features.keys()]));
    const App = ({ title }: { title: string }): ReactNode => (
      <FlagcastProvider channel={channel}>
        {title}
        <Probe />
      </FlagcastProvider>
    );
    show(<App title="one" />);
    show(<App title="two" />);
    expect(values).toHaveLength(2);
    expect(values[1]).toBe(values[0]);
  });

  it('with usePendingChanges', async () => {
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
    expect(second.values.map((changes) => changes.map(({ id }) => id))).toEqual([[], ['p2']]);
    expect(first.values).toHaveLength(1);
    await applied(store, () => store.apply(step('e2', 'p2', 'approved', 'f2')));
    expect(second.values.at(-1)).toEqual([]);
    expect(first.values).toHaveLength(1);
    expect(all.values.map((changes) => [...changes.keys()])).toEqual([['f1'], ['f1', 'f2'], ['f1']]);
  });

  it('with useActivity, useConnectionStatus and useChannelState', async () => {
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
    expect(activity.values.at(-1)?.map(({ id }) => id)).toContain('e1');
    expect(lag.values).toEqual([false, true]);
    expect(status.values).toEqual([{ state: 'connecting' }]);
    await applied(store, () =>
      store.setStatus({ state: 'stale', sinceMs: 1, reason: 'disconnected' }, 'prod'),
    );
    expect(status.values).toEqual([
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

  /** Waits until the channel that the page has opened is live. */
  async function connected(server: ScriptedServer, client: Client): Promise<ScriptedConnection> {
    const channel = client.channel(channelArguments);
    const connection = await server.connections.next();
    await act(async () => {
      await connection.accept();
      await untilStatus(channel, 'live');
    });
    channel.close();
    return connection;
  }

  it('opens its channel once in StrictMode, and closes it when it is unmounted', async () => {
    const { server, connect } = await startFixture();
    const client = connect();
    show(provider(client, 'prod'));
    expect(page.container.textContent).toBe('nothing');
    const connection = await connected(server, client);
    expect(page.container.textContent).toBe('Feature f1');
    expect(server.upgrades.all).toHaveLength(1);
    expect(server.snapshots.all).toHaveLength(1);
    act(() => page.root?.unmount());
    page.root = undefined;
    expect(await connection.received.next()).toMatchObject({ type: 'unsubscribe', env_id: '7' });
  });

  it('never shows the features of the previous environment after a change of the props', async () => {
    const { server, connect } = await startFixture();
    const client = connect();
    const shown: string[] = [];
    const Spy = ({ env }: { env: string }): ReactNode => {
      shown.push(`${env}: ${useFeature('f1')?.name ?? 'nothing'}`);
      return null;
    };
    const app = (env: string): ReactNode => (
      <FlagcastProvider client={client} projectId="p1" env={env}>
        <Spy env={env} />
      </FlagcastProvider>
    );
    show(app('prod'));
    const connection = await connected(server, client);
    show(app('stage'));
    expect(shown).toContain('prod: Feature f1');
    expect(shown.filter((line) => line.startsWith('stage'))).not.toContain('stage: Feature f1');
    const stage = client.channel(stageArguments);
    await act(async () => {
      let message = await connection.received.next();
      while (message.type !== 'subscribe') message = await connection.received.next();
      connection.send(caughtUp('c1', stageName));
      await untilStatus(stage, 'live');
    });
    expect(shown.at(-1)).toBe('stage: Feature f1');
  });

  it('provides its channel to effects', async () => {
    const { server, connect } = await startFixture();
    const client = connect();
    const channels: (Channel | null)[] = [];
    const Spy = (): ReactNode => {
      const channel = useChannel();
      useEffect(() => {
        channels.push(channel);
      }, [channel]);
      return null;
    };
    show(
      <FlagcastProvider client={client} projectId="p1" env="prod">
        <Spy />
      </FlagcastProvider>,
    );
    await connected(server, client);
    const { subscribe } = client.channel(channelArguments);
    expect(channels.map((channel) => channel?.subscribe)).toEqual([undefined, subscribe]);
  });
});

describe('useClientStatus and useFlag', () => {
  it('show why the client is not connected, and a flag by its key', async () => {
    const { server, connect } = await startFixture();
    const client = connect();
    const Status = (): ReactNode => {
      const { state, lastError } = useClientStatus(client);
      return `${useFlag('key-f1')?.name ?? 'none'}: ${state} ${lastError?.code ?? ''}`;
    };
    show(
      <FlagcastProvider client={client} projectId="p1" env="prod">
        <Status />
      </FlagcastProvider>,
    );
    expect(page.container.textContent).toContain('none: ');
    await act(async () => {
      const connection = await server.connections.next();
      await connection.accept('c1');
      await untilConnection(client, 'live');
      connection.socket.close(4005, 'unavailable');
      await (await server.connections.next()).accept('c1');
      await untilConnection(client, 'live');
    });
    expect(page.container.textContent).toBe('Feature f1: live unavailable');
  });
});

describe('useApprovals', () => {
  it('renders again only when the selected part of the feed changes', async () => {
    const { server, connect } = await startFixture();
    const feed = { feed: 'approvals' } as const;
    const opened = approvals(connect());
    const connection = await server.connections.next();
    connection.hello();
    await connection.received.next();
    connection.send(caughtUp('c1', feed));
    await until(opened, ({ status }) => status.state === 'live');
    const renderings: string[][] = [];
    const States = ({ of }: { of: Approvals | null }): ReactNode => useApprovals(of).status.state;
    const OpenIds = (): ReactNode => {
      renderings.push(useApprovals(opened, ({ open }) => [...open.keys()]));
      return null;
    };
    page.root = createRoot(page.container);
    await act(async () => {
      page.root?.render([<States key="1" of={null} />, <States key="2" of={opened} />, <OpenIds key="3" />]);
      await Promise.resolve();
    });
    expect(page.container.textContent).toBe('connectinglive');
    const send = async (
      id: string,
      ...[change, action]: ['r1' | 'r2', 'pending' | 'updated']
    ): Promise<void> => {
      await act(async () => {
        connection.send({ ...step(id, change, action, 'f1'), ...feed });
        await until(opened, ({ lastEvent }) => lastEvent?.id === id);
      });
    };
    await send('e1', 'r2', 'pending');
    await send('e2', 'r1', 'updated');
    expect(renderings).toEqual([['r1'], ['r1', 'r2']]);
  });
});

it('usePresence closes the view with its component, and takes a new subject and field', async () => {
  const { client, connection } = await startLiveChannel();
  const announced = { type: 'announce', view: expect.any(String) as string, project_id: 'p1', env_id: '7' };
  const Names = ({ id, field }: { readonly id: string; readonly field: string | null }) => {
    const subject = { projectId: 'p1', environmentId: '7', featureId: id };
    const { others, count } = usePresence(client, subject, field);
    return `${others.map(({ username }) => username).join()} of ${count}`;
  };
  show(<Names id="f1" field={null} />);
  const { view } = (await connection.received.next()) as AnnounceMessage;
  const arrived = untilMessage(client, 'presence');
  const users = ['1', '2'].map((id) => ({ user_id: id, username: `user ${id}`, field: null }));
  const ids = { project_id: 'p1', environment_id: '7', feature_id: 'f1' };
  connection.send({ type: 'presence', ...ids, users, count: 2 });
  await act(async () => await arrived);
  expect(page.container.textContent).toBe('user 2 of 1');
  show(<Names id="f2" field="name" />);
  expect(page.container.textContent).toBe(' of 0');
  expect(await connection.received.next()).toEqual({ type: 'announce', view });
  expect(await connection.received.next()).toEqual({ ...announced, feature_id: 'f2' });
  expect(await connection.received.next()).toEqual({ ...announced, feature_id: 'f2', field: 'name' });
  act(() => page.root?.unmount());
  page.root = undefined;
  expect(await connection.received.next()).toMatchObject({ type: 'announce' });
});

describe('rendering on a server', () => {
  it('shows `connecting`, and hydration produces no mismatch', async () => {
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
    page.container.innerHTML = renderToString(app);
    expect(page.container.textContent).toBe('connecting, 0 features');
    const errors: unknown[] = [];
    await act(async () => {
      page.root = hydrateRoot(page.container, app, { onRecoverableError: (error) => errors.push(error) });
      await Promise.resolve();
    });
    expect(page.container.textContent).toBe('connecting, 2 features');
    expect(errors).toEqual([]);
  });
});

it('a hook without a provider throws an error that names FlagcastProvider', () => {
  const Alone = (): ReactNode => useFeature('f1')?.name;
  expect(() => renderToString(<Alone />)).toThrow('<FlagcastProvider>');
});
