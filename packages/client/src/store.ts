import type { EventMessage, FeatureState, PendingChange, Snapshot } from '#protocol';
import { createEmitter, isEqual } from './emitter.js';
import type { ChannelStatus } from './status.js';

/** The state of one channel at one moment. Immutable: a part that has not changed is the same object as before. */
export interface ChannelState {
  readonly status: ChannelStatus;
  /** The current key of the environment; null before the first snapshot. */
  readonly environment: string | null;
  /** By feature id, in the order of the snapshot. */
  readonly features: ReadonlyMap<string, FeatureState>;
  /**
   * The open pending changes by feature id. A change of several features is listed under each of them, and a change
   * without a known feature under `''`.
   */
  readonly pendingChanges: ReadonlyMap<string, readonly PendingChange[]>;
  /** The events since the channel was opened, newest first, at most `activityLimit`. */
  readonly activity: readonly EventMessage[];
  readonly lastEvent: EventMessage | null;
  /**
   * Milliseconds from the last event's commit (or from the server's read, if the database does not record the
   * commit) until the client applied it. It includes the difference between the clocks of the server and of this
   * machine, so it can be negative. null before the first event.
   */
  readonly lagMs: number | null;
}

/** The part of the store that the app can see. */
export interface StoreView {
  /** Returns the state as of the last notification: the same object until something changes. */
  readonly getState: () => ChannelState;
  /**
   * Calls `listener` after changes: immediately for the first change, then at most once per animation frame (16 ms
   * if there are none). Returns the function that removes the listener.
   */
  readonly subscribe: (listener: () => void) => () => void;
  /** Calls `listener` once for every event, in order. Returns the function that removes the listener. */
  readonly onEvent: (listener: (event: EventMessage) => void) => () => void;
}

export interface Store {
  readonly view: StoreView;
  setStatus(status: ChannelStatus, environment: string | null): void;
  /** Replaces all features and pending changes with those of the snapshot. */
  replace(snapshot: Snapshot): void;
  /** Applies the event, unless an event with its id has been applied since the last snapshot. */
  apply(event: EventMessage): void;
  /** Returns everything that has been applied, including changes without a notification yet, as in a snapshot. */
  contents(): Pick<Snapshot, 'features' | 'pending_changes'>;
}

type PendingChanges = ChannelState['pendingChanges'];

const maxAppliedIds = 4_096;

/** Creates the store of a channel. It keeps `activityLimit` events. */
export function createStore(activityLimit: number, onError: (error: unknown) => void): Store {
  const [subscribe, emitChange] = createEmitter(onError);
  const [onEvent, emitEvent] = createEmitter<EventMessage>(onError);
  /** The ids of the applied events, in order. */
  const applied = new Set<string>();
  let status: ChannelStatus = { state: 'connecting' };
  let environment: string | null = null;
  let features: ReadonlyMap<string, FeatureState> = new Map();
  let pendingChanges: PendingChanges = new Map();
  let activity: readonly EventMessage[] = [];
  let lagMs: number | null = null;
  const createState = (): ChannelState => ({
    status,
    environment,
    features,
    pendingChanges,
    activity,
    lastEvent: activity[0] ?? null,
    lagMs,
  });
  let state = createState();
  let isChanged = false;
  let isIdle = true;

  // The first change is published immediately, so that the effect of a click does not wait for a frame. Changes
  // within a frame are published together at its end, so a burst costs one rendering per frame.
  const publish = (): void => {
    isIdle = !isChanged;
    if (isIdle) return;
    isChanged = false;
    state = createState();
    afterFrame(publish);
    emitChange();
  };
  const notify = (): void => {
    isChanged = true;
    if (isIdle) publish();
  };

  const setFeature = (id: string, feature: FeatureState | null | undefined): void => {
    features = withEntry(features, state.features, id, feature);
  };
  const setPendingChanges = (changes: readonly PendingChange[]): void => {
    const next = groupByFeature(changes);
    for (const featureId of new Set([...pendingChanges.keys(), ...next.keys()])) {
      pendingChanges = withEntry(pendingChanges, state.pendingChanges, featureId, next.get(featureId));
    }
  };

  return {
    view: { getState: () => state, subscribe, onEvent },
    setStatus(nextStatus, key) {
      if (isEqual([status, environment], [nextStatus, key])) return;
      status = nextStatus;
      environment = key;
      notify();
    },
    replace(snapshot) {
      // A restored database can give the same ids to other events.
      applied.clear();
      const next = new Map(snapshot.features.map((feature) => [feature.id, feature]));
      for (const id of new Set([...features.keys(), ...next.keys()])) setFeature(id, next.get(id));
      setPendingChanges(snapshot.pending_changes);
      notify();
    },
    apply(event) {
      const { action, entity, entity_id, feature_id, pending_change_id } = event;
      if (applied.has(event.id)) return;
      applied.add(event.id);
      if (applied.size > maxAppliedIds) applied.delete(applied.keys().next().value as string);
      if (pending_change_id) {
        const changes = listPendingChanges(pendingChanges);
        const { pending_change: request = applyStep(event, pending_change_id, changes) } = event;
        const others = changes.filter((change) => change.id !== pending_change_id);
        setPendingChanges(request?.status === 'pending' ? [...others, request] : others);
      }
      if (event.feature !== undefined) {
        if (feature_id) setFeature(feature_id, event.feature);
      } else if (entity === 'feature' && action === 'deleted') setFeature(entity_id, null);
      activity = [event, ...activity].slice(0, activityLimit);
      lagMs = Date.now() - Date.parse(event.committed_at ?? event.seen_at);
      emitEvent(event);
      notify();
    },
    contents: () => ({
      features: [...features.values()],
      pending_changes: listPendingChanges(pendingChanges),
    }),
  };
}

/** Lists each pending change once. */
function listPendingChanges(pendingChanges: PendingChanges): PendingChange[] {
  return [...new Set([...pendingChanges.values()].flat())];
}

function groupByFeature(changes: readonly PendingChange[]): Map<string, PendingChange[]> {
  const groups = new Map<string, PendingChange[]>();
  for (const change of changes) {
    for (const featureId of new Set(change.entities.map((entity) => entity.feature_id ?? ''))) {
      groups.set(featureId, [...(groups.get(featureId) ?? []), change]);
    }
  }
  return groups;
}

/** Returns the request after an event that does not contain it. */
function applyStep(event: EventMessage, id: string, changes: readonly PendingChange[]): PendingChange {
  const { action, entity, entity_id, feature_id } = event;
  const known = changes.find((change) => change.id === id);
  const unknown = { feature_key: null, feature_name: null, feature_version: null, diff: [] };
  return {
    ...event,
    id,
    requested_by: event.actor ?? '',
    requested_by_id: null,
    created_at: event.timestamp,
    version: '',
    reason: null,
    decided_by: null,
    decided_at: null,
    decision_reason: null,
    ...known,
    status: action === 'updated' ? 'pending' : action,
    entities: [
      // A change of several entities arrives as one event per entity.
      ...(known?.entities ?? []).filter((other) => other.entity_id !== entity_id),
      { entity, entity_id, feature_id, action: null, ...unknown },
    ],
  };
}

/**
 * Returns `map` with the value, or without the key if there is no value. Returns `map` itself if nothing changes;
 * never modifies `published`.
 */
function withEntry<Value>(
  map: ReadonlyMap<string, Value>,
  published: ReadonlyMap<string, Value>,
  key: string,
  value: Value | null | undefined,
): ReadonlyMap<string, Value> {
  if (isEqual(map.get(key), value ?? undefined)) return map;
  const next = map === published ? new Map(map) : (map as Map<string, Value>);
  if (value) next.set(key, value);
  else next.delete(key);
  return next;
}

/** Calls `run` once, at the next animation frame; after 16 ms if there are no animation frames. */
function afterFrame(run: () => void): void {
  const { requestAnimationFrame } = globalThis as Partial<AnimationFrameProvider>;
  let isDue = true;
  const runOnce = (): void => {
    if (isDue) run();
    isDue = false;
  };
  requestAnimationFrame?.(runOnce);
  // A hidden page gets no animation frames, so a timer calls it after 250 ms.
  setTimeout(runOnce, requestAnimationFrame ? 250 : 16);
}
