import { type ListColumns, readListColumns } from '../host/feature-lists.js';
import type { Queries } from '../postgres/session-pool.js';
import type { EventSource } from '../reader/event-source.js';

/** For how long states without a list of the reader's are refused, in milliseconds. */
const refusalMs = 10_000;

/** The lists of features that snapshots and missed events can have. */
export class ReadableLists {
  readonly #requestPoll: () => void;
  #missing: { readonly source: EventSource; readonly sinceMs: number } | null = null;

  /** `requestPoll` lets the reader check what can be read. */
  constructor(requestPoll: () => void = () => undefined) {
    this.#requestPoll = requestPoll;
  }

  /**
   * Rejects for a while if `source` has a list that cannot be read now: if it is readable again before the reader checks, a
   * client would keep the state without it. Not for ever: a server that follows the relay does not check.
   */
  async read(session: Queries, source: EventSource): Promise<ListColumns> {
    const columns = await readListColumns(session);
    const nowMs = performance.now();
    if (!hasMissing(columns, source.lists)) this.#missing = null;
    else if (this.#missing?.source !== source) this.#missing = { source, sinceMs: nowMs };
    if (this.#missing === null || nowMs - this.#missing.sinceMs > refusalMs) return columns;
    this.#requestPoll();
    throw new Error('a list of features cannot be read since a moment, so states would lack it');
  }
}

function hasMissing(columns: ListColumns, wanted: ListColumns): boolean {
  return Object.entries(wanted).some(([table, types]) =>
    Object.entries(types).some(([column, type]) => columns[table]?.[column] !== type),
  );
}
