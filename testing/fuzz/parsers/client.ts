import { setImmediate as nextTick } from 'node:timers/promises';
import { createClient, type WebSocketLike } from '@flagcast/client';

const snapshot = {
  ...{ project_id: 'p', environment: 'prod', environment_id: '7', cursor: 'c1', embedded_state: true },
  ...{ features: [], pending_changes: [] },
};
const before = [
  '{"type":"hello","token_expires_at":"2030-01-01T00:00:00Z","heartbeat_interval_ms":15000}',
  '{"type":"caught_up","project_id":"p","environment":"prod","environment_id":"7","cursor":"c1"}',
];

/**
 * Passes the bytes to a connected client as a message of the server. The client must report an invalid message and
 * reconnect; it must not throw into the socket.
 */
export async function receiveAsClient(bytes: Buffer): Promise<void> {
  const sockets: WebSocketLike[] = [];
  class Socket implements WebSocketLike {
    onmessage: WebSocketLike['onmessage'] = null;
    onclose: WebSocketLike['onclose'] = null;
    onerror: WebSocketLike['onerror'] = null;
    readonly send = (): void => undefined;
    readonly close = (): void => undefined;

    constructor() {
      sockets.push(this);
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
    while (sockets.length === 0) await nextTick();
    for (const data of [...before, bytes.toString('utf8'), '{"type":"pong","timestamp":1}']) {
      sockets[0]?.onmessage?.({ data } as never);
    }
  } finally {
    client.close();
  }
}
