import { FlagcastError } from '../flagcast-error.js';
import type { WebSocketClass, WebSocketLike } from '../transport.js';

/** The network of the leading tab. */
export interface LeaderNetwork {
  readonly openSocket: (url: string, protocols: string[]) => WebSocketLike;
  readonly fetch: typeof fetch;
  /**
   * Closes all sockets and requests; to the client it looks like a lost connection. Resolves when the server has
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
  const open = new Map<WebSocketLike, { close: () => void; closed: Promise<void> }>();
  return {
    openSocket(url, protocols) {
      const socket = new WebSocketClass(url, protocols);
      const wrapper: WebSocketLike = {
        onmessage: null,
        onclose: null,
        onerror: null,
        get readyState() {
          return socket.readyState ?? 1;
        },
        send: (text) => socket.send(text),
        close: () => socket.close(),
      };
      socket.onmessage = (event) => wrapper.onmessage?.(event);
      socket.onerror = (event) => wrapper.onerror?.(event);
      const closed = new Promise<void>((resolve) => {
        socket.onclose = (event) => {
          open.delete(wrapper);
          resolve();
          wrapper.onclose?.(event);
        };
      });
      const close = (): void => {
        socket.close();
        const { onclose } = wrapper;
        wrapper.onmessage = wrapper.onclose = null;
        onclose?.(unavailable as never);
      };
      open.set(wrapper, { close, closed });
      return wrapper;
    },
    fetch: async (input, init) => {
      const signals = [aborter.signal, ...(init?.signal ? [init.signal] : [])];
      return await fetch(input, { ...init, signal: AbortSignal.any(signals) });
    },
    async close() {
      const sockets = [...open.values()];
      aborter.abort();
      for (const { close } of sockets) close();
      if (sockets.length === 0) return;
      let timer: ReturnType<typeof setTimeout> | undefined;
      const timeout = new Promise<void>((resolve) => (timer = setTimeout(resolve, closeTimeoutMs)));
      await Promise.race([Promise.all(sockets.map(async ({ closed }) => await closed)), timeout]);
      clearTimeout(timer);
    },
  };
}
