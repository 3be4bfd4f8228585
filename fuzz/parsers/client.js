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
 * Gives the text to a client that has just connected, as a message of its server. What the client cannot
 * use it reports, and looks for a better line; it throws nothing at the socket.
 *
 * @param {Buffer} bytes
 */
export async function receiveAsClient(bytes) {
  /** @type {((socket: WebSocketLike) => void)} */
  let opened = () => undefined;
  /** @type {Promise<WebSocketLike>} */
  const opening = new Promise((resolve) => {
    opened = resolve;
  });
  class Socket {
    constructor() {
      /** @type {WebSocketLike['onmessage']} */
      this.onmessage = null;
      /** @type {WebSocketLike['onclose']} */
      this.onclose = null;
      /** @type {WebSocketLike['onerror']} */
      this.onerror = null;
      opened(this);
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
    // The client sets its listeners once the class has returned.
    await Promise.resolve();
    /** @param {string} data */
    const say = (data) => socket.onmessage?.(/** @type {never} */ ({ data }));
    say(hello);
    say('{"type":"caught_up","project_id":"p","environment":"prod","environment_id":"7","cursor":"c1"}');
    say(bytes.toString('utf8'));
    say('{"type":"pong","timestamp":1}');
  } finally {
    client.close();
  }
}
