import { type QueryClient, queryOptions, useQuery, useQueryClient } from '@tanstack/react-query';
import { useApi } from '../sign-in/app-services.js';
import type { Api } from './api.js';
import type { Me, Mode, OpenChange, Project, RequestStep } from './types.js';

/** Rarely changing data is refetched when the window gets the focus, at most once a minute. */
const staleTimeMs = 60_000;

const signInModeQuery = (api: Api) =>
  queryOptions({
    queryKey: ['sign-in-mode'],
    queryFn: async () => await api.get<Mode>('/api/auth/mode'),
    staleTime: staleTimeMs,
  });

export function useSignInMode() {
  return useQuery(signInModeQuery(useApi()));
}

export const meKey = ['me'];

export function useMe() {
  const api = useApi();
  return useQuery({
    queryKey: meKey,
    queryFn: async () => await api.get<Me>('/api/auth/me'),
    staleTime: staleTimeMs,
  });
}

export const projectsKey = ['projects'];

const projectsQuery = (api: Api) =>
  queryOptions({
    queryKey: projectsKey,
    queryFn: async () => (await api.get<{ projects: readonly Project[] }>('/api/projects')).projects,
    staleTime: staleTimeMs,
  });

export function useProjects() {
  return useQuery(projectsQuery(useApi()));
}

/** Returns the function that loads the projects as they are now. */
export function useFreshProjects() {
  const api = useApi();
  const queries = useQueryClient();
  return async () => await queries.query({ ...projectsQuery(api), staleTime: 0 });
}

/** The details of a request, with its steps. */
export function useRequestDetail(id: string) {
  const api = useApi();
  return useQuery({
    queryKey: ['request', id],
    queryFn: async () =>
      await api.get<OpenChange & { readonly steps: readonly RequestStep[] }>(
        `/api/pending-changes/${encodeURIComponent(id)}`,
      ),
  });
}

/** Removes the data of a user before another one signs in. */
export function forgetUser(queries: QueryClient): void {
  queries.removeQueries({ predicate: ({ queryKey }) => queryKey[0] !== 'sign-in-mode' });
}
