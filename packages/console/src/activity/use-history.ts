import { useCallback, useEffect, useRef, useState } from 'react';
import { useLiveChannel } from '../api/live.js';
import type { AuditEntry, AuditPage } from '../api/types.js';
import { usePlace } from '../shell/place.js';
import { useApi } from '../sign-in/session-context.js';

/** Which entries are wanted: parameters of `GET /api/audit`. */
export interface HistoryFilter {
  readonly feature_id?: string;
  readonly entity?: string;
  readonly username?: string;
}

export interface History {
  /** Newest first. */
  readonly entries: readonly AuditEntry[];
  /** There are older ones. */
  readonly hasMore: boolean;
  readonly loading: boolean;
  readonly error: unknown;
  readonly loadMore: () => void;
}

interface Loaded {
  readonly entries: readonly AuditEntry[];
  /** Where what is older begins; null at the end of the history, undefined before the first page. */
  readonly next: string | null | undefined;
}

const pageSize = 50;
/** News are asked for at most this often: a burst comes as a few pages. */
const pauseBetweenMs = 400;
const nothing: Loaded = { entries: [], next: undefined };

/** The audit log of this environment: kept up to date at its new end, read on demand at its old one. */
export function useHistory(filter: HistoryFilter): History {
  const api = useApi();
  const { project, environment } = usePlace();
  const { channel } = useLiveChannel();
  const [loaded, setLoaded] = useState(nothing);
  const [loading, setLoading] = useState(true);
  const [error, setError] = useState<unknown>(null);
  const latest = useRef(nothing);
  const busy = useRef(false);
  const wanted = new URLSearchParams({
    project_id: project.id,
    env: environment.key,
    limit: String(pageSize),
    ...filter,
  }).toString();

  const read = useCallback(
    async (before: string | null) =>
      await api.get<AuditPage>(`/api/audit?${wanted}${before === null ? '' : `&before=${before}`}`),
    [api, wanted],
  );

  useEffect(() => {
    let over = false;
    let running = false;
    let again = false;
    const show = (next: Loaded): void => {
      latest.current = next;
      setLoaded(next);
    };
    /** Reads from the newest entry down to what is known. */
    const catchUp = async (): Promise<void> => {
      const known = latest.current.entries[0]?.id;
      const fresh: AuditEntry[] = [];
      let page = await read(null);
      for (;;) {
        const unknown = page.entries.filter(({ id }) => known === undefined || BigInt(id) > BigInt(known));
        fresh.push(...unknown);
        if (known === undefined || page.next === null || unknown.length < page.entries.length) break;
        page = await read(page.next);
      }
      if (over) return;
      const { entries, next } = latest.current;
      if (fresh.length > 0 || next === undefined) {
        show({ entries: [...fresh, ...entries], next: next === undefined ? page.next : next });
      }
    };
    const run = async (): Promise<void> => {
      again = running;
      if (running) return;
      running = true;
      try {
        await catchUp();
        if (!over) setError(null);
      } catch (caught) {
        if (!over) setError(caught);
      }
      if (over) return;
      // Older ones may be on their way as well.
      if (!busy.current) setLoading(false);
      setTimeout(() => {
        running = false;
        if (again && !over) void run();
      }, pauseBetweenMs);
    };
    show(nothing);
    setLoading(true);
    busy.current = false;
    void run();
    const stopEvents = channel.onEvent(({ source }) => {
      if (source === 'audit') void run();
    });
    let state = channel.getState().status.state;
    // After a gap there may be entries that came as a snapshot, not as events.
    const stopStates = channel.subscribe(() => {
      const before = state;
      ({ state } = channel.getState().status);
      if (state === 'live' && before !== 'live') void run();
    });
    return () => {
      over = true;
      stopEvents();
      stopStates();
    };
  }, [channel, read]);

  const loadMore = useCallback(() => {
    const { next } = latest.current;
    if (busy.current || next === null || next === undefined) return;
    busy.current = true;
    setLoading(true);
    read(next)
      .then((page) => {
        // Another filter has begun anew meanwhile.
        if (latest.current.next !== next) return;
        const { entries } = latest.current;
        latest.current = { entries: [...entries, ...page.entries], next: page.next };
        setLoaded(latest.current);
        setError(null);
      }, setError)
      .finally(() => {
        busy.current = false;
        setLoading(false);
      });
  }, [read]);

  return {
    entries: loaded.entries,
    hasMore: typeof loaded.next === 'string',
    loading,
    error,
    loadMore,
  };
}
