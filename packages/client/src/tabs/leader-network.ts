import { FlagcastError } from '../flagcast-error.js';
import type { WebSocketClass, WebSocketLike } from '../transport.js';

/** The network of the leading tab. */
export interface LeaderNetwork {
  readonly openSocket: (url: string, protocols: string[]) => WebSocketLike;
  readonly fetch: typeof fetch;
  /**
   * Closes the socket and all requests; to the client it looks like a lost connection. Resolves when the server has
   * confirmed, or after one second.
   */
  readonly close: () => Promise<void>;
}

/**
 * The close event while no leader is available. The client reconnects, reports no error, and does not count it as a
 * failure of WebSockets.
 */
export const unavailable = { code: 4005, reason: 'leader_changed' };

/** The error of a request while no leader is available. */
export function leaderChanged(): FlagcastError {
  return new FlagcastError(unavailable.reason, 'Another tab takes over the connection', {
    closeCode: unavailable.code,
  });
}

const closeTimeoutMs = 1_000;

export function createLeaderNetwork(
  WebSocketClass: WebSocketClass,
  fetch: typeof globalThis.fetch,
): LeaderNetwork {
  const aborter = new AbortController();
  let socket: WebSocketLike | undefined;
  return {
    openSocket: (url, protocols) => (socket = new WebSocketClass(url, protocols)),
    fetch: async (input, init) => {
      const signals = [aborter.signal, ...(init?.signal ? [init.signal] : [])];
      return await fetch(input, { ...init, signal: AbortSignal.any(signals) });
    },
    async close() {
      aborter.abort();
      const open = socket;
      if (!open || open.readyState === 3) return;
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, closeTimeoutMs);
        const { onclose } = open;
        open.onmessage = null;
        open.onclose = () => {
          clearTimeout(timer);
          resolve();
        };
        open.close();
        onclose?.(unavailable as never);
      });
    },
  };
}
