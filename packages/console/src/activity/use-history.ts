import { useActivity, useFeatures } from '@flagcast/client/react';
import { useThrottledCallback } from '@mantine/hooks';
import { useQuery, useQueryClient } from '@tanstack/react-query';
import { useCallback, useEffect, useMemo, useRef, useState } from 'react';
import { isNotAvailable } from '../api/api.js';
import { useLiveChannel } from '../api/live.js';
import type { AuditPage } from '../api/types.js';
import { useFrozen } from '../features/use-frozen.js';
import { useScope } from '../shell/scope.js';
import { useApi } from '../sign-in/app-services.js';
import {
  appendPage,
  endOfTime,
  keepOlder,
  type LoadedHistory,
  nothingLoaded,
  pageSize,
  readFullPage,
  readNewest,
  type ReadPage,
} from './history-pages.js';
import { createTimelineMerge, type HistoryFilter, matchesFilter, searchOf } from './timeline.js';

/** Least time between two reads of new entries: events in a row cost one read a second. */
const refreshPauseMs = 1_000;
/** How often the entries of all projects are read: only events of one environment arrive. */
const allProjectsStepMs = 30_000;
/** Errors show at once, also when the browser believes to be offline. They are retried by `refetchInterval`. */
export const queryOptions = { retry: false, networkMode: 'always', gcTime: 0 } as const;

/**
 * The history of the environment. New entries load when events arrive, and not while `paused`; older ones on demand.
 * `filter` must stay the same object.
 */
function useHistory(filter: HistoryFilter, paused: boolean) {
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
    /** Repeats a failed read now, without waiting for the backoff. */
    retry: () => void (newest.error === null ? older : newest).refetch(),
  };
}

const historyKey = (search: string) => ['history', search];

/** Loads the first page, and the new entries after each event. */
function useNewestEntries(search: string, readPage: ReadPage, filter: HistoryFilter, paused: boolean) {
  const queries = useQueryClient();
  const { channel } = useLiveChannel();
  /** The time of the oldest event that is not read yet. The events of a long transaction are not the newest entries. */
  const unreadSince = useRef<string | null>(null);
  const noteUnread = useCallback((since: string) => {
    if (unreadSince.current === null || since < unreadSince.current) unreadSince.current = since;
  }, []);
  const query = useQuery({
    queryKey: historyKey(search),
    queryFn: async () => {
      const since = unreadSince.current ?? endOfTime;
      unreadSince.current = null;
      try {
        const cached = queries.getQueryData<LoadedHistory>(historyKey(search)) ?? nothingLoaded;
        return await readNewest(readPage, cached, since);
      } catch (error) {
        noteUnread(since);
        throw error;
      }
    },
    ...queryOptions,
    structuralSharing: keepOlder,
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
    const stopEvents = channel.onEvent((event) => {
      if (matchesFilter(event, filter)) readSince(event.timestamp);
    });
    let { state } = channel.getState().status;
    // Changes meanwhile may have arrived as a snapshot, without events.
    const stopStates = channel.subscribe(({ status }) => {
      if (status.state === 'live' && state !== 'live') readSince(endOfTime);
      ({ state } = status);
    });
    const timer =
      filter.projects === 'all' ? setInterval(() => readSince(endOfTime), allProjectsStepMs) : undefined;
    return () => {
      clearInterval(timer);
      stopEvents();
      stopStates();
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

export type Timeline = ReturnType<typeof useTimeline>;

/**
 * The history together with live events that it does not contain yet. Each entry appears once. While `paused` only older
 * entries are added. `filter` must stay the same object.
 */
export function useTimeline(filter: HistoryFilter, paused = false) {
  const { entries, error, ...history } = useHistory(filter, paused);
  const liveOnly = isNotAvailable(error);
  const activity = useFrozen(useActivity(), paused, filter);
  const features = useFeatures();
  const [merge] = useState(createTimelineMerge);
  const events = useMemo(() => {
    // An event of the audit log has less detail than its entry, which follows soon.
    return activity.filter(
      (event) => (liveOnly || event.source === 'pending') && matchesFilter(event, filter),
    );
  }, [activity, liveOnly, filter]);
  const items = useMemo(() => merge(entries, events, features), [merge, entries, events, features]);
  // Without a history, the items are the events since the page was opened.
  return { ...history, error: liveOnly ? null : error, items, liveOnly };
}
