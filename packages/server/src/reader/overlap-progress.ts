import { States } from './log-statements.js';
import { randomUUID } from 'node:crypto';
import { type FlagEvent, hashedId, type ReadState } from '../events/event.js';
import type { Coverage } from '../events/position.js';

/** An event as a read found it. */
interface FoundEvent {
  readonly event: FlagEvent;
  readonly isOpenRequest: boolean;
}

/**
 * Tracks what has been delivered of a source without transaction ids. Each read looks back by the overlap and drops
 * what was delivered. So it finds an event that is committed within the overlap after its created_at, or while an older
 * transaction is visibly open. An event that is committed later is missed.
 *
 * Positions count the batches of this process: a client that returns to it resumes from memory, any other one gets a
 * resync.
 */
export class OverlapProgress {
  /** Only this process understands its positions. */
  readonly history = randomUUID().slice(0, 12);
  /** The delivered events that a read can find again: their ids and created_at. */
  readonly #delivered = new Map<string, string>();
  /** The open requests of the last read, with one event for each entity. */
  #open = new Map<string, FlagEvent>();
  #from: string | null = null;
  #batches = 1n;
  #hasBegun = false;

  get remembered(): number {
    return this.#delivered.size + this.#open.size;
  }

  /**
   * How far the next read looks back, as the last one found it: a transaction that was open then may have been
   * committed since. Null before the first read.
   */
  get from(): string | null {
    return this.#from;
  }

  /** The requests that were open at the last read. */
  get openRequests(): string[] {
    return [...new Set([...this.#open.values()].map(({ rowId }) => rowId))];
  }

  /** Less than the xmax of `position`, which covers all batches so far. */
  get snapshotXmax(): bigint {
    return this.#batches - 1n;
  }

  /** The coverage that cursors get. */
  get position(): Coverage {
    return { xmin: this.#batches, xmax: this.#batches, listed: 'open', xids: [] };
  }

  get state(): ReadState {
    return { coverage: this.position, durable: this.position, partial: [], durablePartial: [] };
  }

  /** Records a read and returns its new events; the first read has none. The next read looks back to `since`. */
  absorb(rows: readonly (string | null)[][], since: string, hasState: boolean): FlagEvent[] {
    const states = { hasState, requests: new States(), features: new States() };
    const found = rows.map((row) => toFoundEvent(row, this.#batches, states));
    const openBefore = this.#open;
    const open = found.filter(({ isOpenRequest }) => isOpenRequest).map(({ event }) => event);
    this.#open = new Map(open.map((event) => [event.id, event]));
    const fresh = found
      .filter(({ event, isOpenRequest }) =>
        isOpenRequest ? !openBefore.has(event.id) : !this.#delivered.has(event.id),
      )
      .map(({ event }) => event);
    const named = new Set(found.map(({ event }) => event.rowId));
    // A request that disappeared without a decision was deleted.
    const gone = [...openBefore.values()].filter(({ rowId }) => !named.has(rowId));
    fresh.push(...gone.map((event) => asCancelled(event, this.#batches)));
    // Never earlier: older events have been forgotten.
    const from = this.#from === null || since > this.#from ? since : this.#from;
    this.#from = from;
    for (const [id, createdAt] of this.#delivered) if (createdAt <= from) this.#delivered.delete(id);
    // Afterwards, because times after the year 9999 do not sort as texts, and each read finds such rows.
    for (const { event, isOpenRequest } of found) {
      if (!isOpenRequest) this.#delivered.set(event.id, event.createdAt);
    }
    const hadBegun = this.#hasBegun;
    this.#hasBegun = true;
    if (!hadBegun || fresh.length === 0) return [];
    this.#batches += 1n;
    return fresh;
  }
}

function toFoundEvent(
  row: readonly (string | null)[],
  batch: bigint,
  { hasState, requests, features }: { hasState: boolean; requests: States; features: States },
): FoundEvent {
  const text = (index: number): string => row[index] ?? '';
  const names = [0, 1, 2, 3, 5, 6, 7, 8].map(text);
  const isOpenRequest = text(12) === 'true';
  const channel = { source: text(0), projectId: text(2), environmentId: text(3) };
  const [featureId, pendingChangeId] = [row[9] ?? null, row[10] ?? null];
  const feature = features.of(channel, featureId, row[13] ?? null);
  const request =
    hasState && channel.source === 'pending' ? requests.of(channel, pendingChangeId, row[14] ?? null) : null;
  return {
    isOpenRequest,
    event: {
      id: hashedId(names),
      xid: batch,
      ...channel,
      rowId: text(1),
      environmentKey: text(4),
      entity: text(5),
      entityId: text(6),
      action: text(7),
      createdAt: text(8),
      featureId,
      pendingChangeId,
      actor: row[11] ?? null,
      committedAt: null,
      featureJson: hasState ? feature.json : undefined,
      featureUnreadable: false,
      pendingChangeJson: request?.isUnreadable === true ? undefined : request?.json,
      pendingChangeUnreadable: request?.isUnreadable === true,
    },
  };
}

function asCancelled(event: FlagEvent, batch: bigint): FlagEvent {
  const createdAt = new Date().toISOString().replace('Z', '000Z');
  return {
    ...event,
    id: hashedId([event.id, 'cancelled', createdAt]),
    xid: batch,
    action: 'cancelled',
    createdAt,
    actor: null,
    // The request is gone, or the read did not return it.
    pendingChangeJson: event.pendingChangeJson === undefined ? undefined : null,
  };
}
