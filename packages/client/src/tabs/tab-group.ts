import type { TabMessage } from './messages.js';

/** The part of the Web Locks API that is used. */
export interface TabLocks {
  /** Calls `granted` when the lock is free, and holds the lock until the promise of `granted` has settled. */
  request(
    name: string,
    options: { readonly signal?: AbortSignal; readonly steal?: boolean },
    granted: () => Promise<void> | void,
  ): Promise<unknown>;
}

/** The part of a BroadcastChannel that is used. */
export interface TabBus {
  /** Set by the client. Its argument has `data`: a message of another tab. */
  onmessage: ((event: never) => unknown) | null;
  /** Sends a structured clone of the message to all other tabs. */
  postMessage(message: unknown): void;
  /** Ends sending and receiving. */
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
  /** Another tab has taken the lock of the leader from this tab, which did not respond to it. */
  readonly onDeposed: () => void;
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
  /** Takes the lock from a leader that does not respond. */
  readonly depose: () => void;
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
  { onJoined, onElected, onDeposed, onMessage, onError }: TabGroupEvents,
): TabGroup {
  const tabId = crypto.randomUUID();
  const aborter = new AbortController();
  const { signal } = aborter;
  let releaseLocks: () => void = () => undefined;
  const released = new Promise<void>((resolve) => (releaseLocks = resolve));
  const bus = new BroadcastChannel(key);
  bus.onmessage = ({ data }: { data: TabMessage }) => onMessage(data);

  const holdLock = async (
    name: string,
    onGranted: () => void,
    options: Parameters<TabLocks['request']>[1] = { signal },
  ): Promise<void> => {
    await locks.request(name, options, async () => {
      if (signal.aborted) return;
      onGranted();
      await released;
    });
  };
  const lockNameOf = (tab: string): string => `${key}\n${tab}`;
  // If locks are refused (sandboxed frame), the tab leads alone. The second request reports the error.
  holdLock(lockNameOf(tabId), onJoined).catch(() => undefined);
  let isLeader = false;
  const waiting = new AbortController();
  const lead = (options: Parameters<TabLocks['request']>[1]): void => {
    const elect = (): void => {
      isLeader = true;
      onElected();
    };
    holdLock(key, elect, options).catch((error: unknown) => {
      if (signal.aborted) return;
      if (isLeader) onDeposed();
      else if (!waiting.signal.aborted) {
        onError(error);
        elect();
      }
    });
  };
  signal.addEventListener('abort', () => waiting.abort());
  lead({ signal: waiting.signal });

  return {
    tabId,
    post: (message) => bus.postMessage(message),
    onTabLeft(tab, listener) {
      locks
        .request(lockNameOf(tab), { signal }, listener)
        .catch((error: unknown) => signal.aborted || onError(error));
    },
    depose() {
      if (isLeader || waiting.signal.aborted) return;
      waiting.abort();
      lead({ steal: true });
    },
    leave(connectionClosed) {
      aborter.abort();
      bus.close();
      void connectionClosed.then(releaseLocks);
    },
  };
}
