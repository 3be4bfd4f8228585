import type { EventMessage } from '#protocol';
import { type Backoff, backoffMs } from './connection-machine.js';
import type { Connection } from './connection.js';
import { FlagcastError } from './flagcast-error.js';
import { refetchSpreadMs, requestTimeoutMs } from './limits.js';
import type { SubscriptionParams } from './request.js';
import type { StreamPosition } from './stream-position.js';
import { badToken, isReconnectCode } from './wire.js';

/** The events that were applied since a snapshot was requested; undefined if the stream will begin at the snapshot. */
export type NewerEvents = readonly EventMessage[] | undefined;

/** Loads the snapshots of a subscription, and decides when the next request may start. */
export interface SnapshotLoader {
  /**
   * Loads a snapshot, if one is needed and none is being loaded. Returns false during a pause: a new request of the
   * subscription has to wait until `onEnd`. If the server can be reached again (`isReady`), the pause ends, unless the
   * server asked for it.
   */
  readonly load: (params: SubscriptionParams, isReady: boolean) => boolean;
  /** The store may not match the position from which the stream resumes: a snapshot is needed, after a random pause. */
  readonly reload: () => void;
  /** Keeps an event that was applied while a snapshot is loading, which may not contain it. */
  readonly record: (event: EventMessage) => void;
  /** Pauses after a failure. */
  readonly backoff: () => void;
  /** Stops the pause, and ignores a snapshot that is being loaded. */
  readonly close: () => void;
}

/**
 * Creates the loader of a subscription. `onLoaded` is called with each snapshot and when it was requested, in milliseconds
 * since the epoch; `onRefused` when the server refuses the subscription; `onEnd` when a pause or a request has ended.
 */
export function createSnapshotLoader(
  connection: Connection,
  position: StreamPosition<unknown>,
  onLoaded: (snapshot: never, requestedAtMs: number, newerEvents: NewerEvents) => void,
  onRefused: (error: FlagcastError) => void,
  onEnd: () => void,
): SnapshotLoader {
  let isNeeded = true;
  let isLoading = false;
  let isClosed = false;
  /** Requests that failed or had to be repeated, since the subscription was caught up. */
  let attempts = 0;
  let newerEvents: EventMessage[] | undefined;
  let timer: ReturnType<typeof setTimeout> | undefined;
  /** Whether a new connection ends the pause: not if the server asked for it with the last failure. */
  let canCutShort = true;
  /** Whether the server could be reached at the last call of `load`. */
  let wasReady = false;

  const clear = (): void => {
    clearTimeout(timer);
    timer = undefined;
  };
  const pause = (backoff: Backoff | undefined, delayMs = 0): void => {
    const resume = (): void => {
      timer = undefined;
      onEnd();
    };
    timer ??= setTimeout(resume, delayMs + Math.random() * backoffMs(attempts++, backoff));
  };
  const run = async (params: SubscriptionParams): Promise<void> => {
    isNeeded = false;
    isLoading = true;
    newerEvents = position.cursor ? [] : undefined;
    const sinceMs = Date.now();
    try {
      const signal = AbortSignal.timeout(requestTimeoutMs);
      const query = new URLSearchParams(params).toString();
      const response = await connection.request(`snapshot?${query}`, { signal });
      const loaded = (await response.json()) as never;
      if (isClosed) return;
      onLoaded(loaded, sinceMs, newerEvents);
      newerEvents = undefined;
    } catch (cause) {
      if (isClosed) return;
      const error =
        cause instanceof FlagcastError
          ? cause
          : new FlagcastError('snapshot_failed', 'Cannot load the snapshot', { cause });
      const { closeCode = 0 } = error;
      canCutShort = error.code !== 'too_many_requests';
      if (closeCode === badToken) connection.dispatch('end', error);
      if (isReconnectCode(closeCode)) {
        connection.report(error);
        isNeeded = true;
        pause(connection.backoff, error.retryAfterMs);
      } else onRefused(error);
    }
    isLoading = false;
    onEnd();
  };

  return {
    load(params, isReady) {
      if (isReady && !wasReady && canCutShort) clear();
      wasReady = isReady;
      if (timer) return false;
      if (isLoading) return true;
      if (!isNeeded && position.isCaughtUp) attempts = 0;
      if (isNeeded && connection.currentToken()) void run(params);
      return true;
    },
    reload() {
      isNeeded = true;
      // All clients of a channel get the same message at the same time. Spread their requests, wider each time: the server
      // may answer each subscription with `resync`.
      pause({ minMs: refetchSpreadMs });
    },
    record: (event) => newerEvents?.push(event),
    backoff: () => pause(connection.backoff),
    close() {
      isClosed = true;
      clear();
    },
  };
}
