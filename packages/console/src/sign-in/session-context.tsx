import { createContext, use, useSyncExternalStore } from 'react';
import type { Api } from '../api/api.js';
import type { Session, SessionState } from './session.js';

/** What the whole console stands on: made once, by the page's entry. */
export interface Ground {
  readonly session: Session;
  readonly api: Api;
  /** The path under which the server is reached, without a slash at its end; mostly empty. */
  readonly basePath: string;
}

export const GroundContext = createContext<Ground | null>(null);

export function useGround(): Ground {
  const ground = use(GroundContext);
  if (ground === null) throw new Error('GroundContext has no value');
  return ground;
}

export function useApi(): Api {
  return useGround().api;
}

export function useSession(): SessionState {
  const { session } = useGround();
  return useSyncExternalStore(session.subscribe, session.getState);
}
