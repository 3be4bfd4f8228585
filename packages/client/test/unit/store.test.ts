import { describe, expect, it, onTestFinished, vi } from 'vitest';
import { channelName, event, feature, pendingChange, step } from './scripted-server.js';
import { type ChannelStore, createChannelStore, until } from './client-fixture.js';

const limit = 200;

function filled(errors: unknown[] = []): ChannelStore {
  const store = createChannelStore(limit, (error) => errors.push(error));
  store.replace({
    ...channelName,
    cursor: 'c0',
    features: [feature('f1'), feature('f2')],
    embedded_state: true,
    pending_changes: [pendingChange('p1', ['f1', 'f2'])],
  });
  return store;
}

/** Returns the state after everything that was applied has been published. */
async function settled(store: ChannelStore): Promise<ReturnType<ChannelStore['view']['getState']>> {
  const last = event(`last-${Math.random()}`, 'none', { feature: null });
  store.apply(last);
  return await until(store.view, (state) => state.lastEvent === last);
}

it('the features and requests of a state are read-only, also for the compiler', async () => {
  const { features, pendingChanges } = await settled(filled());
  const [feature1, request] = [features.get('f1'), pendingChanges.get('f1')?.[0]];
  const change = (): void => {
    // @ts-expect-error -- an event brings the change
    if (feature1) feature1.enabled = true;
    // @ts-expect-error -- an event brings the change
    if (request) request.status = 'approved';
  };
  expect(change).toBeTypeOf('function');
});

describe('an event', () => {
  it('feature_updated changes that feature and keeps all other objects', async () => {
    const store = filled();
    const before = await settled(store);
    store.apply(event('e1', 'f1'));
    const after = await settled(store);
    expect(after.features.get('f1')?.enabled).toBe(true);
    expect(after.features.get('f2')).toBe(before.features.get('f2'));
    expect(after.pendingChanges).toBe(before.pendingChanges);
    expect(before.features.get('f1')?.enabled).toBe(false);
  });

  it('of a child entity updates its feature', async () => {
    const store = filled();
    store.apply(
      event('e1', 'f1', { entity: 'rule', entity_id: 'r1', type: 'rule_deleted', action: 'deleted' }),
    );
    expect((await settled(store)).features.get('f1')?.enabled).toBe(true);
  });

  it('with an unchanged feature state keeps the features object', async () => {
    const store = filled();
    const before = await settled(store);
    store.apply(event('e1', 'f1', { entity: 'rule', entity_id: 'r1', feature: feature('f1') }));
    expect((await settled(store)).features).toBe(before.features);
  });

  it('feature_created adds a feature, and feature_deleted removes one', async () => {
    const store = filled();
    store.apply(event('e1', 'f3', { type: 'feature_created', action: 'created' }));
    store.apply(event('e2', 'f1', { type: 'feature_deleted', action: 'deleted', feature: null }));
    expect([...(await settled(store)).features.keys()]).toEqual(['f2', 'f3']);
  });

  it('feature_deleted without a feature state removes the feature', async () => {
    const store = filled();
    const deleted = event('e1', 'f1', { type: 'feature_deleted', action: 'deleted' });
    delete deleted.feature;
    store.apply(deleted);
    expect([...(await settled(store)).features.keys()]).toEqual(['f2']);
  });

  it('pending_change_created adds the pending change, with its contents, to each of its features', async () => {
    const store = filled();
    store.apply(step('e1', 'p2', 'pending', 'f2', 'f3'));
    store.apply(step('e2', 'p2', 'pending', 'f3', 'f2'));
    const { pendingChanges } = await settled(store);
    expect(pendingChanges.get('f1')?.map(({ id }) => id)).toEqual(['p1']);
    expect(pendingChanges.get('f2')?.map(({ id }) => id)).toEqual(['p1', 'p2']);
    expect(pendingChanges.get('f3')).toMatchObject([
      { id: 'p2', reason: 'because', entities: [{ diff: [{ new: 'true' }] }, { feature_id: 'f2' }] },
    ]);
  });

  it('of a request that was deleted removes the pending change', async () => {
    const store = filled();
    store.apply({ ...step('e1', 'p1', 'cancelled', 'f1'), pending_change: null });
    expect((await settled(store)).pendingChanges.size).toBe(0);
  });

  it.each(['approved', 'rejected', 'cancelled'] as const)(
    'pending_change_%s removes the pending change',
    async (action) => {
      const store = filled();
      store.apply(step('e1', 'p2', 'pending', 'f1'));
      const before = await settled(store);
      store.apply(step('e2', 'p1', action, 'f1'));
      const { pendingChanges } = await settled(store);
      expect(pendingChanges.get('f1')?.map(({ id }) => id)).toEqual(['p2']);
      expect(pendingChanges.has('f2')).toBe(false);
      expect(before.pendingChanges.has('f2')).toBe(true);
    },
  );

  it('pending_change_updated replaces the contents of the pending change', async () => {
    const store = filled();
    store.apply(step('e1', 'p1', 'updated', 'f2'));
    const { pendingChanges } = await settled(store);
    expect(pendingChanges.has('f1')).toBe(false);
    expect(pendingChanges.get('f2')?.map(({ id }) => id)).toEqual(['p1']);
  });

  it.each(['pending', 'updated'] as const)(
    'with the action %s that was read after the decision does not reopen the pending change',
    async (action) => {
      const store = filled();
      store.apply(step('100', 'p2', 'rejected', 'f1'));
      const late = step('99', 'p2', action, 'f1');
      store.apply({ ...late, pending_change: { ...pendingChange('p2', ['f1']), status: 'rejected' } });
      const { pendingChanges, activity } = await settled(store);
      expect(pendingChanges.get('f1')?.map(({ id }) => id)).toEqual(['p1']);
      expect(activity.map(({ id }) => id)).toEqual(expect.arrayContaining(['99', '100']));
    },
  );

  it('reopens a pending change that was decided', async () => {
    const store = filled();
    store.apply(step('98', 'p2', 'rejected', 'f1'));
    store.apply(step('100', 'p2', 'pending', 'f1'));
    expect((await settled(store)).pendingChanges.get('f1')?.map(({ id }) => id)).toEqual(['p1', 'p2']);
  });

  it('with an unreadable feature state keeps the known state', async () => {
    const store = filled();
    const { feature: _, ...unreadable } = event('e1', 'f1', { feature_unreadable: true });
    const before = await settled(store);
    store.apply(unreadable);
    const after = await settled(store);
    expect(after.features).toBe(before.features);
    expect(after.activity[1]).toBe(unreadable);
  });

  it('is applied once among the last 4,096 ids', async () => {
    const store = filled();
    const seen: string[] = [];
    store.view.onEvent(({ id }) => seen.push(id));
    for (let index = 0; index < 4_097; index += 1) store.apply(event(`e${index}`, 'f1'));
    store.apply(event('e1', 'f1'));
    expect(seen).toHaveLength(4_097);
    store.apply(event('e0', 'f1'));
    expect(seen).toHaveLength(4_098);
    const { activity, lastEvent } = await until(store.view, ({ lastEvent }) => lastEvent?.id === 'e0');
    expect(activity).toHaveLength(limit);
    expect(activity[0]).toBe(lastEvent);
    expect(activity.at(-1)?.id).toBe('e3898');
  });

  it('is applied again after a new snapshot, because a restored database reuses ids', () => {
    const store = filled();
    const seen: string[] = [];
    store.view.onEvent(({ id }) => seen.push(id));
    store.apply(event('e1', 'f1'));
    store.replace({ ...channelName, cursor: 'c9', embedded_state: true, features: [], pending_changes: [] });
    store.apply(event('e1', 'f1'));
    expect(seen).toEqual(['e1', 'e1']);
  });

  it('sets lagMs to the time since its commit, or since the server read it', async () => {
    vi.useFakeTimers({ toFake: ['Date'] });
    onTestFinished(() => void vi.useRealTimers());
    const store = filled();
    expect(store.view.getState().lagMs).toBeNull();
    const ago = (ms: number): string => new Date(Date.now() - ms).toISOString();
    store.apply(event('e1', 'f1', { committed_at: ago(5_000), seen_at: ago(2_000) }));
    const committed = (await until(store.view, ({ lastEvent }) => lastEvent?.id === 'e1')).lagMs;
    store.apply(event('e2', 'f1', { committed_at: null, seen_at: ago(2_000) }));
    const read = (await until(store.view, ({ lastEvent }) => lastEvent?.id === 'e2')).lagMs;
    expect([committed, read]).toEqual([5_000, 2_000]);
  });
});

describe('notifications', () => {
  it('arrive immediately for the first change and together for a burst', async () => {
    const store = createChannelStore(limit, () => undefined);
    let notifications = 0;
    store.view.subscribe(() => (notifications += 1));
    store.apply(event('e0', 'f1'));
    expect([notifications, store.view.getState().lastEvent?.id]).toEqual([1, 'e0']);
    for (let index = 1; index <= 300; index += 1) store.apply(event(`e${index}`, `f${index}`));
    expect(notifications).toBe(1);
    const state = await until(store.view, ({ lastEvent }) => lastEvent?.id === 'e300');
    expect(notifications).toBe(2);
    expect(state.features.size).toBe(300);
  });

  it('arrive immediately for each new status, also one that lasts for less than a frame', () => {
    const store = createChannelStore(limit, () => undefined);
    const seen: string[] = [];
    store.view.subscribe(() => seen.push(store.view.getState().status.state));
    store.setStatus({ state: 'live' }, 'prod');
    store.setStatus({ state: 'stale', sinceMs: 1, reason: 'disconnected' }, 'prod');
    store.setStatus({ state: 'live' }, 'prod');
    expect(seen).toEqual(['live', 'stale', 'live']);
  });

  it('have the state; as a store of Svelte or Solid also the current one', () => {
    const store = createChannelStore(limit, () => undefined);
    const [states, all]: [unknown[], unknown[]] = [[], []];
    const before = store.view.getState();
    store.view.subscribe((state) => states.push(state));
    const stop = store.view.store.subscribe((state) => all.push(state));
    store.setStatus({ state: 'live' }, 'prod');
    stop();
    store.setStatus({ state: 'catching-up' }, 'prod');
    const [live, catchingUp] = states;
    expect(catchingUp).toBe(store.view.getState());
    expect(all).toEqual([before, live]);
  });

  it('never modify a state that was returned before', async () => {
    const store = filled();
    const before = await settled(store);
    const copy = structuredClone(before);
    for (let index = 0; index < 50; index += 1) store.apply(event(`e${index}`, `f${index}`));
    store.apply(step('s1', 'p1', 'rejected', 'f1'));
    await settled(store);
    expect(before).toEqual(copy);
  });

  it('do not reach a listener that a previous one has removed', () => {
    const store = createChannelStore(limit, () => undefined);
    const received: string[] = [];
    store.view.onEvent(() => stop());
    const stop = store.view.onEvent(({ id }) => received.push(id));
    store.apply(event('e1', 'f1'));
    expect(received).toEqual([]);
  });

  it('continue after a listener throws, and the error is reported', async () => {
    const errors: unknown[] = [];
    const store = filled(errors);
    const received: string[] = [];
    const fail = (): never => {
      throw new Error('listener failed');
    };
    const stops = [store.view.subscribe(fail), store.view.onEvent(fail)];
    store.view.onEvent(({ id }) => received.push(id));
    await settled(store);
    store.apply(event('e1', 'f1'));
    expect(received.at(-1)).toBe('e1');
    expect(errors).toContainEqual(new Error('listener failed'));
    for (const stop of stops) stop();
    errors.length = 0;
    await settled(store);
    expect(errors).toEqual([]);
  });
});
