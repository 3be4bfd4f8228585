import type { EventMessage } from '@flagcast/client';
import { keepPreviousData, useQuery } from '@tanstack/react-query';
import { useCallback, useMemo } from 'react';
import { useLiveChannel } from '../api/live.js';
import { serverNowMs } from '../api/server-clock.js';
import type { AuditHistogram } from '../api/types.js';
import { useEventCount } from '../features/use-frozen.js';
import { useNowMs } from '../shell/relative-time.js';
import { useScope } from '../shell/scope.js';
import { useApi } from '../sign-in/app-services.js';
import { type HistoryFilter, matchesFilter, searchOf } from './timeline.js';
import { queryOptions } from './use-history.js';

/** The time that the chart covers without a filter. */
const usualSpanMs = 30 * 60_000;
const buckets = 60;
/** Least time between two reads while the range ends now. */
const leastStepMs = 30_000;

export interface Histogram extends AuditHistogram {
  readonly sinceMs: number;
  /** The width of one bar. */
  readonly bucketMs: number;
}

/**
 * The number of events in each part of the filter's range; undefined while loading, null if it cannot be read. Events that
 * arrive later count in the last part.
 */
export function useHistogram(filter: HistoryFilter): Histogram | null | undefined {
  const api = useApi();
  const { project, environment } = useScope();
  const { channel } = useLiveChannel();
  const fixedUntilMs = filter.until === undefined ? null : Date.parse(filter.until);
  const wantedSinceMs = filter.since === undefined ? null : Date.parse(filter.since);
  const spanOf = (untilMs: number): number =>
    Math.max(buckets, wantedSinceMs === null ? usualSpanMs : untilMs - wantedSinceMs);
  const stepMs = Math.max(leastStepMs, Math.floor(spanOf(serverNowMs()) / buckets / 1_000) * 1_000);
  const nowMs = useNowMs(stepMs);
  const untilMs = fixedUntilMs ?? (Math.floor(nowMs / stepMs) + 1) * stepMs;
  const bucketMs = Math.ceil(spanOf(untilMs) / buckets);
  const sinceMs = untilMs - bucketMs * buckets;
  const search = searchOf(project.id, environment.key, {
    ...filter,
    since: new Date(sinceMs).toISOString(),
    until: new Date(untilMs).toISOString(),
  });
  const { data, isError, dataUpdatedAt } = useQuery({
    queryKey: ['histogram', search],
    queryFn: async () => ({
      ...(await api.get<AuditHistogram>(`/api/audit/histogram?${search}&buckets=${buckets}`)),
      sinceMs,
      bucketMs,
    }),
    placeholderData: keepPreviousData,
    ...queryOptions,
  });
  const counts = useCallback((event: EventMessage) => matchesFilter(event, filter), [filter]);
  const added = useEventCount(channel, dataUpdatedAt, counts);
  return useMemo(() => {
    if (data === undefined) return isError ? null : undefined;
    return { ...data, counts: [...data.counts.slice(0, -1), (data.counts.at(-1) ?? 0) + added] };
  }, [data, isError, added]);
}
