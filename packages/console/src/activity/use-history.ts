import { useThrottledCallback } from '@mantine/hooks';
import { useQuery, useQueryClient } from '@tanstack/react-query';
import { useCallback, useEffect, useMemo, useRef, useState } from 'react';
import { isNotAvailable } from '../api/api.js';
import { useLiveChannel } from '../api/live.js';
import type { AuditEntry, AuditPage } from '../api/types.js';
import { useScope } from '../shell/scope.js';
import { useApi } from '../sign-in/app-services.js';

/** Parameters of `GET /api/audit`. */
export interface HistoryFilter {
  readonly feature_id?: string;
  readonly entity?: string;
  readonly username?: string;
}

export interface History {
  /** Newest first. */
  readonly entries: readonly AuditEntry[];
  /** There are older entries. */
  readonly hasMore: boolean;
  /** RFC 3339: older entries are not searched yet, or, without `hasMore`, cannot be searched; else null. */
  readonly searchedUntil: string | null;
  readonly loading: boolean;
  readonly error: unknown;
  readonly loadMore: () => void;
  /** Repeats a failed read now, without waiting for the backoff. */
  readonly retry: () => void;
}

interface Loaded {
  readonly entries: readonly AuditEntry[];
  /** The cursor of the older entries; null at the end of the history, undefined before the first page. */
  readonly next: string | null | undefined;
  readonly searchedUntil: string | null;
}

const pageSize = 50;
/** The server scans a bounded number of rows per request, so a search for rare entries takes several. */
const maxRequestsPerPage = 10;
/** Least time between two reads of new entries: a burst of events costs a few reads. */
const refreshPauseMs = 400;
/** Errors show at once, also when the browser believes to be offline. They are retried by `refetchInterval`. */
const queryOptions = { retry: false, networkMode: 'always', gcTime: 0 } as const;
const nothing: Loaded = { entries: [], next: undefined, searchedUntil: null };
/** Later than all entries. */
const endOfTime = '9999';

/** The time by which the history is sorted: a step without a time of its own follows its request. */
export function sortTime(entry: Pick<AuditEntry, 'created_at' | 'requested_at'>): string {
  return entry.created_at ?? entry.requested_at ?? '';
}

/** The history of the environment. New entries load when events arrive, older ones on demand. */
export function useHistory(filter: HistoryFilter): History {
  const api = useApi();
  const queries = useQueryClient();
  const { project, environment } = useScope();
  const { channel } = useLiveChannel();
  const search = new URLSearchParams({
    project_id: project.id,
    env: environment.key,
    limit: String(pageSize),
    ...filter,
  }).toString();
  const queryKey = useMemo(() => ['history', search], [search]);

  const readPage = useCallback(
    async (before: string | null): Promise<AuditPage> => {
      const entries: AuditEntry[] = [];
      let next = before;
      for (let request = 1; ; request += 1) {
        const from = next === null ? '' : `&before=${encodeURIComponent(next)}`;
        const page = await api.get<AuditPage>(`/api/audit?${search}${from}`);
        entries.push(...page.entries);
        ({ next } = page);
        if (next === null || entries.length >= pageSize || request === maxRequestsPerPage) {
          return { ...page, entries };
        }
      }
    },
    [api, search],
  );

  /** The time of the oldest event that is not read yet. The events of a long transaction are not the newest entries. */
  const unreadSince = useRef<string | null>(null);
  const noteUnread = useCallback((since: string) => {
    if (unreadSince.current === null || since < unreadSince.current) unreadSince.current = since;
  }, []);
  const newest = useQuery({
    queryKey,
    queryFn: async () => {
      const since = unreadSince.current ?? endOfTime;
      unreadSince.current = null;
      try {
        return await readNewest(readPage, () => queries.getQueryData<Loaded>(queryKey) ?? nothing, since);
      } catch (error) {
        noteUnread(since);
        throw error;
      }
    },
    ...queryOptions,
    structuralSharing: false,
  });
  const { entries, next, searchedUntil } = newest.data ?? nothing;
  const refresh = useThrottledCallback(() => {
    if (!isNotAvailable(newest.error)) void newest.refetch({ cancelRefetch: false });
  }, refreshPauseMs);
  // Events that arrived during a read need another one.
  useEffect(() => {
    if (unreadSince.current !== null) refresh();
  }, [newest.dataUpdatedAt, refresh]);
  useEffect(() => {
    const stopEvents = channel.onEvent(({ timestamp }) => {
      noteUnread(timestamp);
      refresh();
    });
    let { state } = channel.getState().status;
    const stopStates = channel.subscribe(() => {
      const previous = state;
      ({ state } = channel.getState().status);
      // Changes during a gap may have arrived as a snapshot, without events.
      if (state !== 'live' || previous === 'live') return;
      noteUnread(endOfTime);
      refresh();
    });
    return () => {
      stopEvents();
      stopStates();
    };
  }, [channel, noteUnread, refresh]);

  const olderPage = `${search} ${next ?? ''}`;
  const [wantedPage, setWantedPage] = useState('');
  const older = useQuery({
    queryKey: ['older-history', olderPage],
    queryFn: async () => {
      const page = await readPage(next ?? null);
      queries.setQueryData<Loaded>(queryKey, (known) =>
        known === undefined || known.next !== next ? known : append(known.entries, page),
      );
      return null;
    },
    enabled: typeof next === 'string' && wantedPage === olderPage,
    ...queryOptions,
  });

  return {
    entries,
    hasMore: typeof next === 'string',
    searchedUntil,
    loading: (newest.isFetching && next === undefined) || older.isFetching,
    error: newest.error ?? older.error,
    loadMore: useCallback(() => setWantedPage(olderPage), [olderPage]),
    retry: () => void (newest.error === null ? older : newest).refetch(),
  };
}

function append(entries: readonly AuditEntry[], page: AuditPage): Loaded {
  return { entries: [...entries, ...page.entries], next: page.next, searchedUntil: page.searched_until };
}

/**
 * Reads from the newest entry down to a cached one and past `since`, and adds that to the cached entries. These stay the
 * same objects, so React does not render them again.
 */
async function readNewest(
  readPage: (before: string | null) => Promise<AuditPage>,
  cached: () => Loaded,
  since: string,
): Promise<Loaded> {
  const known = new Map(cached().entries.map((entry) => [entry.id, entry]));
  const oldestId = cached().entries.at(-1)?.id;
  const read: AuditEntry[] = [];
  let page = await readPage(null);
  for (;;) {
    read.push(...page.entries);
    const isKnown = page.entries.some(({ id }) => known.has(id));
    const isPast = page.entries.some((entry) => sortTime(entry) < since || entry.id === oldestId);
    if (known.size === 0 || page.next === null || (isKnown && isPast)) break;
    page = await readPage(page.next);
  }
  const latest = cached();
  if (latest.entries.length === 0) return append(read, { ...page, entries: [] });
  // The cached cursor leads to entries older than the oldest cached one.
  const end = read.findIndex(({ id }) => id === oldestId);
  const newer = end === -1 ? read : read.slice(0, end + 1);
  if (newer.every(({ id }) => known.has(id))) return latest;
  const newerIds = new Set(newer.map(({ id }) => id));
  const others = latest.entries.filter(({ id }) => !newerIds.has(id));
  return { ...latest, entries: [...newer.map((entry) => known.get(entry.id) ?? entry), ...others] };
}
