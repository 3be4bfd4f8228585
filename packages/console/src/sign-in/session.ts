import { FlagcastError } from '@flagcast/client';

/**
 * - `out`: nobody is signed in
 * - `in`: the token is good as far as the page knows
 * - `expired`: somebody is signed in, but the token is no longer taken; the page keeps its place
 */
export type SessionState =
  | { readonly state: 'out' }
  | { readonly state: 'in' | 'expired'; readonly token: string; readonly username: string };

/** Who is signed in, in this tab. */
export interface Session {
  readonly getState: () => SessionState;
  readonly subscribe: (listener: () => void) => () => void;
  /** Takes the token. Throws an Error where it is none. */
  readonly signIn: (token: string) => void;
  readonly signOut: () => void;
  /** The server does not take the token any more. */
  readonly refuseToken: () => void;
  /** The token, once there is a good one. Rejects with a FlagcastError where somebody signs out meanwhile. */
  readonly awaitToken: () => Promise<string>;
}

const storageKey = 'flagcast.token';
const longestTimerMs = 2e9;

/** Keeps the token in memory, and in `storage` so that a reload of the tab does not ask again. */
export function createSession(storage: Storage): Session {
  const listeners = new Set<() => void>();
  let state: SessionState = { state: 'out' };
  let timer: ReturnType<typeof setTimeout> | undefined;

  const enter = (next: SessionState): void => {
    state = next;
    for (const listener of [...listeners]) listener();
  };
  const watchExpiry = (expiresAtMs: number): void => {
    clearTimeout(timer);
    const leftMs = expiresAtMs - Date.now();
    timer = setTimeout(
      () => (leftMs > longestTimerMs ? watchExpiry(expiresAtMs) : refuseToken()),
      Math.min(leftMs, longestTimerMs),
    );
  };
  const refuseToken = (): void => {
    if (state.state === 'in') enter({ ...state, state: 'expired' });
  };
  const signIn: Session['signIn'] = (token) => {
    const { username, expiresAtMs } = readToken(token);
    storage.setItem(storageKey, token);
    enter({ state: 'in', token, username });
    watchExpiry(expiresAtMs);
  };
  const subscribe: Session['subscribe'] = (listener) => {
    listeners.add(listener);
    return () => listeners.delete(listener);
  };

  const kept = storage.getItem(storageKey);
  try {
    if (kept !== null) signIn(kept);
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
      enter({ state: 'out' });
    },
    refuseToken,
    awaitToken: async () =>
      await new Promise((resolve, reject) => {
        const look = (): void => {
          if (state.state === 'expired') return;
          unsubscribe();
          if (state.state === 'in') resolve(state.token);
          else reject(new FlagcastError('signed_out', 'Signed out'));
        };
        const unsubscribe = subscribe(look);
        look();
      }),
  };
}

/** What a token says of itself; whether it is true is the server's to decide. */
function readToken(token: string): { readonly username: string; readonly expiresAtMs: number } {
  const payload = token.split('.')[1] ?? '';
  const bytes = Uint8Array.from(atob(payload.replaceAll('-', '+').replaceAll('_', '/')), (character) =>
    character.charCodeAt(0),
  );
  const claims = JSON.parse(new TextDecoder().decode(bytes)) as Record<string, unknown>;
  const name = claims['username'] ?? claims['preferred_username'] ?? claims['sub'];
  if (typeof claims['exp'] !== 'number' || typeof name !== 'string') throw new Error('not a token');
  return { username: name, expiresAtMs: claims['exp'] * 1_000 };
}
