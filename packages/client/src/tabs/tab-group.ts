import type { TabMessage } from './messages.js';

/** The part of the Web Locks API that is used. */
export interface TabLocks {
  request(
    name: string,
    options: { readonly signal: AbortSignal },
    granted: () => Promise<void> | void,
  ): Promise<unknown>;
}

/** The part of a BroadcastChannel that is used. */
export interface TabBus {
  onmessage: ((event: never) => unknown) | null;
  postMessage(message: unknown): void;
  close(): void;
}

/** The browser's APIs for communication between tabs. */
export interface TabApis {
  readonly locks: TabLocks;
  readonly BroadcastChannel: new (name: string) => TabBus;
}

export interface TabGroupEvents {
  /** The tab holds its own lock, so the others will notice when it closes. It may post messages now. */
  readonly onJoined: () => void;
  /** The tab is the leader from now on. */
  readonly onElected: () => void;
  readonly onMessage: (message: TabMessage) => void;
  readonly onError: (error: unknown) => void;
}

/** The membership of one tab in the group of tabs that share a connection. */
export interface TabGroup {
  /** The id of this tab in the group. */
  readonly tabId: string;
  readonly post: (message: TabMessage) => void;
  /** Calls `listener` once when the tab has left the group, including when its process was killed. */
  readonly onTabLeft: (tabId: string, listener: () => void) => void;
  /** Leaves the group. The next tab can become the leader when `connectionClosed` resolves. */
  readonly leave: (connectionClosed: Promise<void>) => void;
}

/**
 * Joins the group of tabs with the name `key`. The leader is the tab that holds the Web Lock with this name: the
 * browser grants it to one tab at a time. Each tab also holds a lock of its own. The leader requests that lock to
 * notice when the tab closes.
 */
export function joinTabGroup(
  key: string,
  { locks, BroadcastChannel }: TabApis,
  { onJoined, onElected, onMessage, onError }: TabGroupEvents,
): TabGroup {
  const tabId = crypto.randomUUID();
  const aborter = new AbortController();
  const { signal } = aborter;
  let releaseLocks: () => void = () => undefined;
  const released = new Promise<void>((resolve) => (releaseLocks = resolve));
  const bus = new BroadcastChannel(key);
  bus.onmessage = ({ data }: { data: TabMessage }) => onMessage(data);

  const holdLock = async (name: string, onGranted: () => void): Promise<void> => {
    await locks.request(name, { signal }, async () => {
      if (signal.aborted) return;
      onGranted();
      await released;
    });
  };
  const lockNameOf = (tab: string): string => `${key}\n${tab}`;
  // If locks are refused (sandboxed frame), the tab leads alone. The second request reports the error.
  holdLock(lockNameOf(tabId), onJoined).catch(() => undefined);
  holdLock(key, onElected).catch((error: unknown) => {
    if (signal.aborted) return;
    onError(error);
    onElected();
  });

  return {
    tabId,
    post: (message) => bus.postMessage(message),
    onTabLeft(tab, listener) {
      locks
        .request(lockNameOf(tab), { signal }, listener)
        .catch((error: unknown) => signal.aborted || onError(error));
    },
    leave(connectionClosed) {
      aborter.abort();
      bus.close();
      void connectionClosed.then(releaseLocks);
    },
  };
}
