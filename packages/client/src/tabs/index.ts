/**
 * Shares one connection between the tabs of a browser.
 *
 * @module @flagcast/client/tabs
 */
import type { Client, ClientOptions } from '../client.js';
import { FlagcastError } from '../flagcast-error.js';
import { tabProtocolVersion } from './messages.js';
import { createSharedClient } from './shared-client.js';
import type { TabBus, TabLocks } from './tab-group.js';

export type { TabBus, TabLocks } from './tab-group.js';

/** The options of `sharedTabs`: which tabs share a connection. */
export interface SharedTabsOptions {
  /**
   * Identifies the user. Tabs of different users never share a connection, because each user may only get what their
   * own token allows. Two users must never have the same id.
   */
  readonly userId: string;
  /** Separates groups of tabs of one user, e.g. two apps on one origin. Default: all tabs share. */
  readonly name?: string;
  /** Default: `navigator.locks`. */
  readonly locks?: TabLocks | undefined;
  /** Default: the global class. */
  readonly BroadcastChannel?: (new (name: string) => TabBus) | undefined;
}

/**
 * Shares one connection to the server between all tabs of a browser that have the same origin, server, `userId` and
 * `name`: `createClient({ …, shareTabs: sharedTabs({ userId }) })`.
 *
 * One tab is the leader: it has the connection, renews the token, and forwards messages. The other tabs send nothing
 * to the server, and their `getToken` is not called. When the leader is closed, frozen or killed, the next tab
 * connects and resumes from its newest cursor. Without Web Locks or BroadcastChannel (Node 20, pages without https)
 * each tab has its own connection.
 *
 * Throws a FlagcastError `bad_user_id` if `userId` is empty.
 */
export function sharedTabs({
  userId,
  name = '',
  ...options
}: SharedTabsOptions): NonNullable<ClientOptions['shareTabs']> {
  if (!userId) throw new FlagcastError('bad_user_id', 'userId must identify the signed-in user');
  const { navigator } = globalThis as { navigator?: { locks?: TabLocks } };
  const locks = options.locks ?? navigator?.locks;
  const BroadcastChannel = options.BroadcastChannel ?? globalThis.BroadcastChannel;
  return (client, connect): Client => {
    // oxlint-disable-next-line typescript/no-unnecessary-condition -- missing in older browsers
    if (!locks || !BroadcastChannel) return connect({ ...client, shareTabs: undefined });
    return createSharedClient({
      groupKeyOf: (url) => JSON.stringify(['flagcast', tabProtocolVersion, url, userId, name]),
      apis: { locks, BroadcastChannel },
      client,
      connect,
    });
  };
}
