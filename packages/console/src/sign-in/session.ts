import { FlagcastError } from '@flagcast/client';

/**
 * - `out`: signed out
 * - `in`: the token is valid as far as the page knows
 * - `expired`: the token has expired or was rejected; the page keeps its state until the user signs in again
 */
export type SessionState =
  | { readonly state: 'out' }
  | { readonly state: 'in' | 'expired'; readonly token: string; readonly username: string };

/** The session of this tab. */
export interface Session {
  readonly getState: () => SessionState;
  readonly subscribe: (listener: () => void) => () => void;
  /** Signs in with a token. Throws an Error if it is not a JWT with a user name and an expiry. */
  readonly signIn: (token: string) => void;
  readonly signOut: () => void;
  /** Call it when the server rejects the token. */
  readonly refuseToken: () => void;
  /** Resolves with a valid token, after a new sign-in if necessary. Rejects with a FlagcastError when the user signs out. */
  readonly awaitToken: () => Promise<string>;
}

const storageKey = 'flagcast.token';
const maxTimerMs = 2e9;

/** Keeps the token in memory, and in `storage` for reloads of the tab. */
export function createSession(storage: Storage): Session {
  const listeners = new Set<() => void>();
  let state: SessionState = { state: 'out' };
  let timer: ReturnType<typeof setTimeout> | undefined;

  const setState = (next: SessionState): void => {
    state = next;
    for (const listener of [...listeners]) listener();
  };
  const watchExpiry = (expiresAtMs: number): void => {
    clearTimeout(timer);
    const leftMs = expiresAtMs - Date.now();
    timer = setTimeout(
      () => (leftMs > maxTimerMs ? watchExpiry(expiresAtMs) : refuseToken()),
      Math.min(leftMs, maxTimerMs),
    );
  };
  const refuseToken = (): void => {
    if (state.state === 'in') setState({ ...state, state: 'expired' });
  };
  const signIn: Session['signIn'] = (token) => {
    const { username, expiresAtMs } = readToken(token);
    storage.setItem(storageKey, token);
    setState({ state: 'in', token, username });
    watchExpiry(expiresAtMs);
  };
  const subscribe: Session['subscribe'] = (listener) => {
    listeners.add(listener);
    return () => listeners.delete(listener);
  };

  const stored = storage.getItem(storageKey);
  try {
    if (stored !== null) signIn(stored);
  } catch {
    storage.removeItem(storageKey);
  }

  return {
    getState: () => state,
    subscribe,
    signIn,
    signOut: () => {
      clearTimeout(timer);
      storage.removeItem(storageKey);
      setState({ state: 'out' });
    },
    refuseToken,
    awaitToken: async () =>
      await new Promise((resolve, reject) => {
        const check = (): void => {
          if (state.state === 'expired') return;
          unsubscribe();
          if (state.state === 'in') resolve(state.token);
          else reject(new FlagcastError('signed_out', 'Signed out'));
        };
        const unsubscribe = subscribe(check);
        check();
      }),
  };
}

/** Reads the claims without verifying them: that is up to the server. */
function readToken(token: string): { readonly username: string; readonly expiresAtMs: number } {
  const payload = token.split('.')[1] ?? '';
  const bytes = Uint8Array.from(atob(payload.replaceAll('-', '+').replaceAll('_', '/')), (character) =>
    character.charCodeAt(0),
  );
  const claims = JSON.parse(new TextDecoder().decode(bytes)) as Record<string, unknown>;
  const name = claims['username'] ?? claims['preferred_username'] ?? claims['sub'];
  if (typeof claims['exp'] !== 'number' || typeof name !== 'string')
    throw new Error('The token has no user name or no expiry');
  return { username: name, expiresAtMs: claims['exp'] * 1_000 };
}
