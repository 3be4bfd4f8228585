'use client';

import { useCallback, useEffect, useMemo, useRef, useSyncExternalStore } from 'react';
import type { ChannelState, ChannelStatus, EventMessage, FeatureState, PendingChange } from '../index.js';
import { useChannel } from './provider.js';
import { shallowEqual } from './shallow-equal.js';

type Features = ChannelState['features'];
type PendingChanges = ChannelState['pendingChanges'];

/** Before there is a channel. Also while hydrating: the server's HTML was rendered with it. */
const noState: ChannelState = {
  status: { state: 'connecting' },
  features: new Map(),
  pendingChanges: new Map(),
  activity: [],
  environment: null,
  lastEvent: null,
  lagMs: null,
};
const noChanges: readonly PendingChange[] = [];
const neverChanges = () => () => undefined;

/**
 * A part of the channel's state; the component is rendered again when that part changes, and not else. What
 * `select` makes anew each time (a filtered list, an object of several parts) counts as unchanged, and stays
 * the same object, while its elements do.
 */
export function useChannelState<Part>(select: (state: ChannelState) => Part): Part {
  const channel = useChannel();
  const shown = useRef<{ readonly part: Part } | null>(null);
  const [getPart, getServerPart] = useMemo(() => {
    let last: { readonly state: ChannelState; readonly part: Part } | null = null;
    const read = (state: ChannelState): Part => {
      if (last?.state === state) return last.part;
      const fresh = select(state);
      // A selector written inline is another function at each rendering; what it gives is compared with what
      // is on the screen all the same.
      const before = last ?? shown.current;
      const part = before && shallowEqual(before.part, fresh) ? before.part : fresh;
      last = { state, part };
      return part;
    };
    return [() => read(channel?.getState() ?? noState), () => read(noState)];
  }, [channel, select]);
  const part = useSyncExternalStore(channel?.subscribe ?? neverChanges, getPart, getServerPart);
  useEffect(() => {
    shown.current = { part };
  }, [part]);
  return part;
}

/** The feature with this id; undefined where there is none (yet, or any more). */
export function useFeature(id: string): FeatureState | undefined {
  return useChannelState(useCallback(({ features }) => features.get(id), [id]));
}

/**
 * All features by id; or what `select` takes from them, e.g.
 * `useFeatures((features) => [...features.values()].filter(({ enabled }) => enabled))`.
 */
export function useFeatures(): Features;
export function useFeatures<Part>(select: (features: Features) => Part): Part;
export function useFeatures(select: (features: Features) => unknown = everything): unknown {
  return useChannelState(useCallback(({ features }) => select(features), [select]));
}

/** The open changes of one feature, oldest first; without an id, of all, by feature id. */
export function usePendingChanges(): PendingChanges;
export function usePendingChanges(featureId: string): readonly PendingChange[];
export function usePendingChanges(featureId?: string): PendingChanges | readonly PendingChange[] {
  return useChannelState(
    useCallback(
      ({ pendingChanges }: ChannelState) =>
        featureId === undefined ? pendingChanges : (pendingChanges.get(featureId) ?? noChanges),
      [featureId],
    ),
  );
}

/** The events since the channel was opened, newest first, at most the client's `activityLimit`. */
export function useActivity(): readonly EventMessage[] {
  return useChannelState(selectActivity);
}

/** How far the state can be trusted: `connecting`, `catching-up`, `live`, `stale` or `closed`. */
export function useConnectionStatus(): ChannelStatus {
  return useChannelState(selectStatus);
}

const everything = (features: Features): Features => features;
const selectActivity = ({ activity }: ChannelState): ChannelState['activity'] => activity;
const selectStatus = ({ status }: ChannelState): ChannelStatus => status;
