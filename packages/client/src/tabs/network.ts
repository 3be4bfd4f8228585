import type { WebSocketClass, WebSocketLike } from '../line.js';

/** The network as the leader reaches it. */
export interface Network {
  readonly openSocket: (url: string, protocols: string[]) => WebSocketLike;
  readonly fetch: typeof fetch;
  /** Ends what is open, as a loss. Resolves once the server knows, at most after a second. */
  readonly drop: () => Promise<void>;
}

/** The close code of what another tab may have in a moment: the client comes back, and blames no WebSocket. */
export const unavailable = { code: 4005, reason: 'unavailable' };

const closeTimeoutMs = 1_000;

export function createNetwork(WebSocketClass: WebSocketClass, fetch: typeof globalThis.fetch): Network {
  const dropped = new AbortController();
  const open = new Map<WebSocketLike, { end: () => void; closed: Promise<void> }>();
  return {
    openSocket(url, protocols) {
      const real = new WebSocketClass(url, protocols);
      const shell: WebSocketLike = {
        onmessage: null,
        onclose: null,
        onerror: null,
        send: (text) => real.send(text),
        close: () => real.close(),
      };
      real.onmessage = (event) => shell.onmessage?.(event);
      real.onerror = (event) => shell.onerror?.(event);
      const closed = new Promise<void>((resolve) => {
        real.onclose = (event) => {
          open.delete(shell);
          resolve();
          shell.onclose?.(event);
        };
      });
      const end = (): void => {
        real.close();
        const { onclose } = shell;
        shell.onmessage = shell.onclose = null;
        onclose?.(unavailable as never);
      };
      open.set(shell, { end, closed });
      return shell;
    },
    fetch: async (input, init) => {
      const signals = [dropped.signal, ...(init?.signal ? [init.signal] : [])];
      return await fetch(input, { ...init, signal: AbortSignal.any(signals) });
    },
    async drop() {
      const ending = [...open.values()];
      dropped.abort();
      for (const { end } of ending) end();
      if (ending.length === 0) return;
      let timer: ReturnType<typeof setTimeout> | undefined;
      const late = new Promise<void>((resolve) => (timer = setTimeout(resolve, closeTimeoutMs)));
      await Promise.race([Promise.all(ending.map(async ({ closed }) => await closed)), late]);
      clearTimeout(timer);
    },
  };
}
