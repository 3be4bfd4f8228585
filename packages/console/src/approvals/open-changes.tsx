import type { EventMessage } from '@flagcast/client';
import { useQuery, useQueryClient } from '@tanstack/react-query';
import { createContext, type ReactNode, use, useEffect, useMemo, useState } from 'react';
import { isNotAvailable } from '../api/api.js';
import { useLive } from '../api/live.js';
import type { OpenChange } from '../api/types.js';
import { useScope } from '../shell/scope.js';
import { useApi } from '../sign-in/app-services.js';
import {
  type Decisions,
  decisionsAfter,
  type EnvironmentName,
  environmentsWithApprovals,
  sortRequests,
} from './decisions.js';

interface OpenChanges {
  /** Pending requests of all environments, newest first. */
  readonly open: readonly OpenChange[];
  /** Decisions since the page was opened. */
  readonly decisions: Decisions;
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

export const openChangesKey = ['open-changes'];

const none: readonly OpenChange[] = [];

/** Provides the pending requests of all environments that the user may view. */
export function OpenChangesProvider({ children }: { readonly children: ReactNode }) {
  const api = useApi();
  const queries = useQueryClient();
  const [decisions, setDecisions] = useState<Decisions>(new Map());
  const [known, setKnown] = useState<ReadonlyMap<string, OpenChange>>(new Map());
  const { data, error, refetch } = useQuery({
    queryKey: openChangesKey,
    queryFn: async () =>
      (await api.get<{ pending_changes: readonly OpenChange[] }>('/api/pending-changes')).pending_changes,
    refetchInterval: ({ state }) => (isNotAvailable(state.error) ? false : pollEveryMs),
  });
  useEffect(() => {
    if (data === undefined) return;
    setKnown((before) => new Map([...before, ...data.map((change) => [change.id, change] as const)]));
  }, [data]);
  useApprovalEvents(data ?? none, (event) => {
    if (event.pending_change_id === null) return;
    // The event arrives before the refetched list, so the buttons are disabled at once.
    setDecisions((before) => decisionsAfter(before, event));
    if (!isNotAvailable(error)) void queries.invalidateQueries({ queryKey: openChangesKey });
  });
  const value = useMemo<OpenChanges>(() => {
    const retry = (): void => void refetch();
    const loading = data === undefined && error === null;
    return { ...sortRequests(data ?? none, known.values(), decisions), decisions, error, retry, loading };
  }, [data, decisions, known, error, refetch]);
  return <OpenChangesContext value={value}>{children}</OpenChangesContext>;
}

/** Listens to the environments with approvals. */
function useApprovalEvents(listed: readonly OpenChange[], onEvent: (event: EventMessage) => void): void {
  const { client } = useLive();
  const { projects, project, environment } = useScope();
  const [listener] = useState<{ current: (event: EventMessage) => void }>(() => ({ current: onEvent }));
  useEffect(() => {
    listener.current = onEvent;
  });
  // A string: the channels stay open while the environments stay the same.
  const names = JSON.stringify(
    environmentsWithApprovals({ projectId: project.id, env: environment.key }, projects, listed),
  );
  useEffect(() => {
    const channels = (JSON.parse(names) as EnvironmentName[]).map((name) => {
      const channel = client.channel(name);
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
