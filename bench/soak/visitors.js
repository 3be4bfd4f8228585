import { once } from 'node:events';
import { WebSocket } from 'ws';

/** How long a visitor stays, in milliseconds. */
const stayMs = 1_000;

/**
 * Clients that come, stay a moment and leave, every other one without a word.
 *
 * @param {{ readonly port: number, readonly path: string, readonly headers: Readonly<Record<string, string>> }} server
 */
export function receiveVisitors({ port, path, headers }) {
  /** @type {Set<Promise<void>>} */
  const present = new Set();
  let visits = 0;
  let failed = 0;

  /** @param {boolean} isPolite */
  const visit = async (isPolite) => {
    const socket = new WebSocket(`ws://127.0.0.1:${port}${path}`, { headers });
    // Until it is let in; each is let in once at the most.
    failed += 1;
    socket.on('open', () => {
      failed -= 1;
      setTimeout(() => (isPolite ? socket.close() : socket.terminate()), stayMs);
    });
    // An error is followed by the close.
    socket.on('error', () => undefined);
    await once(socket, 'close');
  };

  return {
    come: () => {
      visits += 1;
      const visiting = visit(visits % 2 === 0);
      present.add(visiting);
      void visiting.finally(() => present.delete(visiting));
    },
    /** Once all have left. */
    leave: async () => {
      await Promise.all(present);
      return { visits, failed };
    },
  };
}
