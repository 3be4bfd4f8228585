'use client';

import { useCallback, useEffect, useMemo, useRef, useSyncExternalStore } from 'react';
import type { Approvals, ApprovalsState } from '../approvals/index.js';
import type {
  ChannelState,
  ChannelStatus,
  Client,
  ConnectionStatus,
  EventMessage,
  FeatureState,
  PendingChange,
  Subscription,
} from '../index.js';
import { useChannel } from './provider.js';

type Features = ChannelState['features'];
type PendingChanges = ChannelState['pendingChanges'];

/** The state without a channel. Also used for rendering on a server, and for hydration. */
const emptyState: ChannelState = {
  status: { state: 'connecting' },
  features: new Map(),
  pendingChanges: new Map(),
  activity: [],
  environment: null,
  lastEvent: null,
  lagMs: null,
};
const emptyApprovals: ApprovalsState = {
  status: emptyState.status,
  open: new Map(),
  decided: new Map(),
  mayDecide: new Set(),
  lastEvent: null,
};
const noChanges: readonly PendingChange[] = [];
const idleStatus: ConnectionStatus = {
  state: 'idle',
  transport: 'websocket',
  attempt: 0,
  retryAtMs: null,
  lastError: null,
};
const getIdleStatus = (): ConnectionStatus => idleStatus;
const neverChanges = () => () => undefined;

/**
 * Returns a part of the channel's state. The component renders again only when that part changes. If `select` creates
 * a new list or object on each call (a filtered list, an object of several parts), the hook compares its elements,
 * and returns the previous object while they are the same.
 */
export function useChannelState<Part>(select: (state: ChannelState) => Part): Part {
  return useSelected(useChannel(), emptyState, select);
}

/**
 * Returns a part of the state of the approvals feed, like `useChannelState`; without `select` the whole state. The app
 * opens the feed: `approvals(client)` of `@flagcast/client/approvals`. While it is null, the state is empty.
 */
export function useApprovals(feed: Approvals | null): ApprovalsState;
export function useApprovals<Part>(feed: Approvals | null, select: (state: ApprovalsState) => Part): Part;
export function useApprovals(
  feed: Approvals | null,
  select: (state: ApprovalsState) => unknown = selectAll,
): unknown {
  return useSelected(feed, emptyApprovals, select);
}

function useSelected<State, Part>(
  source: Subscription<State, unknown> | null,
  empty: State,
  select: (state: State) => Part,
): Part {
  const rendered = useRef<{ readonly part: Part } | null>(null);
  const [getPart, getServerPart] = useMemo(() => {
    let last: { readonly state: State; readonly part: Part } | null = null;
    const read = (state: State): Part => {
      if (last?.state === state) return last.part;
      const selected = select(state);
      // An inline selector is a new function on each rendering, so also compare with the rendered part.
      const before = last ?? rendered.current;
      const part = before && shallowEqual(before.part, selected) ? before.part : selected;
      last = { state, part };
      return part;
    };
    return [() => read(source?.getState() ?? empty), () => read(empty)];
  }, [source, empty, select]);
  const part = useSyncExternalStore(source?.subscribe ?? neverChanges, getPart, getServerPart);
  useEffect(() => {
    rendered.current = { part };
  }, [part]);
  return part;
}

/** Returns the feature with this id; undefined if it does not exist or is not loaded. */
export function useFeature(id: string): FeatureState | undefined {
  return useChannelState(useCallback(({ features }) => features.get(id), [id]));
}

/** Returns the feature with this key; undefined if it does not exist or is not loaded. */
export function useFlag(key: string): FeatureState | undefined {
  return useChannelState(
    useCallback(({ features }) => [...features.values()].find((feature) => feature.key === key), [key]),
  );
}

/** Returns the status of the client's connection, with the transport, the failed attempts and the last error. */
export function useClientStatus({ subscribe, getStatus }: Client): ConnectionStatus {
  return useSyncExternalStore(subscribe, getStatus, getIdleStatus);
}

/**
 * Returns all features by id, or the result of `select`, e.g.
 * `useFeatures((features) => [...features.values()].filter(({ enabled }) => enabled))`.
 */
export function useFeatures(): Features;
export function useFeatures<Part>(select: (features: Features) => Part): Part;
export function useFeatures(select: (features: Features) => unknown = selectAll): unknown {
  return useChannelState(useCallback(({ features }) => select(features), [select]));
}

/** Returns the pending changes of one feature, oldest first; without an id, those of all features, by feature id. */
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

/** Returns the events since the channel was opened, newest first, at most the client's `activityLimit`. */
export function useActivity(): readonly EventMessage[] {
  return useChannelState(selectActivity);
}

/** Returns the status of the channel: `connecting`, `catching-up`, `live`, `stale` or `closed`. */
export function useConnectionStatus(): ChannelStatus {
  return useChannelState(selectStatus);
}

const selectAll = <Value>(value: Value): Value => value;
const selectActivity = ({ activity }: ChannelState): ChannelState['activity'] => activity;
const selectStatus = ({ status }: ChannelState): ChannelStatus => status;

/** Whether two values are identical, or are lists, maps or plain objects with identical elements. */
function shallowEqual(one: unknown, other: unknown): boolean {
  if (Object.is(one, other)) return true;
  const entries = entriesOf(one);
  const others = entriesOf(other);
  if (!entries || !others || prototypeOf(one) !== prototypeOf(other)) return false;
  // The order matters, because components show the elements of a map as a list.
  return (
    entries.length === others.length &&
    entries.every(([key, value], index) => {
      const [otherKey, otherValue] = others[index] as [unknown, unknown];
      return Object.is(key, otherKey) && Object.is(value, otherValue);
    })
  );
}

function entriesOf(value: unknown): [unknown, unknown][] | null {
  if (typeof value !== 'object' || value === null) return null;
  if (value instanceof Map) return [...(value as Map<unknown, unknown>)];
  if (Array.isArray(value)) return [...value.entries()];
  const prototype = prototypeOf(value);
  return prototype === Object.prototype || prototype === null ? Object.entries(value) : null;
}

function prototypeOf(value: unknown): unknown {
  return Object.getPrototypeOf(value) as unknown;
}
