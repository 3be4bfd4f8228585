import { createSafeContext } from '@mantine/core';
import { useSyncExternalStore } from 'react';
import type { Api } from '../api/api.js';
import type { Session, SessionState } from './session.js';

/** Services of the whole console, created once by `main.tsx`. */
export interface AppServices {
  readonly session: Session;
  readonly api: Api;
  /** The path prefix of the server, without a trailing slash; usually empty. */
  readonly basePath: string;
}

export const [AppServicesContext, useAppServices] = createSafeContext<AppServices>(
  'useAppServices needs an AppServicesContext',
);

export function useApi(): Api {
  return useAppServices().api;
}

export function useSession(): SessionState {
  const { session } = useAppServices();
  return useSyncExternalStore(session.subscribe, session.getState);
}
