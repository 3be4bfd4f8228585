import { once } from 'node:events';
import { WebSocket } from 'ws';

/** Duration of a connection, in milliseconds. */
const stayMs = 1_000;

/**
 * Opens short-lived connections. Half of them close properly, the others reset the connection.
 *
 * @param {{ readonly port: number, readonly path: string, readonly headers: Readonly<Record<string, string>> }} server
 */
export function openVisitors({ port, path, headers }) {
  /** @type {Set<Promise<void>>} */
  const open = new Set();
  let visits = 0;
  let failed = 0;

  /** @param {boolean} closesProperly */
  const connect = async (closesProperly) => {
    const socket = new WebSocket(`ws://127.0.0.1:${port}${path}`, { headers });
    // Counts as failed until it is open.
    failed += 1;
    socket.on('open', () => {
      failed -= 1;
      setTimeout(() => (closesProperly ? socket.close() : socket.terminate()), stayMs);
    });
    // A close event follows each error.
    socket.on('error', () => undefined);
    await once(socket, 'close');
  };

  return {
    visit: () => {
      visits += 1;
      const connection = connect(visits % 2 === 0);
      open.add(connection);
      void connection.finally(() => open.delete(connection));
    },
    /** Resolves when all connections are closed. */
    finish: async () => {
      await Promise.all(open);
      return { visits, failed };
    },
  };
}
