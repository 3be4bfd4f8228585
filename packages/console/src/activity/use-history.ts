import { useThrottledCallback } from '@mantine/hooks';
import { useQuery, useQueryClient } from '@tanstack/react-query';
import { useCallback, useEffect, useMemo, useRef, useState } from 'react';
import { isNotAvailable } from '../api/api.js';
import { useLiveChannel } from '../api/live.js';
import type { AuditPage } from '../api/types.js';
import { useScope } from '../shell/scope.js';
import { useApi } from '../sign-in/app-services.js';
import {
  appendPage,
  endOfTime,
  type LoadedHistory,
  nothingLoaded,
  pageSize,
  readFullPage,
  readNewest,
  type ReadPage,
} from './history-pages.js';
import { type HistoryFilter, matchesFilter, searchOf } from './timeline.js';
import { watchChannel } from './watch-channel.js';

export interface History extends Pick<LoadedHistory, 'entries' | 'searchedUntil'> {
  /** There are older entries. */
  readonly hasMore: boolean;
  readonly loading: boolean;
  readonly error: unknown;
  readonly loadMore: () => void;
  /** Repeats a failed read now, without waiting for the backoff. */
  readonly retry: () => void;
}

/** Least time between two reads of new entries: events in a row cost one read a second. */
const refreshPauseMs = 1_000;
/** How often the entries of all projects are read: only events of one environment arrive. */
const allProjectsStepMs = 30_000;
/** Errors show at once, also when the browser believes to be offline. They are retried by `refetchInterval`. */
const queryOptions = { retry: false, networkMode: 'always', gcTime: 0 } as const;

/**
 * The history of the environment. New entries load when events arrive, and not while `paused`; older ones on demand.
 * `filter` must stay the same object.
 */
export function useHistory(filter: HistoryFilter, paused: boolean): History {
  const api = useApi();
  const { project, environment } = useScope();
  const search = `${searchOf(project.id, environment.key, filter)}&limit=${pageSize}`;
  const readPage = useCallback<ReadPage>(
    async (before) =>
      await readFullPage(async (next) => {
        const from = next === null ? '' : `&before=${encodeURIComponent(next)}`;
        return await api.get<AuditPage>(`/api/audit?${search}${from}`);
      }, before),
    [api, search],
  );
  const newest = useNewestEntries(search, readPage, filter, paused);
  const { entries, next, searchedUntil } = newest.data ?? nothingLoaded;
  const { query: older, loadMore } = useOlderEntries(search, readPage, next);
  return {
    entries,
    hasMore: typeof next === 'string',
    searchedUntil,
    loading: (newest.isFetching && next === undefined) || older.isFetching,
    error: newest.error ?? older.error,
    loadMore,
    retry: () => void (newest.error === null ? older : newest).refetch(),
  };
}

const historyKey = (search: string) => ['history', search];

/** Loads the first page, and the new entries after each event. */
function useNewestEntries(search: string, readPage: ReadPage, filter: HistoryFilter, paused: boolean) {
  const queries = useQueryClient();
  const { channel } = useLiveChannel();
  const queryKey = useMemo(() => historyKey(search), [search]);
  /** The time of the oldest event that is not read yet. The events of a long transaction are not the newest entries. */
  const unreadSince = useRef<string | null>(null);
  const noteUnread = useCallback((since: string) => {
    if (unreadSince.current === null || since < unreadSince.current) unreadSince.current = since;
  }, []);
  const query = useQuery({
    queryKey,
    queryFn: async () => {
      const since = unreadSince.current ?? endOfTime;
      unreadSince.current = null;
      try {
        const cached = () => queries.getQueryData<LoadedHistory>(queryKey) ?? nothingLoaded;
        return await readNewest(readPage, cached, since);
      } catch (error) {
        noteUnread(since);
        throw error;
      }
    },
    ...queryOptions,
    structuralSharing: false,
  });
  const refresh = useThrottledCallback(() => {
    if (!paused && !isNotAvailable(query.error)) void query.refetch({ cancelRefetch: false });
  }, refreshPauseMs);
  // Events that arrived during a read or a pause need another one.
  useEffect(() => {
    if (unreadSince.current !== null && !paused) refresh();
  }, [query.dataUpdatedAt, paused, refresh]);
  useEffect(() => {
    const readSince = (since: string): void => {
      noteUnread(since);
      refresh();
    };
    const stop = watchChannel(channel, {
      onEvent: (event) => {
        if (matchesFilter(event, filter)) readSince(event.timestamp);
      },
      onReconnect: () => readSince(endOfTime),
    });
    const timer =
      filter.projects === 'all' ? setInterval(() => readSince(endOfTime), allProjectsStepMs) : undefined;
    return () => {
      clearInterval(timer);
      stop();
    };
  }, [channel, filter, noteUnread, refresh]);
  return query;
}

/** Adds a page of older entries to the loaded ones on demand. `next`: the cursor of that page. */
function useOlderEntries(search: string, readPage: ReadPage, next: LoadedHistory['next']) {
  const queries = useQueryClient();
  const page = `${search} ${next ?? ''}`;
  const [wantedPage, setWantedPage] = useState('');
  const query = useQuery({
    queryKey: ['older-history', page],
    queryFn: async () => {
      const older = await readPage(next ?? null);
      queries.setQueryData<LoadedHistory>(historyKey(search), (known) =>
        known === undefined || known.next !== next ? known : appendPage(known.entries, older),
      );
      return null;
    },
    enabled: typeof next === 'string' && wantedPage === page,
    ...queryOptions,
  });
  return { query, loadMore: useCallback(() => setWantedPage(page), [page]) };
}
