/**
 * Updates the cache of TanStack Query 5 from a channel.
 *
 * @module @flagcast/client/query
 */
import type { Query, QueryClient, QueryKey } from '@tanstack/query-core';
import type { Channel, ChannelState, FeatureState, PendingChange } from '../index.js';

/** The query keys under which the channel's state is cached. null: not cached. */
export interface QueryKeys {
  /** A list of FeatureState, in the order of the snapshot. Default `['features', projectId, env]`. */
  readonly features?: QueryKey | null;
  /** One FeatureState; null after it was deleted. Default `['feature', projectId, env, id]`. */
  readonly feature?: ((id: string) => QueryKey) | null;
  /** A list of the open PendingChanges. Default `['pendingChanges', projectId, env]`. */
  readonly pendingChanges?: QueryKey | null;
}

/** The options of `connectQueryClient`. */
export interface ConnectQueryClientOptions {
  /** Default: all parts of the state are cached, under the default keys. */
  readonly keys?: QueryKeys;
}

/**
 * Writes the channel's state to the cache of TanStack Query after each change. Returns the function that stops it.
 *
 * An event contains the new state, so nothing is fetched. Unchanged data keeps its identity, so components that show it
 * do not render again. An optimistic value that the app has written to the list stays until the feature changes, or the
 * app writes another one.
 *
 * The lists are cached as soon as the channel has a snapshot, and again when a query for them is added. A single feature
 * is cached if a query for it exists, and becomes null when it is deleted.
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
  /** The state that was last written to the cache. */
  let cached: Pick<ChannelState, 'features' | 'pendingChanges'> | null = null;

  /** The features by the JSON of their query keys. */
  let indexed: { features: ChannelState['features']; byKey: ReadonlyMap<string, FeatureState> } | null = null;

  const write = (key: QueryKey, data: unknown): void => {
    // The response of a running query is older and would overwrite the new data.
    void queryClient.cancelQueries({ queryKey: key, exact: true });
    queryClient.setQueryData(key, data);
  };
  const setFeature = (id: string, feature: FeatureState | null): void => {
    const key = keyOfFeature?.(id);
    if (key && queryClient.getQueryCache().find({ queryKey: key })) write(key, feature);
  };

  const updateCache = (): void => {
    // Before the first snapshot, keep the data that the app has fetched.
    if (!cached && channel.toSnapshot() === null) return;
    const { features, pendingChanges } = channel.getState();
    const before = cached;
    cached = { features, pendingChanges };
    if (before?.features !== features) {
      if (featuresKey) {
        const shown = new Map(
          queryClient.getQueryData<FeatureState[]>(featuresKey)?.map((feature) => [feature.id, feature]),
        );
        // An optimistic value has the version of the state that it was made from.
        const list = [...features].map(([id, feature]) => {
          const optimistic = shown.get(id);
          return optimistic?.version === feature.version && before?.features.get(id) === feature
            ? optimistic
            : feature;
        });
        write(featuresKey, list);
      }
      for (const [id, feature] of features) {
        if (before?.features.get(id) !== feature) setFeature(id, feature);
      }
      for (const id of before?.features.keys() ?? []) {
        if (!features.has(id)) setFeature(id, null);
      }
    }
    if (pendingChangesKey && before?.pendingChanges !== pendingChanges) {
      write(pendingChangesKey, listPendingChanges(pendingChanges));
    }
  };

  // A query without observers is removed after its gcTime, and a query can be added at any time.
  const fill = ({ queryKey, state }: Query): void => {
    if (!cached || state.data !== undefined) return;
    const { features, pendingChanges } = cached;
    const wanted = JSON.stringify(queryKey);
    if (wanted === JSON.stringify(featuresKey)) write(queryKey, [...features.values()]);
    else if (wanted === JSON.stringify(pendingChangesKey)) {
      write(queryKey, listPendingChanges(pendingChanges));
    } else if (keyOfFeature) {
      if (indexed?.features !== features) {
        const entries = [...features].map(
          ([id, feature]) => [JSON.stringify(keyOfFeature(id)), feature] as const,
        );
        indexed = { features, byKey: new Map(entries) };
      }
      const feature = indexed.byKey.get(wanted);
      if (feature) write(queryKey, feature);
    }
  };
  const stops = [
    channel.subscribe(updateCache),
    queryClient.getQueryCache().subscribe(({ type, query }) => {
      if (type === 'added' || type === 'observerAdded') fill(query as Query);
    }),
  ];
  updateCache();
  return () => {
    for (const stop of stops) stop();
  };
}

function listPendingChanges(pendingChanges: ChannelState['pendingChanges']): PendingChange[] {
  return [...new Set([...pendingChanges.values()].flat())];
}
