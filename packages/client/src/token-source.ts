import { FlagcastError } from './flagcast-error.js';

/** setTimeout fires immediately if the delay exceeds 2 ** 31 - 1 ms. */
export const maxTimerMs = 2e9;

/** Fetches the client's tokens: one for each connection, and a new one before the current one expires. */
export interface TokenSource {
  /** Returns the newest token; '' before the first one. */
  readonly current: () => string;
  /** Fetches a token, then calls `onToken`, or `onFailure` if a retry may succeed. Calls neither after `cancel`. */
  readonly fetch: (onToken: () => void, onFailure: (error: FlagcastError) => void) => Promise<void>;
  /** Fetches a token when 80 % of the time until `expiresAt` (RFC 3339) have passed, then calls `onToken`. */
  readonly scheduleRefresh: (expiresAt: string, onToken: () => void) => void;
  /** Stops the refresh, and ignores a token that is being fetched. */
  readonly cancel: () => void;
}

/** Creates a token source. `onEnd` is called with the error if `getToken` rejects with a FlagcastError. */
export function createTokenSource(
  getToken: () => string | Promise<string>,
  onError: (error: FlagcastError) => void,
  onEnd: (error: FlagcastError) => void,
): TokenSource {
  let token = '';
  let timer: ReturnType<typeof setTimeout> | undefined;
  /** Incremented by `cancel`. */
  let generation = 0;

  const fetch: TokenSource['fetch'] = async (onToken, onFailure) => {
    const started = generation;
    try {
      // oxlint-disable-next-line typescript/await-thenable -- an exception must not interrupt the transition
      await null;
      const newToken = await getToken();
      if (started !== generation) return;
      // oxlint-disable-next-line typescript/no-unnecessary-condition -- programs in JavaScript
      if (typeof newToken !== 'string' || !/^\S+$/.test(newToken)) {
        throw new FlagcastError('bad_token', 'getToken must return a token: a text without spaces');
      }
      token = newToken;
      onToken();
    } catch (error) {
      if (started !== generation) return;
      if (error instanceof FlagcastError) onEnd(error);
      else
        onFailure(new FlagcastError('token_failed', `getToken failed: ${String(error)}`, { cause: error }));
    }
  };

  const scheduleRefresh: TokenSource['scheduleRefresh'] = (expiresAt, onToken) => {
    const remainingMs = Date.parse(expiresAt) - Date.now();
    const refresh = (): void =>
      void fetch(onToken, (error) => {
        onError(error);
        scheduleRefresh(expiresAt, onToken);
      });
    clearTimeout(timer);
    // The server has just accepted the token. If it seems to have expired, the two clocks differ.
    timer = setTimeout(refresh, remainingMs > 1_000 ? Math.min(remainingMs * 0.8, maxTimerMs) : 60_000);
  };

  return {
    current: () => token,
    fetch,
    scheduleRefresh,
    cancel() {
      generation += 1;
      clearTimeout(timer);
    },
  };
}
