import type { EventMessage, FeatureState, PendingChange, Snapshot } from '#protocol';
import type { FlagcastError } from './flagcast-error.js';
import { same } from './same.js';
import type { StaleStatus } from './status.js';
import { createTopic } from './topic.js';

/**
 * - `connecting`: no snapshot yet
 * - `catching-up`: connected; the missed events are on their way
 * - `live`: connected, and the server reads its database: the state is the database's, but for what is on its way
 * - `stale`: not connected, or the server does not read its database right now
 * - `closed`: for good; `error` is null where the owner closed it
 */
export type ChannelStatus =
  | { readonly state: 'connecting' | 'catching-up' | 'live' }
  | StaleStatus
  | { readonly state: 'closed'; readonly error: FlagcastError | null };

/** One channel at one moment. Nothing in it ever changes; what has not changed is the same object as before. */
export interface ChannelState {
  readonly status: ChannelStatus;
  /** The key that the environment has now; null before the first snapshot. */
  readonly environment: string | null;
  /** By feature id, in the snapshot's order. */
  readonly features: ReadonlyMap<string, FeatureState>;
  /**
   * The open ones, by feature id; a change of several features is under each. One that came as an event, or that
   * an event has updated, has `change` and `reason` null: the event does not contain them. Those whose feature is
   * unknown are under `''`.
   */
  readonly pendingChanges: ReadonlyMap<string, readonly PendingChange[]>;
  /** The events since the channel was opened, newest first, at most `activityLimit`. */
  readonly activity: readonly EventMessage[];
  readonly lastEvent: EventMessage | null;
  /**
   * From the last event's commit (where the database does not record it: from the server's read) until it
   * was applied here, in milliseconds. The two clocks are the server's and this machine's: the difference
   * between them is in it, and can make it negative. null before the first event.
   */
  readonly lagMs: number | null;
}

/** What a channel's owner may see of it. */
export interface StoreView {
  /** The state as of the last notification: the same object until something changes. */
  readonly getState: () => ChannelState;
  /**
   * Calls `listener` after changes: at once after a quiet time, then at most once an animation frame (16 ms
   * where there is none). Returns how to take it off.
   */
  readonly subscribe: (listener: () => void) => () => void;
  /** Calls `listener` with every event, in order, each once, as it is applied. Returns how to take it off. */
  readonly onEvent: (listener: (event: EventMessage) => void) => () => void;
}

export interface Store {
  readonly view: StoreView;
  setStatus(status: ChannelStatus, environment: string | null): void;
  /** Takes the snapshot in place of all features and pending changes. */
  replace(snapshot: Snapshot): void;
  /** Applies the event, unless one with its id has been applied since the last snapshot. */
  apply(event: EventMessage): void;
  /** Everything that has been applied, notified of or not, in the form of a snapshot's lists. */
  contents(): Pick<Snapshot, 'features' | 'pending_changes'>;
}

const idsRemembered = 4_096;

export function createStore(activityLimit: number, report: (error: unknown) => void): Store {
  const [subscribe, tell] = createTopic(report);
  const [onEvent, tellEvent] = createTopic<EventMessage>(report);
  /** The ids of events that have been applied; and by `decided/` and a request's id, the event that decided it. */
  const applied = new Map<string, string>();
  let status: ChannelStatus = { state: 'connecting' };
  let environment: string | null = null;
  let features: ReadonlyMap<string, FeatureState> = new Map();
  let pendingChanges: ReadonlyMap<string, readonly PendingChange[]> = new Map();
  let activity: readonly EventMessage[] = [];
  let lagMs: number | null = null;
  const current = (): ChannelState => ({
    status,
    environment,
    features,
    pendingChanges,
    activity,
    lastEvent: activity[0] ?? null,
    lagMs,
  });
  let state = current();
  let dirty = false;
  let quiet = true;

  // The first change after a quiet frame is told at once: nobody waits for a frame to see a click's effect.
  // What follows within a frame is told together at its end, so a burst costs one rendering a frame.
  const publish = (): void => {
    quiet = !dirty;
    if (quiet) return;
    dirty = false;
    state = current();
    afterFrame(publish);
    tell();
  };
  const changed = (): void => {
    dirty = true;
    if (quiet) publish();
  };

  const setFeature = (id: string, feature: FeatureState | null | undefined): void => {
    features = put(features, state.features, id, feature);
  };
  const listPending = (): PendingChange[] => [...new Set([...pendingChanges.values()].flat())];
  const setPending = (changes: readonly PendingChange[]): void => {
    const next = new Map<string, PendingChange[]>();
    for (const change of changes) {
      for (const featureId of new Set(change.entities.map((entity) => entity.feature_id ?? ''))) {
        next.set(featureId, [...(next.get(featureId) ?? []), change]);
      }
    }
    for (const featureId of new Set([...pendingChanges.keys(), ...next.keys()])) {
      pendingChanges = put(pendingChanges, state.pendingChanges, featureId, next.get(featureId));
    }
  };

  return {
    view: { getState: () => state, subscribe, onEvent },
    setStatus(next, key) {
      if (same([status, environment], [next, key])) return;
      status = next;
      environment = key;
      changed();
    },
    replace(snapshot) {
      // A restored database gives the same ids to other events.
      applied.clear();
      const next = new Map(snapshot.features.map((feature) => [feature.id, feature]));
      for (const id of new Set([...features.keys(), ...next.keys()])) setFeature(id, next.get(id));
      setPending(snapshot.pending_changes);
      changed();
    },
    apply(event) {
      const { action, entity, entity_id, feature_id, pending_change_id: id } = event;
      if (applied.has(event.id)) return;
      applied.set(event.id, '');
      while (applied.size > idsRemembered) applied.delete(applied.keys().next().value as string);
      if (id) {
        const open = listPending();
        const others = open.filter((change) => change.id !== id);
        const decision = `decided/${id}`;
        if (action !== 'pending' && action !== 'updated') {
          applied.set(decision, event.id);
          setPending(others);
        } else if (!(Number(event.id) < Number(applied.get(decision)))) {
          // A step from before the decision must not open the request again. Ids of the event log are numbers;
          // for other ids the comparison is false.
          const unknown = { reason: null, change: null };
          const known = {
            id,
            requested_by: event.actor ?? '',
            created_at: event.timestamp,
            ...unknown,
            entities: [],
            ...open.find((change) => change.id === id),
            ...(action === 'updated' && unknown),
          };
          // A change of several entities comes as one event for each.
          const entities = known.entities.filter((other) => other.entity_id !== entity_id);
          setPending([...others, { ...known, entities: [...entities, { entity, entity_id, feature_id }] }]);
        }
      }
      if (event.feature !== undefined) {
        if (feature_id) setFeature(feature_id, event.feature);
      } else if (entity === 'feature' && action === 'deleted') setFeature(entity_id, null);
      activity = [event, ...activity].slice(0, activityLimit);
      lagMs = Date.now() - Date.parse(event.committed_at ?? event.seen_at);
      tellEvent(event);
      changed();
    },
    contents: () => ({ features: [...features.values()], pending_changes: listPending() }),
  };
}

/** `map` with the value, or without it; the map in which nothing changes is `map` itself, and `published` never changes. */
function put<Value>(
  map: ReadonlyMap<string, Value>,
  published: ReadonlyMap<string, Value>,
  key: string,
  value: Value | null | undefined,
): ReadonlyMap<string, Value> {
  if (same(map.get(key), value ?? undefined)) return map;
  const next = map === published ? new Map(map) : (map as Map<string, Value>);
  if (value) next.set(key, value);
  else next.delete(key);
  return next;
}

/** Calls `run` once: at the next animation frame; 16 ms later where there are none. */
function afterFrame(run: () => void): void {
  const { requestAnimationFrame } = globalThis as Partial<AnimationFrameProvider>;
  let due = true;
  const once = (): void => {
    if (due) run();
    due = false;
  };
  requestAnimationFrame?.(once);
  // A page that is hidden gets no frames: there the timer takes over.
  setTimeout(once, requestAnimationFrame ? 250 : 16);
}
