import type { TabMessage } from './messages.js';

/** What is used of the Web Locks of a browser. */
export interface TabLocks {
  request(
    name: string,
    options: { readonly signal: AbortSignal },
    granted: () => Promise<void> | void,
  ): Promise<unknown>;
}

/** What is used of a BroadcastChannel. */
export interface TabBus {
  onmessage: ((event: never) => unknown) | null;
  postMessage(message: unknown): void;
  close(): void;
}

/** How the tabs of a browser find each other. */
export interface TabParts {
  readonly locks: TabLocks;
  readonly BroadcastChannel: new (name: string) => TabBus;
}

export interface MembershipEvents {
  /** The other tabs may be told of this one: they will see it go. */
  readonly joined: () => void;
  /** This tab leads from here on. */
  readonly elected: () => void;
  readonly receive: (message: TabMessage) => void;
  readonly report: (error: unknown) => void;
}

/** One tab among the tabs of its user. */
export interface Membership {
  /** Names the tab, as long as it is a member. */
  readonly tab: string;
  readonly post: (message: TabMessage) => void;
  /** Calls `gone` once the tab named is no member any more, however it ended. */
  readonly watch: (tab: string, gone: () => void) => void;
  /** Leaves the succession to the next tab once `closed` has come. */
  readonly leave: (closed: Promise<void>) => void;
}

/**
 * Joins the tabs named `key`. The leader is the tab that holds the lock of that name: the browser gives it
 * to exactly one, and to the next one when that one has gone. Each tab holds a lock of its own besides, by
 * which the leader sees it go.
 */
export function join(
  key: string,
  { locks, BroadcastChannel }: TabParts,
  events: MembershipEvents,
): Membership {
  const tab = crypto.randomUUID();
  const left = new AbortController();
  const { signal } = left;
  let release: () => void = () => undefined;
  const kept = new Promise<void>((resolve) => (release = resolve));
  const bus = new BroadcastChannel(key);
  bus.onmessage = ({ data }: { data: TabMessage }) => events.receive(data);

  const hold = async (name: string, granted: () => void): Promise<void> => {
    await locks.request(name, { signal }, async () => {
      if (signal.aborted) return;
      granted();
      await kept;
    });
  };
  const lockOf = (member: string): string => `${key}\n${member}`;
  // Where locks are refused (a sandboxed frame) the tab is on its own; the second request tells of it.
  hold(lockOf(tab), events.joined).catch(() => undefined);
  hold(key, events.elected).catch((error: unknown) => {
    if (signal.aborted) return;
    events.report(error);
    events.elected();
  });

  return {
    tab,
    post: (message) => bus.postMessage(message),
    watch(member, gone) {
      locks
        .request(lockOf(member), { signal }, gone)
        .catch((error: unknown) => signal.aborted || events.report(error));
    },
    leave(closed) {
      left.abort();
      bus.close();
      void closed.then(release);
    },
  };
}
