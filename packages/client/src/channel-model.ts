import type { EventMessage, FeatureState, PendingChange, Snapshot } from '#protocol';
import { isEqual, reuse } from './emitter.js';
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

type Features = ChannelState['features'];
type PendingChanges = ChannelState['pendingChanges'];

/** Creates the model of a channel. It keeps `activityLimit` events. */
export function createChannelModel(activityLimit: number): Model<ChannelState, Snapshot> {
  let features: Features = new Map();
  /** The features that were published must not be modified. */
  let published = features;
  let pendingChanges: PendingChanges = new Map();
  let activity: readonly EventMessage[] = [];
  let lagMs: number | null = null;

  const listPendingChanges = (): PendingChange[] => [...new Set([...pendingChanges.values()].flat())];
  const setPendingChanges = (changes: readonly PendingChange[]): void => {
    const groups = new Map<string, readonly PendingChange[]>();
    for (const change of changes) {
      for (const id of new Set(change.entities.map((entity) => entity.feature_id ?? ''))) {
        groups.set(id, [...(groups.get(id) ?? []), change]);
      }
    }
    pendingChanges = reuse(pendingChanges, groups);
  };

  return {
    createState(status, environment) {
      published = features;
      const lastEvent = activity[0] ?? null;
      return { status, environment, features, pendingChanges, activity, lastEvent, lagMs };
    },
    replace(snapshot) {
      features = reuse(features, new Map(snapshot.features.map((feature) => [feature.id, feature])));
      setPendingChanges(snapshot.pending_changes);
    },
    apply(event, isRepeated) {
      const { feature, pending_change: request } = event;
      // Without it, the server has no tables of requests, or a snapshot will have it.
      if (request !== undefined) {
        const others = listPendingChanges().filter(({ id }) => id !== event.pending_change_id);
        setPendingChanges(request?.status === 'pending' ? [...others, request] : others);
      }
      const isBareDeletion = event.entity === 'feature' && event.action === 'deleted';
      const id = feature === undefined ? isBareDeletion && event.entity_id : event.feature_id;
      if (id && !isEqual(features.get(id), feature ?? undefined)) {
        if (features === published) features = new Map(features);
        if (feature) (features as Map<string, FeatureState>).set(id, feature);
        else (features as Map<string, FeatureState>).delete(id);
      }
      if (isRepeated) return;
      activity = [event, ...activity].slice(0, activityLimit);
      lagMs = Date.now() - Date.parse(event.committed_at ?? event.seen_at);
    },
    contents: () => ({ features: [...features.values()], pending_changes: listPendingChanges() }),
  };
}
