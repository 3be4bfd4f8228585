import type { Client, ClientOptions } from '../client.js';
import { FlagcastError } from '../flagcast-error.js';
import type { TabBus, TabLocks } from './membership.js';
import { shareClient } from './shared-client.js';

export type { TabBus, TabLocks } from './membership.js';

export interface SharedTabsOptions {
  /**
   * Names who is signed in. Tabs of another user never share, and no tab of this user gets what another
   * one's token brought. Two users must never have the same.
   */
  readonly userId: string;
  /** Tells groups of tabs of one user apart, e.g. two apps of one origin. Default: all share. */
  readonly name?: string;
  /** Default: `navigator.locks`. */
  readonly locks?: TabLocks | undefined;
  /** Default: the global one. */
  readonly BroadcastChannel?: (new (name: string) => TabBus) | undefined;
}

/** Tabs of another version of this package may speak otherwise, and do not share with this one. */
const version = 2;

/**
 * One connection to the server for all tabs of a browser: `createClient({ …, shareTabs: sharedTabs({ userId }) })`.
 * Tabs share that have the same origin, server, `userId` and `name`.
 *
 * One tab leads: it has the connection, renews the token, and relays. The others ask nothing of the server,
 * and `getToken` of theirs is not called. When the leader closes, is frozen or dies, the next tab connects
 * and goes on from its newest cursor. Where there are no Web Locks or no BroadcastChannel (Node 20, pages
 * without https) each tab has a connection of its own.
 *
 * Throws a FlagcastError `bad_user_id` where `userId` is empty.
 */
export function sharedTabs({
  userId,
  name = '',
  ...given
}: SharedTabsOptions): NonNullable<ClientOptions['shareTabs']> {
  if (!userId) throw new FlagcastError('bad_user_id', 'userId must name who is signed in');
  const { navigator } = globalThis as { navigator?: { locks?: TabLocks } };
  const locks = given.locks ?? navigator?.locks;
  const BroadcastChannel = given.BroadcastChannel ?? globalThis.BroadcastChannel;
  return (options, connect): Client => {
    // oxlint-disable-next-line typescript/no-unnecessary-condition -- older browsers have none
    if (!locks || !BroadcastChannel) return connect({ ...options, shareTabs: undefined });
    const keyOf = (base: string): string => JSON.stringify(['flagcast', version, base, userId, name]);
    return shareClient(keyOf, { locks, BroadcastChannel }, options, connect);
  };
}
