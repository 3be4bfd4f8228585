import { networkOf } from '../auth/trusted-proxies.js';

/** Gives the slot back; calling it again does nothing. */
type ReleaseConnection = () => void;

export interface ConnectionLimits {
  /**
   * Takes a slot for one connection of `userId` from `address`, or says which limit is full;
   * then nothing is taken. Of IPv6 the network (/64) counts: one machine has all of its addresses.
   * Never throws.
   */
  acquire(userId: string, address: string): ReleaseConnection | 'too_many_user' | 'too_many_address';
}

/**
 * Counts the open connections of this process. `perUser` (default 100) and `perAddress`
 * (default 1000) are the most that may be open at once, whole numbers from 1 up; anything else
 * throws a RangeError, because a limit of NaN would be none at all.
 */
export function createConnectionLimits(
  options: { readonly perUser?: number | undefined; readonly perAddress?: number | undefined } = {},
): ConnectionLimits {
  const perUser = atLeastOne('connections per user', options.perUser ?? 100);
  const perAddress = atLeastOne('connections per address', options.perAddress ?? 1000);
  const openByUser = new Map<string, number>();
  const openByAddress = new Map<string, number>();

  return {
    acquire(userId, address) {
      if ((openByUser.get(userId) ?? 0) >= perUser) return 'too_many_user';
      const network = networkOf(address);
      if ((openByAddress.get(network) ?? 0) >= perAddress) return 'too_many_address';
      addTo(openByUser, userId, 1);
      addTo(openByAddress, network, 1);
      let held = true;
      return () => {
        if (!held) return;
        held = false;
        addTo(openByUser, userId, -1);
        addTo(openByAddress, network, -1);
      };
    },
  };
}

export function atLeastOne(name: string, limit: number): number {
  if (!Number.isInteger(limit) || limit < 1) {
    throw new RangeError(`The limit on ${name} is ${limit}: it must be a whole number, 1 or more`);
  }
  return limit;
}

/** Adds to the count of `key`; a count of 0 is deleted, so that the map never outgrows the connections. */
export function addTo(open: Map<string, number>, key: string, difference: number): void {
  const count = (open.get(key) ?? 0) + difference;
  if (count === 0) open.delete(key);
  else open.set(key, count);
}
