import { type QueryClient, queryOptions, useQuery } from '@tanstack/react-query';
import { useApi } from '../sign-in/app-services.js';
import type { Api } from './api.js';
import type { Me, Mode, Project } from './types.js';

/** What changes rarely is asked again when the page is looked at again, and then at most once a minute. */
const rarelyMs = 60_000;

const signInModeQuery = (api: Api) =>
  queryOptions({
    queryKey: ['sign-in-mode'],
    queryFn: async () => await api.get<Mode>('/api/auth/mode'),
    staleTime: rarelyMs,
  });

export function useSignInMode() {
  return useQuery(signInModeQuery(useApi()));
}

export function useMe() {
  const api = useApi();
  return useQuery({
    queryKey: ['me'],
    queryFn: async () => await api.get<Me>('/api/auth/me'),
    staleTime: rarelyMs,
  });
}

export const projectsKey = ['projects'];

export function useProjects() {
  const api = useApi();
  return useQuery({
    queryKey: projectsKey,
    queryFn: async () => (await api.get<{ projects: readonly Project[] }>('/api/projects')).projects,
    staleTime: rarelyMs,
  });
}

/** Forgets what one person saw, before another one looks. */
export function forgetUser(queries: QueryClient): void {
  queries.removeQueries({ predicate: ({ queryKey }) => queryKey[0] !== 'sign-in-mode' });
}
