import { createContext, use, useSyncExternalStore } from 'react';
import type { Api } from '../api/api.js';
import type { Session, SessionState } from './session.js';

/** Services of the whole console, created once by `main.tsx`. */
export interface AppServices {
  readonly session: Session;
  readonly api: Api;
  /** The path prefix of the server, without a trailing slash; usually empty. */
  readonly basePath: string;
}

export const AppServicesContext = createContext<AppServices | null>(null);

export function useAppServices(): AppServices {
  const services = use(AppServicesContext);
  if (services === null) throw new Error('useAppServices needs an AppServicesContext');
  return services;
}

export function useApi(): Api {
  return useAppServices().api;
}

export function useSession(): SessionState {
  const { session } = useAppServices();
  return useSyncExternalStore(session.subscribe, session.getState);
}
