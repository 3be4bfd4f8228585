import { useQuery } from '@tanstack/react-query';
import { useEffect, useMemo } from 'react';
import { useLiveChannel } from '../api/live.js';
import { useScope } from '../shell/scope.js';
import { useApi } from '../sign-in/app-services.js';

/** The last change of a feature before the page was opened, from the audit log. */
export interface RecordedChange {
  /** Null if unknown. */
  readonly username: string | null;
  /** RFC 3339. */
  readonly at: string;
}

interface ListedFeature {
  readonly id: string;
  readonly updated_at: string;
  readonly updated_by: string | null;
}

const none: ReadonlyMap<string, RecordedChange> = new Map();

/** By feature id. Loaded again only if events were missed. */
export function useRecordedChanges(): ReadonlyMap<string, RecordedChange> {
  const api = useApi();
  const { project, environment } = useScope();
  const { lastChanges } = useLiveChannel();
  const { data, refetch } = useQuery({
    queryKey: ['features', project.id, environment.key],
    queryFn: async () => {
      const query = new URLSearchParams({ project_id: project.id, env: environment.key });
      return await api.get<{ features: readonly ListedFeature[] }>(`/api/features?${query.toString()}`);
    },
    staleTime: Infinity,
  });
  useEffect(() => lastChanges.onMissed(() => void refetch()), [lastChanges, refetch]);
  return useMemo(() => {
    if (data === undefined) return none;
    return new Map(
      data.features.map(({ id, updated_at: at, updated_by: username }) => [id, { username, at }]),
    );
  }, [data]);
}
