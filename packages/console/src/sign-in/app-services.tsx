import { createContext, use, useSyncExternalStore } from 'react';
import type { Api } from '../api/api.js';
import type { Session, SessionState } from './session.js';

/** What the whole console stands on: made once, by the page's entry. */
export interface AppServices {
  readonly session: Session;
  readonly api: Api;
  /** The path under which the server is reached, without a slash at its end; mostly empty. */
  readonly basePath: string;
}

export const AppServicesContext = createContext<AppServices | null>(null);

export function useAppServices(): AppServices {
  const services = use(AppServicesContext);
  if (services === null) throw new Error('AppServicesContext has no value');
  return services;
}

export function useApi(): Api {
  return useAppServices().api;
}

export function useSession(): SessionState {
  const { session } = useAppServices();
  return useSyncExternalStore(session.subscribe, session.getState);
}
