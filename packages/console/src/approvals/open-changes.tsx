import type { EventMessage } from '@flagcast/client';
import { maxChannels } from '@flagcast/protocol';
import { useQuery, useQueryClient } from '@tanstack/react-query';
import { createContext, type ReactNode, use, useEffect, useMemo, useState } from 'react';
import { isNotAvailable } from '../api/api.js';
import { useLive } from '../api/live.js';
import type { OpenChange } from '../api/types.js';
import { useScope } from '../shell/scope.js';
import { useApi } from '../sign-in/app-services.js';

/** The decision on a request. */
export interface Decision {
  /** `approved`, `rejected` or `cancelled`. */
  readonly status: string;
  readonly by: string | null;
  /** The id of the event; ids of the event log are ascending numbers. */
  readonly eventId: string;
}

interface OpenChanges {
  /** Pending requests of all environments, newest first. */
  readonly open: readonly OpenChange[];
  /** Decisions since the page was opened, by the id of the request. */
  readonly decisions: ReadonlyMap<string, Decision>;
  /** Pending requests, and those decided since the page was opened, newest first. */
  readonly all: readonly OpenChange[];
  readonly error: Error | null;
  readonly retry: () => void;
  readonly loading: boolean;
}

const OpenChangesContext = createContext<OpenChanges | null>(null);

export function useOpenChanges(): OpenChanges {
  const changes = use(OpenChangesContext);
  if (changes === null) throw new Error('useOpenChanges needs an OpenChangesProvider');
  return changes;
}

/** Finds changes in environments beyond the limit of channels. */
const pollEveryMs = 20_000;

/** Provides the pending requests of all environments that the user may view. */
export function OpenChangesProvider({ children }: { readonly children: ReactNode }) {
  const api = useApi();
  const queries = useQueryClient();
  const [decisions, setDecisions] = useState<ReadonlyMap<string, Decision>>(new Map());
  const [known, setKnown] = useState<ReadonlyMap<string, OpenChange>>(new Map());
  const { data, error, refetch } = useQuery({
    queryKey: ['open-changes'],
    queryFn: async () =>
      (await api.get<{ pending_changes: readonly OpenChange[] }>('/api/pending-changes')).pending_changes,
    refetchInterval: ({ state }) => (isNotAvailable(state.error) ? false : pollEveryMs),
  });
  useEffect(() => {
    if (data === undefined) return;
    setKnown((before) => new Map([...before, ...data.map((change) => [change.id, change] as const)]));
  }, [data]);
  useApprovalEvents((event) => {
    const { id: eventId, pending_change_id: id, action, actor } = event;
    if (id === null) return;
    // The event arrives before the refetched list, so the buttons are disabled at once.
    setDecisions((before) => {
      if (action !== 'pending' && action !== 'updated') {
        return new Map(before).set(id, { status: action, by: actor, eventId });
      }
      const decision = before.get(id);
      // A late event from before the decision does not reopen the request.
      if (decision === undefined || Number(eventId) < Number(decision.eventId)) return before;
      return new Map([...before].filter(([decidedId]) => decidedId !== id));
    });
    if (!isNotAvailable(error)) void queries.invalidateQueries({ queryKey: ['open-changes'] });
  }, data);
  const value = useMemo<OpenChanges>(() => {
    const open = (data ?? []).filter(({ id }) => !decisions.has(id));
    const openIds = new Set(open.map(({ id }) => id));
    const all = [...known.values()].filter(({ id }) => openIds.has(id) || decisions.has(id));
    all.sort((one, other) => (one.created_at < other.created_at ? 1 : -1));
    const retry = (): void => void refetch();
    return { open, decisions, all, error, retry, loading: data === undefined && error === null };
  }, [data, decisions, known, error, refetch]);
  return <OpenChangesContext value={value}>{children}</OpenChangesContext>;
}

/** Listens to the environments with approvals: the guarded ones, and those with pending requests. */
function useApprovalEvents(
  onEvent: (event: EventMessage) => void,
  open: readonly OpenChange[] | undefined,
): void {
  const { client } = useLive();
  const { projects, project: here, environment } = useScope();
  const [listener] = useState<{ current: (event: EventMessage) => void }>(() => ({ current: onEvent }));
  useEffect(() => {
    listener.current = onEvent;
  });
  const names = useMemo(() => {
    const withRequests = new Set(open?.map((change) => `${change.project_id}/${change.environment}`));
    const watched = projects.flatMap(({ id, environments }) =>
      environments
        .filter(({ key, guarded }) => guarded || withRequests.has(`${id}/${key}`))
        .map(({ key }) => `${id}/${key}`),
    );
    const first = `${here.id}/${environment.key}`;
    // A string: the channels stay open while the names stay the same.
    return [first, ...watched.filter((name) => name !== first)].slice(0, maxChannels - 1).join(' ');
  }, [projects, open, here, environment]);
  useEffect(() => {
    const channels = names.split(' ').map((name) => {
      const [projectId = '', env = ''] = name.split('/');
      const channel = client.channel({ projectId, env });
      const stop = channel.onEvent((event) => listener.current(event));
      return () => {
        stop();
        channel.close();
      };
    });
    return () => {
      for (const close of channels) close();
    };
  }, [client, names, listener]);
}
