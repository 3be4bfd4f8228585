import { useCallback, useEffect, useRef, useState } from 'react';
import { isNotAvailable } from '../api/api.js';
import { useLiveChannel } from '../api/live.js';
import { isTemporary, retryDelayMs } from '../api/retry.js';
import type { AuditEntry, AuditPage } from '../api/types.js';
import { useScope } from '../shell/scope.js';
import { useApi } from '../sign-in/app-services.js';

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
  /** RFC 3339: what is older was not searched yet, or, without `hasMore`, cannot be searched; else null. */
  readonly searchedUntil: string | null;
  readonly loading: boolean;
  readonly error: unknown;
  readonly loadMore: () => void;
  /** Reads what could not be read, without waiting for the next attempt. */
  readonly retry: () => void;
}

interface Loaded {
  readonly entries: readonly AuditEntry[];
  /** Where what is older begins; null at the end of the history, undefined before the first page. */
  readonly next: string | null | undefined;
  readonly searchedUntil: string | null;
}

const pageSize = 50;
/** The server looks at a bounded number of rows for each request: something rare takes several. */
const maxRequests = 10;
/** News are asked for at most this often: a burst comes as a few pages. */
const pauseBetweenMs = 400;
const nothing: Loaded = { entries: [], next: undefined, searchedUntil: null };

/** Where an entry stands in the history: a step whose time is not kept stands by its request. */
export function placeOf(entry: Pick<AuditEntry, 'created_at' | 'requested_at'>): string {
  return entry.created_at ?? entry.requested_at ?? '';
}

/** The history of this environment: kept up to date at its new end, read on demand at its old one. */
export function useHistory(filter: HistoryFilter): History {
  const api = useApi();
  const { project, environment } = useScope();
  const { channel } = useLiveChannel();
  const [loaded, setLoaded] = useState(nothing);
  const [loading, setLoading] = useState(true);
  const [error, setError] = useState<unknown>(null);
  const latest = useRef(nothing);
  const busy = useRef(false);
  const [retry, setRetry] = useState<() => void>(() => () => undefined);
  const wanted = new URLSearchParams({
    project_id: project.id,
    env: environment.key,
    limit: String(pageSize),
    ...filter,
  }).toString();

  const readPage = useCallback(
    async (before: string | null): Promise<AuditPage> => {
      const entries: AuditEntry[] = [];
      let next = before;
      for (let request = 1; ; request += 1) {
        const from = next === null ? '' : `&before=${encodeURIComponent(next)}`;
        const page = await api.get<AuditPage>(`/api/audit?${wanted}${from}`);
        entries.push(...page.entries);
        ({ next } = page);
        if (next === null || entries.length >= pageSize || request === maxRequests) {
          return { ...page, entries };
        }
      }
    },
    [api, wanted],
  );

  useEffect(() => {
    let over = false;
    let running = false;
    let again = false;
    /** When the oldest of the events was that have come since the last reading: of a long transaction it is not the newest. */
    let cameFrom: string | null = null;
    const show = (next: Loaded): void => {
      latest.current = next;
      setLoaded(next);
    };
    /** Reads from the newest entry down to what is known, and down to the events that have come. */
    const catchUp = async (): Promise<void> => {
      const known = new Map(latest.current.entries.map((entry) => [entry.id, entry]));
      const oldestId = latest.current.entries.at(-1)?.id;
      const from = cameFrom;
      cameFrom = null;
      const read: AuditEntry[] = [];
      let page = await readPage(null);
      for (;;) {
        const { entries, next } = page;
        read.push(...entries);
        const isKnown = entries.some(({ id }) => known.has(id));
        const isPast =
          from === null || entries.some((entry) => placeOf(entry) < from || entry.id === oldestId);
        if (known.size === 0 || next === null || (isKnown && isPast)) break;
        page = await readPage(next);
      }
      if (over) return;
      // What is older than the oldest is still to be read, from where it is.
      const end = read.findIndex(({ id }) => id === oldestId);
      const newer = end === -1 ? read : read.slice(0, end + 1);
      if (known.size > 0 && newer.every(({ id }) => known.has(id))) return;
      const newerIds = new Set(newer.map(({ id }) => id));
      const { entries, next, searchedUntil } = latest.current;
      show({
        entries: [
          // What is known stays the same object: its line is not drawn again.
          ...newer.map((entry) => known.get(entry.id) ?? entry),
          ...entries.filter(({ id }) => !newerIds.has(id)),
        ],
        next: known.size === 0 ? page.next : next,
        searchedUntil: known.size === 0 ? page.searched_until : searchedUntil,
      });
    };
    const run = async (): Promise<void> => {
      again = running;
      if (running) return;
      running = true;
      let problem: unknown = null;
      try {
        await catchUp();
      } catch (caught) {
        problem = caught;
      }
      if (over) return;
      setError(problem);
      // Older ones may be on their way as well.
      if (!busy.current) setLoading(false);
      // Such a database will not have it the next time either.
      if (isNotAvailable(problem)) return;
      setTimeout(() => {
        running = false;
        if (again && !over) void run();
      }, pauseBetweenMs);
    };
    setRetry(() => () => void run());
    show(nothing);
    setLoading(true);
    busy.current = false;
    void run();
    const stopEvents = channel.onEvent(({ timestamp }) => {
      if (cameFrom === null || timestamp < cameFrom) cameFrom = timestamp;
      void run();
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
  }, [channel, readPage]);

  const failures = useRef(0);
  useEffect(() => {
    failures.current = error === null ? 0 : failures.current + 1;
    if (error === null || !isTemporary(error)) return;
    const timer = setTimeout(retry, retryDelayMs(failures.current, error));
    return () => clearTimeout(timer);
  }, [error, retry]);

  const loadMore = useCallback(() => {
    const { next } = latest.current;
    if (busy.current || next === null || next === undefined) return;
    busy.current = true;
    setLoading(true);
    readPage(next)
      .then((page) => {
        // Another filter has begun anew meanwhile.
        if (latest.current.next !== next) return;
        const { entries } = latest.current;
        latest.current = {
          entries: [...entries, ...page.entries],
          next: page.next,
          searchedUntil: page.searched_until,
        };
        setLoaded(latest.current);
        setError(null);
      }, setError)
      .finally(() => {
        busy.current = false;
        setLoading(false);
      });
  }, [readPage]);

  return {
    entries: loaded.entries,
    hasMore: typeof loaded.next === 'string',
    searchedUntil: loaded.searchedUntil,
    loading,
    error,
    loadMore,
    retry,
  };
}
