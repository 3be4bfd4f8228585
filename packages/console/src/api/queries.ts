import { type QueryClient, useQuery } from '@tanstack/react-query';
import { useApi } from '../sign-in/app-services.js';
import { inReleaseOrder } from './environments.js';
import type { Me, Mode, OpenChange, Project, RequestStep } from './types.js';

/** Rarely changing data is refetched when the window gets the focus, at most once a minute. */
const staleTimeMs = 60_000;

export function useSignInMode() {
  const api = useApi();
  return useQuery({
    queryKey: ['sign-in-mode'],
    queryFn: async () => await api.get<Mode>('/api/auth/mode'),
    staleTime: staleTimeMs,
  });
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

const freshTimeoutMs = 4_000;

interface ProjectList {
  readonly projects: readonly Project[];
}

export function useProjects() {
  const api = useApi();
  return useQuery({
    queryKey: projectsKey,
    queryFn: async () => inReleaseOrder((await api.get<ProjectList>('/api/projects')).projects),
    staleTime: staleTimeMs,
  });
}

/**
 * Returns the function that loads the projects as they are now. It rejects if they do not come within a few seconds, also
 * without a network: what the user does with them must not happen later by itself.
 */
export function useFreshProjects() {
  const api = useApi();
  return async () => {
    const timeout = new Promise<never>((_, reject) => {
      setTimeout(reject, freshTimeoutMs, new Error('The projects did not come in time'));
    });
    const { body } = await Promise.race([api.send<ProjectList>('GET', '/api/projects'), timeout]);
    return inReleaseOrder(body.projects);
  };
}

export const requestKey = ['request'];

/** The details of a request, with its steps. */
export function useRequestDetail(id: string) {
  const api = useApi();
  return useQuery({
    queryKey: [...requestKey, id],
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
