import { QueryClient, type QueryKey, QueryObserver, skipToken } from '@tanstack/query-core';
import { afterEach, describe, expect, it } from 'vitest';
import { createChannelModel } from '../../src/channel-model.js';
import type { Channel, FeatureState, PendingChange, Snapshot } from '../../src/index.js';
import { connectQueryClient, type QueryKeys } from '../../src/query/index.js';
import { createStore } from '../../src/store.js';
import { channelName, event, feature, pendingChange, step } from './scripted-server.js';
import { channelArguments, until } from './client-fixture.js';

const snapshot: Snapshot = {
  ...channelName,
  cursor: 'c0',
  features: [feature('f1'), feature('f2')],
  embedded_state: true,
  pending_changes: [pendingChange('p1', ['f1', 'f2'])],
};
const featuresKey = ['features', 'p1', 'prod'];
const pendingKey = ['pendingChanges', 'p1', 'prod'];
const keyOf = (id: string): string[] => ['feature', 'p1', 'prod', id];

const cleanups: (() => void)[] = [];
afterEach(() => {
  for (const cleanup of cleanups.splice(0)) cleanup();
});

function connect(keys: QueryKeys = {}, filled = true) {
  const model = createChannelModel(200);
  const store = createStore(model, () => undefined);
  let hasSnapshot = filled;
  if (filled) store.replace(snapshot);
  const channel: Channel = {
    ...channelArguments,
    ...store.view,
    toSnapshot: () => (hasSnapshot ? { ...snapshot, ...model.contents() } : null),
    close: () => undefined,
    ready: async () => await Promise.resolve(store.view.getState()),
    [Symbol.dispose]: () => undefined,
  };
  const queries = new QueryClient();
  cleanups.push(() => queries.clear());
  for (const id of ['f1', 'f2']) queries.setQueryData(keyOf(id), feature(id));
  const disconnect = connectQueryClient(queries, channel, { keys });
  const settled = async (): Promise<void> => {
    const last = event(`last-${Math.random()}`, 'none', { feature: null });
    store.apply(last);
    await until(store.view, (state) => state.lastEvent === last);
  };
  const fill = (fresh: Snapshot): void => {
    hasSnapshot = true;
    store.replace(fresh);
  };
  return { store, queries, disconnect, settled, fill };
}

/** Observes a query. Returns the resolve functions of its fetches. */
function observe(queries: QueryClient, queryKey: QueryKey) {
  const answers: ((data: unknown) => void)[] = [];
  const queryFn = async (): Promise<unknown> => await new Promise((resolve) => answers.push(resolve));
  const observer = new QueryObserver(queries, { queryKey, queryFn, staleTime: Infinity });
  cleanups.push(observer.subscribe(() => undefined));
  return answers;
}

it('the cache contains the lists after the first snapshot and not before', async () => {
  const { queries, fill, settled } = connect({}, false);
  expect(queries.getQueryData(featuresKey)).toBeUndefined();
  fill(snapshot);
  await settled();
  expect(queries.getQueryData(featuresKey)).toEqual(snapshot.features);
  expect(queries.getQueryData(pendingKey)).toEqual(snapshot.pending_changes);
});

describe('an optimistic value in the list', () => {
  const switchOn = (queries: QueryClient): unknown =>
    queries.setQueryData<FeatureState[]>(featuresKey, (features) =>
      features?.map((each) => (each.id === 'f1' ? { ...each, enabled: true, name: 'Mine' } : each)),
    );
  const names = (queries: QueryClient): string[] | undefined =>
    queries.getQueryData<FeatureState[]>(featuresKey)?.map(({ name }) => name);

  it('stays during the events of other features, until the event of its own', async () => {
    const { store, queries, settled } = connect();
    switchOn(queries);
    store.apply(event('e1', 'f2', { feature: feature('f2', { name: 'Other' }) }));
    await settled();
    expect(names(queries)).toEqual(['Mine', 'Other']);
    store.apply(event('e2', 'f1', { feature: feature('f1', { name: 'Saved', version: 'v2' }) }));
    await settled();
    expect(names(queries)).toEqual(['Saved', 'Other']);
  });

  it('is replaced by the event of its feature even if the version stays, and by a snapshot', async () => {
    const { store, queries, settled, fill } = connect();
    switchOn(queries);
    store.apply(event('e1', 'f1', { feature: feature('f1', { name: 'Saved' }) }));
    await settled();
    expect(names(queries)).toEqual(['Saved', 'Feature f2']);
    switchOn(queries);
    fill({ ...snapshot, features: [feature('f1', { version: 'v3' }), feature('f2')] });
    await settled();
    expect(names(queries)).toEqual(['Feature f1', 'Feature f2']);
  });

  it('that is rolled back with an old list keeps no old state of another feature beyond the next event', async () => {
    const { store, queries, settled } = connect();
    const previous = queries.getQueryData(featuresKey);
    switchOn(queries);
    store.apply(event('e1', 'f2', { feature: feature('f2', { name: 'Other', version: 'v2' }) }));
    await settled();
    queries.setQueryData(featuresKey, previous);
    store.apply(event('e2', 'f3'));
    await settled();
    expect(names(queries)).toEqual(['Feature f1', 'Other', 'Feature f3']);
  });
});

it('an event updates the cached feature from the state in the event, without a fetch', async () => {
  const { store, queries, settled } = connect();
  const fetches = [featuresKey, keyOf('f1'), keyOf('f2')].map((key) => observe(queries, key));
  const other = queries.getQueryData(keyOf('f2'));
  store.apply(event('e1', 'f1'));
  await settled();
  expect(queries.getQueryData<FeatureState>(keyOf('f1'))?.enabled).toBe(true);
  expect(queries.getQueryData<FeatureState[]>(featuresKey)?.map(({ enabled }) => enabled)).toEqual([
    true,
    false,
  ]);
  expect(queries.getQueryData(keyOf('f2'))).toBe(other);
  expect(fetches.flat()).toEqual([]);
});

it('a deleted feature is null and removed from the list', async () => {
  const { store, queries, settled } = connect();
  store.apply(event('e1', 'f1', { type: 'feature_deleted', action: 'deleted', feature: null }));
  await settled();
  expect(queries.getQueryData(keyOf('f1'))).toBeNull();
  expect(queries.getQueryData<FeatureState[]>(featuresKey)?.map(({ id }) => id)).toEqual(['f2']);
});

it('a feature without a query gets no cache entry of its own', async () => {
  const { store, queries, settled } = connect();
  store.apply(event('e1', 'f9', { feature: feature('f9') }));
  await settled();
  expect(queries.getQueryState(keyOf('f9'))).toBeUndefined();
  expect(queries.getQueryData<FeatureState[]>(featuresKey)?.map(({ id }) => id)).toContain('f9');
});

it('the response of a running query does not overwrite newer state', async () => {
  const { store, queries, settled } = connect();
  const answers = observe(queries, keyOf('f1'));
  const refetched = queries.refetchQueries({ queryKey: keyOf('f1') });
  store.apply(event('e1', 'f1'));
  await settled();
  answers[0]?.(feature('f1', { name: 'Old' }));
  await refetched;
  expect(queries.getQueryData<FeatureState>(keyOf('f1'))).toMatchObject({
    enabled: true,
    name: 'Feature f1',
  });
});

it('the steps of a request update the cached list of pending changes without a request to the server', async () => {
  const { store, queries, settled } = connect();
  const features = observe(queries, featuresKey);
  const pending = observe(queries, pendingKey);
  const cached = async (): Promise<PendingChange[] | undefined> => {
    await settled();
    return queries.getQueryData<PendingChange[]>(pendingKey);
  };
  store.apply(step('e1', 'p2', 'pending', 'f1'));
  expect((await cached())?.map(({ id, reason }) => [id, reason])).toEqual([
    ['p1', 'because'],
    ['p2', 'because'],
  ]);
  store.apply(step('e2', 'p2', 'updated', 'f2'));
  expect((await cached())?.[1]?.entities.map(({ feature_id: id }) => id)).toEqual(['f2']);
  store.apply(step('e3', 'p2', 'approved', 'f2'));
  expect((await cached())?.map(({ id }) => id)).toEqual(['p1']);
  expect([pending.length, features.length]).toEqual([0, 0]);
});

it('a snapshot replaces the cached data', async () => {
  const { queries, fill, settled } = connect();
  fill({ ...snapshot, features: [feature('f2'), feature('f3')], pending_changes: [] });
  await settled();
  expect(queries.getQueryData<FeatureState[]>(featuresKey)?.map(({ id }) => id)).toEqual(['f2', 'f3']);
  expect(queries.getQueryData(keyOf('f1'))).toBeNull();
  expect(queries.getQueryData(pendingKey)).toEqual([]);
});

it('a list that was removed for lack of observers is cached again as soon as a query for it exists', () => {
  const { queries } = connect();
  queries.removeQueries({ queryKey: featuresKey });
  queries.removeQueries({ queryKey: pendingKey });
  const observed = [featuresKey, pendingKey].map((queryKey) => {
    const observer = new QueryObserver(queries, { queryKey, queryFn: skipToken });
    cleanups.push(observer.subscribe(() => undefined));
    return observer.getCurrentResult().data;
  });
  expect(observed).toEqual([snapshot.features, snapshot.pending_changes]);
});

it('a query for one feature that is added after the snapshot gets its state', async () => {
  const { store, queries, settled } = connect();
  store.apply(event('e1', 'f3', { feature: feature('f3') }));
  await settled();
  const observer = new QueryObserver(queries, { queryKey: keyOf('f3'), queryFn: skipToken });
  cleanups.push(observer.subscribe(() => undefined));
  expect(observer.getCurrentResult().data).toEqual(feature('f3'));
});

it('custom keys are used, and a null key disables the entry', async () => {
  const { store, queries, settled } = connect({ features: ['flags'], feature: null, pendingChanges: null });
  store.apply(event('e1', 'f1'));
  await settled();
  expect(queries.getQueryData<FeatureState[]>(['flags'])?.[0]?.enabled).toBe(true);
  expect(queries.getQueryData<FeatureState>(keyOf('f1'))?.enabled).toBe(false);
  expect(queries.getQueryData(pendingKey)).toBeUndefined();
});

it('the cache is no longer updated after disconnect', async () => {
  const { store, queries, disconnect, settled } = connect();
  disconnect();
  store.apply(event('e1', 'f1'));
  await settled();
  expect(queries.getQueryData<FeatureState>(keyOf('f1'))?.enabled).toBe(false);
});
