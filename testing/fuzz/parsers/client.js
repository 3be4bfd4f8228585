import { createClient } from '@flagcast/client';

/** @import { WebSocketLike } from '@flagcast/client' */

const snapshot = {
  project_id: 'p',
  environment: 'prod',
  environment_id: '7',
  cursor: 'c1',
  embedded_state: true,
  features: [],
  pending_changes: [],
};
const hello = JSON.stringify({
  type: 'hello',
  token_expires_at: '2030-01-01T00:00:00Z',
  heartbeat_interval_ms: 15_000,
});

/**
 * Passes the bytes to a connected client as a message of the server. The client must report an invalid message and reconnect;
 * it must not throw into the socket.
 *
 * @param {Buffer} bytes
 */
export async function receiveAsClient(bytes) {
  /** @type {((socket: WebSocketLike) => void)} */
  let onOpen = () => undefined;
  /** @type {Promise<WebSocketLike>} */
  const opening = new Promise((resolve) => {
    onOpen = resolve;
  });
  class Socket {
    constructor() {
      /** @type {WebSocketLike['onmessage']} */
      this.onmessage = null;
      /** @type {WebSocketLike['onclose']} */
      this.onclose = null;
      /** @type {WebSocketLike['onerror']} */
      this.onerror = null;
      onOpen(this);
    }

    send() {
      return undefined;
    }

    close() {
      return undefined;
    }
  }
  const client = createClient({
    url: 'http://127.0.0.1',
    getToken: () => 'token',
    WebSocket: Socket,
    fetch: async () => await Promise.resolve(Response.json(snapshot)),
    onError: () => undefined,
  });
  try {
    client.channel({ projectId: 'p', env: 'prod' });
    const socket = await opening;
    // The client sets its listeners after the constructor has returned.
    await Promise.resolve();
    /** @param {string} data */
    const receive = (data) => socket.onmessage?.(/** @type {never} */ ({ data }));
    receive(hello);
    receive('{"type":"caught_up","project_id":"p","environment":"prod","environment_id":"7","cursor":"c1"}');
    receive(bytes.toString('utf8'));
    receive('{"type":"pong","timestamp":1}');
  } finally {
    client.close();
  }
}
