import { FlagcastError } from './flagcast-error.js';
import { createTimer } from './timer.js';

type ScheduleRefresh = (expiresAt: string, onToken: () => void) => void;

/**
 * Creates the source of the client's tokens: one for each connection, and a new one before the current one expires.
 * `dispatch` is called with `end` and the error if `getToken` rejects with a FlagcastError. Returns
 * `[current, authorize, scheduleRefresh, cancel]`:
 *
 * - `current` returns the newest token; '' before the first one
 * - `authorize` fetches a token, then calls `dispatch` with `token`, or with `lost` and the error if a retry may succeed
 * - `scheduleRefresh` fetches a token when 80 % of the time until `expiresAt` (RFC 3339) have passed, then calls `onToken`
 * - `cancel` stops the refresh, and ignores a token that is being fetched
 */
export function createTokenSource(
  getToken: () => string | Promise<string>,
  onError: (error: FlagcastError) => void,
  dispatch: (event: 'token' | 'lost' | 'end', error?: FlagcastError) => void,
): readonly [
  current: () => string,
  authorize: () => void,
  scheduleRefresh: ScheduleRefresh,
  cancel: () => void,
] {
  let token = '';
  const [startTimer, stopTimer] = createTimer();
  /** Incremented by `cancel`. */
  let generation = 0;

  /** Calls `onFailure` if a retry may succeed. Calls nothing after `cancel`. */
  const fetch = async (onToken: () => void, onFailure: (error: FlagcastError) => void): Promise<void> => {
    const started = generation;
    try {
      // oxlint-disable-next-line typescript/await-thenable -- an exception must not interrupt the transition
      await null;
      const newToken = await getToken();
      if (started !== generation) return;
      // oxlint-disable-next-line typescript/no-unnecessary-condition -- programs in JavaScript
      if (typeof newToken !== 'string' || !/^\S+$/.test(newToken)) {
        throw new FlagcastError('bad_token', 'getToken must return a token without spaces');
      }
      token = newToken;
      onToken();
    } catch (error) {
      if (started !== generation) return;
      if (error instanceof FlagcastError) dispatch('end', error);
      else
        onFailure(new FlagcastError('token_failed', `getToken failed: ${String(error)}`, { cause: error }));
    }
  };

  const scheduleRefresh: ScheduleRefresh = (expiresAt, onToken) => {
    const remainingMs = Date.parse(expiresAt) - Date.now();
    const refresh = (): void =>
      void fetch(onToken, (error) => {
        onError(error);
        scheduleRefresh(expiresAt, onToken);
      });
    // The server has just accepted the token. If it seems to have expired, the two clocks differ.
    startTimer(remainingMs > 1_000 ? remainingMs * 0.8 : 60_000, refresh);
  };

  return [
    () => token,
    () =>
      void fetch(
        () => dispatch('token'),
        (error) => dispatch('lost', error),
      ),
    scheduleRefresh,
    () => {
      generation += 1;
      stopTimer();
    },
  ];
}
