import { FlagcastError } from '@flagcast/client';
import { serverNowMs } from '../api/server-clock.js';
import type { SessionTabs, SharedSession } from './session-tabs.js';

/**
 * - `out`: signed out
 * - `in`: the token is valid as far as the page knows
 * - `expired`: the token has expired or was rejected; the page keeps its state until the user signs in again
 */
export type SessionState = { readonly state: 'out' } | ({ readonly state: 'in' | 'expired' } & SignedIn);

interface SignedIn extends SharedSession, User {}

/** From the claims of a token, which only the server verifies. */
interface User {
  /** The claims that identify the user. */
  readonly userId: string;
  readonly username: string;
  readonly expiresAtMs: number;
}

/** The session of this tab. Tabs of the same user share it. */
export interface Session {
  readonly getState: () => SessionState;
  readonly subscribe: (listener: () => void) => () => void;
  /** Signs in with a token, in all tabs of the user. Throws an Error if it is not a JWT with a user name and an expiry. */
  readonly signIn: (token: string) => void;
  /** Signs out in all tabs of the user. */
  readonly signOut: () => void;
  /** Signs out in this tab only, for another user. */
  readonly switchUser: () => void;
  /** Call it when the server rejects the token. */
  readonly refuseToken: () => void;
  /** Resolves with a valid token, after a new sign-in if necessary. Rejects with a FlagcastError when the user signs out. */
  readonly awaitToken: () => Promise<string>;
  /** Resolves when the tab is signed in, or when no other tab has handed over its session in time. */
  readonly whenRestored: Promise<void>;
}

const maxTimerMs = 2e9;
const handOverTimeoutMs = 300;

/** Keeps the token in memory, and in `storage` for reloads of the tab. Without `tabs` the tab is alone. */
export function createSession(storage: Storage, tabs?: SessionTabs, basePath = ''): Session {
  const kept = keepSession(storage, basePath);
  const listeners = new Set<() => void>();
  let state: SessionState = { state: 'out' };

  const getState = (): SessionState => state;
  const setState = (next: SessionState): void => {
    state = next;
    for (const listener of [...listeners]) listener();
  };
  const subscribe: Session['subscribe'] = (listener) => {
    listeners.add(listener);
    return () => listeners.delete(listener);
  };
  const refuseToken = (): void => {
    if (state.state === 'in') setState({ ...state, state: 'expired' });
  };
  const expiry = watchExpiry(refuseToken);
  const start = (session: SharedSession, user: User): void => {
    kept.write(session);
    setState({ state: 'in', ...session, ...user });
    expiry.start(user.expiresAtMs);
  };
  const leave = (forOtherUser = false): void => {
    expiry.stop();
    kept.clear(forOtherUser);
    setState({ state: 'out' });
  };
  /** Takes over the session of another tab, if this tab has none or the same user has a newer token there. */
  const takeOver = (session: SharedSession): void => {
    const user = readToken(session.token);
    if (tabs?.hasEnded(session.id) === true || user.expiresAtMs <= serverNowMs()) return;
    const isWanted =
      state.state === 'out'
        ? !kept.isForOtherUser()
        : state.userId === user.userId &&
          state.token !== session.token &&
          state.expiresAtMs <= user.expiresAtMs;
    if (isWanted) start(session, user);
  };
  const current = (): SharedSession | null =>
    state.state === 'in' && state.expiresAtMs > serverNowMs() ? { id: state.id, token: state.token } : null;

  const restored = kept.read();
  try {
    if (restored !== null && tabs?.hasEnded(restored.id) === true) leave();
    else if (restored !== null) start(restored, readToken(restored.token));
  } catch {
    leave();
  }
  tabs?.listen({
    current,
    onShared: takeOver,
    onEnded: () => {
      if (state.state !== 'out' && tabs.hasEnded(state.id)) leave();
    },
  });
  const asks = tabs !== undefined && current() === null && !kept.isForOtherUser();
  if (asks) tabs.ask();

  return {
    getState,
    subscribe,
    signIn: (token) => {
      const user = readToken(token);
      const known = state.state !== 'out' && state.userId === user.userId ? state.id : null;
      const session = { id: known ?? createId(), token };
      start(session, user);
      tabs?.share(session);
    },
    signOut: () => {
      if (state.state !== 'out') tabs?.end(state.id);
      leave();
    },
    switchUser: () => leave(true),
    refuseToken,
    awaitToken: async () => await awaitToken({ getState, subscribe }),
    whenRestored: new Promise((resolve) => {
      subscribe(resolve);
      setTimeout(resolve, asks ? handOverTimeoutMs : 0);
    }),
  };
}

function watchExpiry(onExpired: () => void) {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const start = (expiresAtMs: number): void => {
    clearTimeout(timer);
    const leftMs = expiresAtMs - serverNowMs();
    timer = setTimeout(
      () => (leftMs > maxTimerMs ? start(expiresAtMs) : onExpired()),
      Math.min(leftMs, maxTimerMs),
    );
  };
  return { start, stop: (): void => clearTimeout(timer) };
}

/** The session in the storage of the tab. */
function keepSession(storage: Storage, basePath: string) {
  const tokenKey = `flagcast.token${basePath}`;
  const idKey = `flagcast.session${basePath}`;
  return {
    read(): SharedSession | null {
      const token = storage.getItem(tokenKey) ?? '';
      return token === '' ? null : { token, id: storage.getItem(idKey) ?? createId() };
    },
    write({ token, id }: SharedSession): void {
      storage.setItem(tokenKey, token);
      storage.setItem(idKey, id);
    },
    /** An empty token is for another user: the tab takes over no session. */
    clear(forOtherUser: boolean): void {
      storage.removeItem(idKey);
      if (forOtherUser) storage.setItem(tokenKey, '');
      else storage.removeItem(tokenKey);
    },
    isForOtherUser: (): boolean => storage.getItem(tokenKey) === '',
  };
}

async function awaitToken({ getState, subscribe }: Pick<Session, 'getState' | 'subscribe'>): Promise<string> {
  return await new Promise((resolve, reject) => {
    const check = (): void => {
      const state = getState();
      if (state.state === 'expired') return;
      unsubscribe();
      if (state.state === 'in') resolve(state.token);
      else reject(new FlagcastError('signed_out', 'Signed out'));
    };
    const unsubscribe = subscribe(check);
    check();
  });
}

function createId(): string {
  return String(Math.random()).slice(2);
}

/** Reads the claims without verifying them: that is up to the server. */
function readToken(token: string): User {
  const payload = token.split('.')[1] ?? '';
  const bytes = Uint8Array.from(atob(payload.replaceAll('-', '+').replaceAll('_', '/')), (character) =>
    character.charCodeAt(0),
  );
  const claims = JSON.parse(new TextDecoder().decode(bytes)) as Record<string, unknown>;
  const { iss, sub, userId } = claims;
  const name = claims['username'] ?? claims['preferred_username'] ?? sub;
  if (typeof claims['exp'] !== 'number' || typeof name !== 'string')
    throw new Error('The token has no user name or no expiry');
  return {
    userId: JSON.stringify([iss, sub, userId, name]),
    username: name,
    expiresAtMs: claims['exp'] * 1_000,
  };
}
