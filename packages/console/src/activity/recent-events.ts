import { useQuery } from '@tanstack/react-query';
import { useEffect, useMemo, useRef, useState } from 'react';
import { useLiveChannel } from '../api/live.js';
import type { AuditPage } from '../api/types.js';
import { useScope } from '../shell/scope.js';
import { useApi } from '../sign-in/app-services.js';
import { toTimeMs } from '../i18n/format.js';
import { watchChannel } from './watch-channel.js';

/** The time that the chart covers. */
const spanMs = 30 * 60_000;
/** The width of one bar. */
export const bucketMs = 30_000;

const pageSize = 200;
/** In a very busy environment the oldest part of the half hour is missing. */
const maxPages = 5;
/** Least time between two updates: a burst of events renders a few times. */
const updateEveryMs = 500;

/**
 * The times of the events of the last half hour, unsorted, in milliseconds since the epoch; undefined while loading,
 * null if the history cannot be read.
 */
export function useRecentEvents(): readonly number[] | null | undefined {
  const api = useApi();
  const { project, environment } = useScope();
  const { channel } = useLiveChannel();
  const { data, isError, refetch } = useQuery({
    queryKey: ['recent-events', project.id, environment.key],
    queryFn: async () => {
      const times: number[] = [];
      const since = new Date(Date.now() - spanMs).toISOString();
      let before: string | null = null;
      for (let page = 0; page < maxPages; page += 1) {
        const query: URLSearchParams = new URLSearchParams({
          project_id: project.id,
          env: environment.key,
          limit: String(pageSize),
          since,
          ...(before === null ? {} : { before }),
        });
        const { entries, next }: AuditPage = await api.get<AuditPage>(`/api/audit?${query.toString()}`);
        times.push(...entries.flatMap(({ created_at: at }) => toTimeMs(at ?? '') ?? []));
        if (next === null) break;
        before = next;
      }
      return times;
    },
    gcTime: 0,
  });

  const recorded = data ?? (isError ? null : undefined);
  const [live, setLive] = useState<readonly number[]>([]);
  const liveTimes = useRef<number[]>([]);
  useEffect(() => {
    liveTimes.current = [];
    setLive([]);
    let timer: ReturnType<typeof setTimeout> | undefined;
    const stop = watchChannel(channel, {
      onEvent: ({ timestamp }) => {
        liveTimes.current.push(toTimeMs(timestamp) ?? Date.now());
        timer ??= setTimeout(() => {
          timer = undefined;
          liveTimes.current = liveTimes.current.filter((atMs) => atMs > Date.now() - spanMs);
          setLive([...liveTimes.current]);
        }, updateEveryMs);
      },
      onReconnect: () => void refetch(),
    });
    return () => {
      clearTimeout(timer);
      stop();
    };
  }, [channel, refetch]);

  return useMemo(() => {
    if (recorded === undefined || recorded === null) return recorded;
    const newestMs = recorded.reduce((most, atMs) => Math.max(most, atMs), 0);
    return [...recorded, ...live.filter((atMs) => atMs > newestMs)];
  }, [recorded, live]);
}

/** The number of events in each bucket of the span, oldest first. `last`: the newest bucket, in buckets since the epoch. */
export function countByBucket(times: readonly number[], last: number): number[] {
  const first = last - spanMs / bucketMs;
  const counts = Array.from({ length: last - first + 1 }, () => 0);
  for (const atMs of times) {
    // The server's clock may be ahead of this one.
    const index = Math.min(last, Math.floor(atMs / bucketMs)) - first;
    const count = counts[index];
    if (count !== undefined) counts[index] = count + 1;
  }
  return counts;
}
