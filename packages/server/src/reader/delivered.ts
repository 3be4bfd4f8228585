import type { FlagEvent } from '../events/event.js';

/**
 * The identities of the events that were delivered and that a later read can bring again:
 * those whose transaction id is at or above the watermark. Pruned exactly there, so its size
 * is that of the recent past (or of all that came since the oldest open transaction wrote).
 */
export class DeliveredSet {
  readonly #identitiesByXid = new Map<bigint, Set<string>>();
  #size = 0;

  get size(): number {
    return this.#size;
  }

  /** Remembers the event; false when it was there already. */
  add(event: FlagEvent & { readonly xid: bigint }): boolean {
    const identity = identityOf(event);
    let identities = this.#identitiesByXid.get(event.xid);
    if (identities === undefined) {
      identities = new Set();
      this.#identitiesByXid.set(event.xid, identities);
    } else if (identities.has(identity)) {
      return false;
    }
    identities.add(identity);
    this.#size += 1;
    return true;
  }

  /** Forgets what no read from `watermark` on can bring again. */
  pruneBelow(watermark: bigint): void {
    for (const [xid, identities] of this.#identitiesByXid) {
      if (xid < watermark) {
        this.#identitiesByXid.delete(xid);
        this.#size -= identities.size;
      }
    }
  }

  /** The transactions whose rows have been delivered and remembered. */
  xids(): IterableIterator<bigint> {
    return this.#identitiesByXid.keys();
  }

  hasXid(xid: bigint): boolean {
    return this.#identitiesByXid.has(xid);
  }

  clear(): void {
    this.#identitiesByXid.clear();
    this.#size = 0;
  }
}

/** JSON, because a column may hold any separator that one could choose. */
function identityOf(event: FlagEvent): string {
  return JSON.stringify([event.source, event.eventId, event.entity, event.entityId, event.action]);
}
