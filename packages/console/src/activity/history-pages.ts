import type { AuditEntry, AuditPage } from '../api/types.js';

/** The part of the history that is loaded. */
export interface LoadedHistory {
  /** Newest first. */
  readonly entries: readonly AuditEntry[];
  /** The cursor of the older entries; null at the end of the history, undefined before the first page. */
  readonly next: string | null | undefined;
  /** RFC 3339: older entries are not searched yet, or, without `next`, cannot be searched; else null. */
  readonly searchedUntil: string | null;
}

/** Reads the entries before a cursor, or the newest ones. */
export type ReadPage = (before: string | null) => Promise<AuditPage>;

export const pageSize = 50;
/** The server scans a bounded number of rows per request, so a search for rare entries takes several. */
const maxRequestsPerPage = 10;
/** Later than all entries. */
export const endOfTime = '9999';

export const nothingLoaded: LoadedHistory = { entries: [], next: undefined, searchedUntil: null };

/** The time by which the history is sorted: a step without a time of its own follows its request. */
export function sortTime(entry: Pick<AuditEntry, 'created_at' | 'requested_at'>): string {
  return entry.created_at ?? entry.requested_at ?? '';
}

/** Reads a full page, with as many requests as it takes, within limits. */
export async function readFullPage(request: ReadPage, before: string | null): Promise<AuditPage> {
  const entries: AuditEntry[] = [];
  let next = before;
  for (let count = 1; ; count += 1) {
    const page = await request(next);
    entries.push(...page.entries);
    ({ next } = page);
    if (next === null || entries.length >= pageSize || count === maxRequestsPerPage)
      return { ...page, entries };
  }
}

/** The loaded entries with the page of older ones. */
export function appendPage(entries: readonly AuditEntry[], page: AuditPage): LoadedHistory {
  return { entries: [...entries, ...page.entries], next: page.next, searchedUntil: page.searched_until };
}

/** What was read, with the older entries that were loaded meanwhile. Both are a `LoadedHistory`. */
export function keepOlder(loaded: unknown, read: unknown): unknown {
  const { entries, ...older } = (loaded ?? nothingLoaded) as LoadedHistory;
  const newer = (read as LoadedHistory).entries;
  const end = entries.findIndex(({ id }) => id === newer.at(-1)?.id) + 1;
  if (end === 0 || end === entries.length) return read;
  return { ...older, entries: [...newer, ...entries.slice(end)] };
}

/**
 * Reads from the newest entry down to a cached one and past `since`, and adds that to the cached entries. These stay the
 * same objects, so React does not render them again.
 */
export async function readNewest(
  readPage: ReadPage,
  cached: LoadedHistory,
  since: string,
): Promise<LoadedHistory> {
  const known = new Map(cached.entries.map((entry) => [entry.id, entry]));
  const oldestId = cached.entries.at(-1)?.id;
  const read: AuditEntry[] = [];
  let page = await readPage(null);
  for (;;) {
    read.push(...page.entries);
    const isKnown = page.entries.some(({ id }) => known.has(id));
    const isPast = page.entries.some((entry) => sortTime(entry) < since || entry.id === oldestId);
    if (known.size === 0 || page.next === null || (isKnown && isPast)) break;
    page = await readPage(page.next);
  }
  if (cached.entries.length === 0) return appendPage(read, { ...page, entries: [] });
  // The cached cursor leads to entries older than the oldest cached one.
  const end = read.findIndex(({ id }) => id === oldestId);
  const newer = end === -1 ? read : read.slice(0, end + 1);
  if (newer.every(({ id }) => known.has(id))) return cached;
  const newerIds = new Set(newer.map(({ id }) => id));
  const others = cached.entries.filter(({ id }) => !newerIds.has(id));
  return { ...cached, entries: [...newer.map((entry) => known.get(entry.id) ?? entry), ...others] };
}
