import { useQuery } from '@tanstack/react-query';
import { useEffect, useMemo, useRef, useState } from 'react';
import { useLiveChannel } from '../api/live.js';
import type { AuditPage } from '../api/types.js';
import { useScope } from '../shell/scope.js';
import { useApi } from '../sign-in/app-services.js';
import { toTimeMs } from '../i18n/format.js';

/** How far back the chart looks. */
export const spanMs = 30 * 60_000;

const pageSize = 200;
/** In a very busy environment the oldest part of the half hour is left out. */
const mostPages = 5;
/** How often what has come is counted anew: a burst costs a few renderings. */
const countEveryMs = 500;

/** When the events of the last half hour were, in milliseconds since the epoch, in no order; undefined while that is read, null where it cannot be. */
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
      for (let page = 0; page < mostPages; page += 1) {
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
  const come = useRef<number[]>([]);
  useEffect(() => {
    come.current = [];
    setLive([]);
    let timer: ReturnType<typeof setTimeout> | undefined;
    const stopEvents = channel.onEvent(({ timestamp }) => {
      come.current.push(toTimeMs(timestamp) ?? Date.now());
      timer ??= setTimeout(() => {
        timer = undefined;
        come.current = come.current.filter((atMs) => atMs > Date.now() - spanMs);
        setLive([...come.current]);
      }, countEveryMs);
    });
    let state = channel.getState().status.state;
    const stopStates = channel.subscribe(() => {
      const last = state;
      ({ state } = channel.getState().status);
      // What was missed may have come as a snapshot, not as events.
      if (state === 'live' && last !== 'live') void refetch();
    });
    return () => {
      clearTimeout(timer);
      stopEvents();
      stopStates();
    };
  }, [channel, refetch]);

  return useMemo(() => {
    if (recorded === undefined || recorded === null) return recorded;
    const newestMs = recorded.reduce((most, atMs) => Math.max(most, atMs), 0);
    return [...recorded, ...live.filter((atMs) => atMs > newestMs)];
  }, [recorded, live]);
}
