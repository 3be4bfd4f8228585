import { describe, expect, it } from 'vitest';
import type { AuditEntry, AuditPage } from '../src/api/types.js';
import {
  appendPage,
  endOfTime,
  keepOlder,
  type LoadedHistory,
  nothingLoaded,
  pageSize,
  readFullPage,
  readNewest,
} from '../src/activity/history-pages.js';
import { auditEntry } from './fixture/data.js';

/** An entry at a minute of the day; its id is its minute. */
function entry(minute: number, changes: Partial<AuditEntry> = {}): AuditEntry {
  const time = `${String(Math.floor(minute / 60)).padStart(2, '0')}:${String(minute % 60).padStart(2, '0')}`;
  return auditEntry(String(minute), { created_at: `2026-11-29T${time}:00.000000Z`, ...changes });
}

function page(
  entries: readonly AuditEntry[],
  next: string | null,
  searchedUntil: string | null = null,
): AuditPage {
  return { entries: [...entries], next, searched_until: searchedUntil, index: null };
}

/** Serves a history, newest first, in pages of three; a cursor is the id of the last entry. Counts its requests. */
function pagesOf(history: readonly AuditEntry[]) {
  const requests: (string | null)[] = [];
  const read = (before: string | null): Promise<AuditPage> => {
    requests.push(before);
    const start = before === null ? 0 : history.findIndex(({ id }) => id === before) + 1;
    const entries = history.slice(start, start + 3);
    return Promise.resolve(page(entries, start + 3 < history.length ? (entries.at(-1)?.id ?? null) : null));
  };
  return { read, requests };
}

const ids = ({ entries }: { readonly entries: readonly AuditEntry[] }): string[] =>
  entries.map(({ id }) => id);
const minutes = (from: number, to: number): AuditEntry[] =>
  Array.from({ length: from - to + 1 }, (_, index) => entry(from - index));

describe('readFullPage', () => {
  it('continues through pages of rare entries until the page is full', async () => {
    const counts = [20, 0, 40, 5];
    const requests: (string | null)[] = [];
    const full = await readFullPage((before) => {
      requests.push(before);
      const found = counts[requests.length - 1] ?? 0;
      const first = requests.length * 100;
      return Promise.resolve(page(minutes(first + found - 1, first), `after ${requests.length}`));
    }, 'start');
    expect(requests).toEqual(['start', 'after 1', 'after 2']);
    expect(full.entries).toHaveLength(60);
    expect(full.next).toBe('after 3');
  });

  it('stops at the end of the history, and after ten requests', async () => {
    const end = await readFullPage(() => Promise.resolve(page([entry(1)], null)), null);
    expect([ids(end), end.next]).toEqual([['1'], null]);
    let count = 0;
    const given = await readFullPage(() => {
      count += 1;
      return Promise.resolve(page([], `after ${count}`, `until ${count}`));
    }, null);
    expect([count, given.next, given.searched_until]).toEqual([10, 'after 10', 'until 10']);
    expect(pageSize).toBeGreaterThan(10);
  });
});

describe('readNewest', () => {
  it('reads one page if nothing is loaded', async () => {
    const { read, requests } = pagesOf(minutes(20, 1));
    const loaded = await readNewest(read, nothingLoaded, endOfTime);
    expect([ids(loaded), loaded.next, requests.length]).toEqual([['20', '19', '18'], '18', 1]);
  });

  it('adds new entries, and keeps the loaded objects and the cursor', async () => {
    const cached: LoadedHistory = { entries: minutes(13, 11), next: '11', searchedUntil: null };
    const { read } = pagesOf(minutes(15, 1));
    const loaded = await readNewest(read, cached, endOfTime);
    expect([ids(loaded), loaded.next]).toEqual([['15', '14', '13', '12', '11'], '11']);
    expect(loaded.entries.at(-1)).toBe(cached.entries.at(-1));
  });

  it('returns the same object if there is nothing new', async () => {
    const cached: LoadedHistory = { entries: minutes(15, 10), next: '10', searchedUntil: null };
    expect(await readNewest(pagesOf(minutes(15, 1)).read, cached, endOfTime)).toBe(cached);
  });

  it('reads past the time of a late event, and finds its entry among older ones', async () => {
    const history = minutes(20, 1);
    const cached: LoadedHistory = { entries: history.slice(0, 15), next: '6', searchedUntil: null };
    const late = entry(10, { id: 'late' });
    const { read, requests } = pagesOf([...history.slice(0, 11), late, ...history.slice(11)]);
    const loaded = await readNewest(read, cached, late.created_at ?? '');
    expect(ids(loaded).slice(9, 13)).toEqual(['11', '10', 'late', '9']);
    expect(loaded.entries).toHaveLength(16);
    expect(requests.length).toBeGreaterThan(2);
    // A read that is not about that time stops at the first known entry.
    const short = pagesOf(history);
    await readNewest(short.read, cached, endOfTime);
    expect(short.requests).toHaveLength(1);
  });

  it('never adds entries older than the oldest loaded one, which the cursor leads to', async () => {
    const cached: LoadedHistory = { entries: minutes(13, 12), next: '12', searchedUntil: null };
    const loaded = await readNewest(pagesOf(minutes(14, 1)).read, cached, endOfTime);
    expect(ids(loaded)).toEqual(['14', '13', '12']);
  });
});

describe('keepOlder', () => {
  it('keeps entries that were appended during the read', async () => {
    const cached: LoadedHistory = { entries: minutes(13, 11), next: '11', searchedUntil: null };
    const read = await readNewest(pagesOf(minutes(14, 1)).read, cached, endOfTime);
    const appended = appendPage(cached.entries, page(minutes(10, 8), '8'));
    const loaded = keepOlder(appended, read) as LoadedHistory;
    expect([ids(loaded), loaded.next]).toEqual([['14', '13', '12', '11', '10', '9', '8'], '8']);
  });

  it('changes nothing if none were', async () => {
    const cached: LoadedHistory = { entries: minutes(13, 11), next: '11', searchedUntil: null };
    const read = await readNewest(pagesOf(minutes(14, 1)).read, cached, endOfTime);
    expect(keepOlder(cached, read)).toBe(read);
    expect(keepOlder(undefined, read)).toBe(read);
    const appended = appendPage(cached.entries, page(minutes(10, 8), '8'));
    expect(keepOlder(cached, appended)).toBe(appended);
  });
});
