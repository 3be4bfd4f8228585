import type { EventMessage, FeatureState, PendingChange, Snapshot } from '#protocol';
import { isEqual } from './emitter.js';
import { requestAfter } from './request-after.js';
import type { ChannelStatus } from './status.js';
import type { Model } from './store.js';

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

type PendingChanges = ChannelState['pendingChanges'];

/** Creates the model of a channel. It keeps `activityLimit` events. */
export function createChannelModel(activityLimit: number): Model<ChannelState, Snapshot> {
  let features: ReadonlyMap<string, FeatureState> = new Map();
  let pendingChanges: PendingChanges = new Map();
  /** The maps that were published must not be modified. */
  let published = { features, pendingChanges };
  let activity: readonly EventMessage[] = [];
  let lagMs: number | null = null;

  const setFeature = (id: string, feature: FeatureState | null | undefined): void => {
    features = withEntry(features, published.features, id, feature);
  };
  const setPendingChanges = (changes: readonly PendingChange[]): void => {
    const next = groupByFeature(changes);
    for (const featureId of new Set([...pendingChanges.keys(), ...next.keys()])) {
      pendingChanges = withEntry(pendingChanges, published.pendingChanges, featureId, next.get(featureId));
    }
  };

  return {
    createState(status, environment) {
      published = { features, pendingChanges };
      return { status, environment, ...published, activity, lastEvent: activity[0] ?? null, lagMs };
    },
    replace(snapshot) {
      const next = new Map(snapshot.features.map((feature) => [feature.id, feature]));
      for (const id of new Set([...features.keys(), ...next.keys()])) setFeature(id, next.get(id));
      setPendingChanges(snapshot.pending_changes);
    },
    apply(event) {
      const { action, entity, entity_id, feature_id, pending_change_id } = event;
      if (pending_change_id) {
        const changes = listPendingChanges(pendingChanges);
        const request = requestAfter(
          event,
          changes.find(({ id }) => id === pending_change_id),
        );
        const others = changes.filter((change) => change.id !== pending_change_id);
        setPendingChanges(request?.status === 'pending' ? [...others, request] : others);
      }
      if (event.feature !== undefined) {
        if (feature_id) setFeature(feature_id, event.feature);
      } else if (entity === 'feature' && action === 'deleted') setFeature(entity_id, null);
      activity = [event, ...activity].slice(0, activityLimit);
      lagMs = Date.now() - Date.parse(event.committed_at ?? event.seen_at);
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
