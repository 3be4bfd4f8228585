import { queryOptions, useQuery } from '@tanstack/react-query';
import { useEffect, useMemo } from 'react';
import type { Api } from '../api/api.js';
import { useLiveChannel } from '../api/live.js';
import type { ListedFeature } from '../api/types.js';
import { useScope } from '../shell/scope.js';
import { useApi } from '../sign-in/app-services.js';

/** The last change of a feature before the page was opened, from the audit log. */
export interface RecordedChange {
  /** Null if unknown. */
  readonly username: string | null;
  /** RFC 3339. */
  readonly at: string;
}

/** A list of flags that may be loaded. */
export interface FeatureList {
  readonly data: { readonly features: readonly ListedFeature[] } | undefined;
}

const none: ReadonlyMap<string, RecordedChange> = new Map();

/** The flags of an environment, each with its last change. */
export const featuresQuery = (api: Api, projectId: string, env: string) =>
  queryOptions({
    queryKey: ['features', projectId, env],
    queryFn: async () => {
      const query = new URLSearchParams({ project_id: projectId, env });
      return await api.get<{ features: readonly ListedFeature[] }>(`/api/features?${query.toString()}`);
    },
  });

/** By feature id. Loaded again only if events were missed. */
export function useRecordedChanges(): ReadonlyMap<string, RecordedChange> {
  const api = useApi();
  const { project, environment } = useScope();
  const { lastChanges } = useLiveChannel();
  const { data, refetch } = useQuery({
    ...featuresQuery(api, project.id, environment.key),
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
