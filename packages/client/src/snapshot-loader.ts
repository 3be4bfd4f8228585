import type { CloseCode } from '#protocol';
import type { Connection } from './connection.js';
import { FlagcastError } from './flagcast-error.js';
import type { SubscriptionParams } from './request.js';
import type { AnySnapshot } from './subscription.js';
import { isReconnectCode } from './wire.js';

const tokenRefused: typeof CloseCode.badToken = 4501;
const requestTimeoutMs = 30_000;
const refetchSpreadMs = 500;

/** Loads the snapshots of a subscription, and decides when the next request may start. */
export interface SnapshotLoader {
  /** Whether a new request of the subscription has to wait. `onEnd` is called when the pause has ended. */
  readonly isPaused: () => boolean;
  /** Loads a snapshot, if one is needed and none is being loaded. */
  readonly load: (params: SubscriptionParams) => void;
  /** The store may not match the position from which the stream resumes: a snapshot is needed, after a random pause. */
  readonly reload: () => void;
  /** Pauses after a failure, in milliseconds longer than the backoff. */
  readonly backOff: (delayMs?: number) => void;
  /** The backoff begins anew. */
  readonly resetBackoff: () => void;
  /** The server can be reached again: ends the pause, unless the server asked for it. */
  readonly endPause: () => void;
  /** Stops the pause, and ignores a snapshot that is being loaded. */
  readonly stop: () => void;
}

/**
 * Creates the loader of a subscription. `onLoaded` is called with each snapshot and when it was requested, in milliseconds
 * since the epoch; `onRefused` when the server refuses the subscription; `onEnd` when a pause or a request has ended.
 */
export function createSnapshotLoader(
  connection: Connection,
  onLoaded: (snapshot: AnySnapshot, requestedAtMs: number) => void,
  onRefused: (error: FlagcastError) => void,
  onEnd: () => void,
): SnapshotLoader {
  let isNeeded = true;
  let isLoading = false;
  let isStopped = false;
  let failures = 0;
  let timer: ReturnType<typeof setTimeout> | undefined;
  /** Whether the timer waits because the server could not be reached. */
  let canCutShort = false;

  const clear = (): void => {
    clearTimeout(timer);
    timer = undefined;
  };
  const pause = (spreadMs: number, delayMs = 0): void => {
    timer ??= setTimeout(
      () => {
        timer = undefined;
        canCutShort = false;
        onEnd();
      },
      delayMs + Math.random() * spreadMs,
    );
  };
  const backOff: SnapshotLoader['backOff'] = (delayMs) => pause(connection.backoffMs(failures++), delayMs);
  const reload = (): void => {
    isNeeded = true;
    // All clients of a channel get the same message at the same time. Spread their requests.
    pause(refetchSpreadMs);
  };

  const onFailure = (error: Partial<FlagcastError>): void => {
    const { code, closeCode = 0, retryAfterMs } = error;
    canCutShort = code !== 'too_many_requests';
    if (closeCode === tokenRefused) connection.end(error as FlagcastError);
    if (!isReconnectCode(closeCode)) onRefused(error as FlagcastError);
    else {
      connection.report(toFlagcastError(error));
      backOff(retryAfterMs);
    }
  };
  const run = async (params: SubscriptionParams): Promise<void> => {
    isNeeded = false;
    isLoading = true;
    const requestedAtMs = Date.now();
    try {
      const loaded = await fetchSnapshot(connection, params);
      if (isStopped) return;
      failures = 0;
      onLoaded(loaded, requestedAtMs);
    } catch (error) {
      if (isStopped) return;
      isNeeded = true;
      onFailure(error as Partial<FlagcastError>);
    }
    isLoading = false;
    if (isNeeded) reload();
    onEnd();
  };

  return {
    isPaused: () => !!timer,
    load(params) {
      if (isNeeded && !isLoading) void run(params);
    },
    reload,
    backOff,
    resetBackoff() {
      failures = 0;
    },
    endPause() {
      if (canCutShort) clear();
    },
    stop() {
      isStopped = true;
      clear();
    },
  };
}

async function fetchSnapshot({ request }: Connection, params: SubscriptionParams): Promise<AnySnapshot> {
  const signal = AbortSignal.timeout(requestTimeoutMs);
  const response = await request(`snapshot?${new URLSearchParams(params).toString()}`, { signal });
  return (await response.json()) as AnySnapshot;
}

function toFlagcastError(error: Partial<FlagcastError>): FlagcastError {
  // The code of a DOMException, such as a time-out, is a number.
  return typeof error.code === 'string'
    ? (error as FlagcastError)
    : new FlagcastError('snapshot_failed', 'Cannot load the snapshot', { cause: error });
}
