'use client';

import {
  createContext,
  type ReactNode,
  useCallback,
  useContext,
  useEffect,
  useMemo,
  useRef,
  useState,
  useSyncExternalStore,
} from 'react';
import type { Approvals, ApprovalsState } from '../approvals/index.js';
import type {
  Channel,
  ChannelState,
  ChannelStatus,
  Client,
  ConnectionStatus,
  EventMessage,
  FeatureState,
  PendingChange,
  Subscription,
} from '../index.js';

/** undefined: there is no provider. null: the provider's channel is not open yet. */
const ChannelContext = createContext<Channel | null | undefined>(undefined);

/**
 * Either a `channel`, which the app opens and closes; or a `client`, `projectId` and `env`: then the provider opens
 * the channel when it is mounted and closes it when it is unmounted.
 */
export type FlagcastProviderProps = { readonly children?: ReactNode } & (
  | { readonly channel: Channel }
  | {
      readonly client: Client;
      /** The project's id. */
      readonly projectId: string;
      /** The environment's key, e.g. `prod`. */
      readonly env: string;
    }
);

/** Provides a channel to the hooks in its children. Renders the children immediately, including on a server. */
export function FlagcastProvider(props: FlagcastProviderProps): ReactNode {
  const { children } = props;
  return 'channel' in props ? (
    <ChannelContext.Provider value={props.channel}>{children}</ChannelContext.Provider>
  ) : (
    <ChannelOpener {...props} />
  );
}

type ChannelOpenerProps = Exclude<FlagcastProviderProps, { channel: Channel }>;

function ChannelOpener({ client, projectId, env, children }: ChannelOpenerProps): ReactNode {
  const [opened, setOpened] = useState<{ client: Client; channel: Channel } | null>(null);
  useEffect(() => {
    const channel = client.channel({ projectId, env });
    setOpened({ client, channel });
    return () => {
      setOpened(null);
      channel.close();
    };
  }, [client, projectId, env]);
  // After a change of the props, the previous channel remains until the effect has run.
  const isCurrent =
    opened?.client === client && opened.channel.projectId === projectId && opened.channel.env === env;
  return (
    <ChannelContext.Provider value={isCurrent ? opened.channel : null}>{children}</ChannelContext.Provider>
  );
}

/**
 * Returns the provider's channel, e.g. for `onEvent` in an effect. null on a server, and in the first rendering of a
 * provider that opens its channel itself. Throws if there is no provider.
 */
export function useChannel(): Channel | null {
  const channel = useContext(ChannelContext);
  if (channel === undefined) {
    throw new Error('Add a <FlagcastProvider>');
  }
  return channel;
}

type Features = ChannelState['features'];
type PendingChanges = ChannelState['pendingChanges'];

/** The state without a channel or feed. Also used for rendering on a server, and for hydration. */
const emptyState: ChannelState & ApprovalsState = {
  status: { state: 'connecting' },
  features: new Map(),
  pendingChanges: new Map(),
  activity: [],
  environment: null,
  lastEvent: null,
  lagMs: null,
  open: new Map(),
  decided: new Map(),
  mayDecide: new Set(),
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
  return useSelected(useChannel(), select);
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
  return useSelected(feed, select);
}

function useSelected<State extends ChannelState | ApprovalsState, Part>(
  source: Subscription<State, unknown> | null,
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
    const readEmpty = (): Part => read(emptyState as ChannelState & ApprovalsState & State);
    return [() => (source ? read(source.getState()) : readEmpty()), readEmpty];
  }, [source, select]);
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

const selectAll = (value: unknown): unknown => value;
const selectActivity = ({ activity }: ChannelState): ChannelState['activity'] => activity;
const selectStatus = ({ status }: ChannelState): ChannelStatus => status;

/**
 * Whether two values are identical, or are lists, maps or plain objects with identical elements in the same order:
 * components show the elements of a map as a list.
 */
function shallowEqual(one: unknown, other: unknown): boolean {
  if (Object.is(one, other)) return true;
  const elements = elementsOf(one);
  const others = elementsOf(other);
  return (
    elements !== null &&
    others?.length === elements.length &&
    (one as object).constructor === (other as object).constructor &&
    elements.every((element, index) => Object.is(element, others[index]))
  );
}

/** Returns the keys and values of what `select` may create; null for others, such as instances of classes. */
function elementsOf(value: unknown): unknown[] | null {
  if (value instanceof Map) return [...(value as Map<unknown, unknown>)].flat();
  return Array.isArray(value) || Object.getPrototypeOf(value ?? 0) === Object.prototype
    ? Object.entries(value as object).flat()
    : null;
}
