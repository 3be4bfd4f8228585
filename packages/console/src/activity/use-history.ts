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
import type { HistoryFilter } from './timeline.js';
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

/** Least time between two reads of new entries: a burst of events costs a few reads. */
const refreshPauseMs = 400;
/** Errors show at once, also when the browser believes to be offline. They are retried by `refetchInterval`. */
const queryOptions = { retry: false, networkMode: 'always', gcTime: 0 } as const;

/** The history of the environment. New entries load when events arrive, older ones on demand. */
export function useHistory(filter: HistoryFilter): History {
  const api = useApi();
  const { project, environment } = useScope();
  const search = searchOf(project.id, environment.key, filter);
  const readPage = useCallback<ReadPage>(
    async (before) =>
      await readFullPage(async (next) => {
        const from = next === null ? '' : `&before=${encodeURIComponent(next)}`;
        return await api.get<AuditPage>(`/api/audit?${search}${from}`);
      }, before),
    [api, search],
  );
  const newest = useNewestEntries(search, readPage);
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

function searchOf(projectId: string, env: string, filter: HistoryFilter): string {
  const search = new URLSearchParams({ project_id: projectId, env, limit: String(pageSize) });
  for (const name of ['feature_id', 'entity', 'username'] as const) {
    const value = filter[name];
    if (value !== undefined) search.set(name, value);
  }
  return search.toString();
}

const historyKey = (search: string) => ['history', search];

/** Loads the first page, and the new entries after each event. */
function useNewestEntries(search: string, readPage: ReadPage) {
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
    if (!isNotAvailable(query.error)) void query.refetch({ cancelRefetch: false });
  }, refreshPauseMs);
  // Events that arrived during a read need another one.
  useEffect(() => {
    if (unreadSince.current !== null) refresh();
  }, [query.dataUpdatedAt, refresh]);
  useEffect(() => {
    const readSince = (since: string): void => {
      noteUnread(since);
      refresh();
    };
    return watchChannel(channel, {
      onEvent: ({ timestamp }) => readSince(timestamp),
      onReconnect: () => readSince(endOfTime),
    });
  }, [channel, noteUnread, refresh]);
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
