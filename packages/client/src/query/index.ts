import type { QueryClient, QueryKey } from '@tanstack/query-core';
import type { Channel, ChannelState, FeatureState, PendingChange } from '../index.js';

/** Where the channel's state is in the cache; null: it is not kept there. */
export interface QueryKeys {
  /** A list of FeatureState, in the snapshot's order. Default `['features', projectId, env]`. */
  readonly features?: QueryKey | null;
  /** One FeatureState; null once it has been deleted. Default `['feature', projectId, env, id]`. */
  readonly feature?: ((id: string) => QueryKey) | null;
  /** A list of the open PendingChanges. Default `['pendingChanges', projectId, env]`. */
  readonly pendingChanges?: QueryKey | null;
}

export interface ConnectQueryClientOptions {
  readonly keys?: QueryKeys;
}

/**
 * Keeps caches of TanStack Query true to the channel, until the function that it returns is called. What an
 * event touches is set from the state that it brings, and nothing is fetched; what a snapshot or a resync
 * brings replaces what was there; all else keeps its object, so that nothing else is rendered again.
 *
 * The lists are there as soon as the channel has a snapshot. A single feature is set where a query has asked
 * for it; one that is deleted becomes null. Only the list of open changes is invalidated, when an event has
 * opened or updated one: the event does not contain its contents, which a query of the app's own may fetch.
 */
export function connectQueryClient(
  queryClient: QueryClient,
  channel: Channel,
  { keys = {} }: ConnectQueryClientOptions = {},
): () => void {
  const { projectId, env } = channel;
  const {
    features: featuresKey = ['features', projectId, env],
    feature: keyOfFeature = (id: string): QueryKey => ['feature', projectId, env, id],
    pendingChanges: pendingChangesKey = ['pendingChanges', projectId, env],
  } = keys;
  /** The contents of an open change have changed: what has been fetched of it is outdated. */
  let isOutdated = false;
  let known: Pick<ChannelState, 'features' | 'pendingChanges'> | null = null;

  const setFeature = (id: string, feature: FeatureState | null): void => {
    if (!keyOfFeature) return;
    const key = keyOfFeature(id);
    const query = queryClient.getQueryCache().find({ queryKey: key });
    if (!query) return;
    // An answer that is on its way is older than what is set here, and would take its place.
    void queryClient.cancelQueries({ queryKey: key, exact: true });
    queryClient.setQueryData(key, feature);
  };
  const setList = (key: QueryKey | null, list: readonly unknown[]): void => {
    if (!key) return;
    void queryClient.cancelQueries({ queryKey: key, exact: true });
    queryClient.setQueryData(key, list);
  };

  const follow = (): void => {
    // Before the first snapshot there is nothing to tell, and what the app has fetched is better.
    if (!known && channel.toSnapshot() === null) return;
    const { features, pendingChanges } = channel.getState();
    const before = known;
    known = { features, pendingChanges };
    if (before?.features !== features) {
      setList(featuresKey, [...features.values()]);
      for (const [id, feature] of features) {
        if (before?.features.get(id) !== feature) setFeature(id, feature);
      }
      for (const id of before?.features.keys() ?? []) {
        if (!features.has(id)) setFeature(id, null);
      }
    }
    if (before?.pendingChanges !== pendingChanges) {
      const changes = listOf(pendingChanges);
      setList(pendingChangesKey, changes);
      const earlier = new Set(before ? listOf(before.pendingChanges) : []);
      // What came as an event has no contents yet.
      isOutdated ||= changes.some((change) => change.change === null && !earlier.has(change));
    }
    if (pendingChangesKey && isOutdated) {
      void queryClient.invalidateQueries({ queryKey: pendingChangesKey, exact: true });
    }
    isOutdated = false;
  };

  follow();
  const offEvent = channel.onEvent(({ source, action }) => {
    // Where the contents were unknown already, the list stays the same.
    if (source === 'pending' && action === 'updated') isOutdated = true;
  });
  const offState = channel.subscribe(follow);
  return () => {
    offEvent();
    offState();
  };
}

function listOf(pendingChanges: ChannelState['pendingChanges']): PendingChange[] {
  return [...new Set([...pendingChanges.values()].flat())];
}
