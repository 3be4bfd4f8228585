import { once } from 'node:events';
import { createServer, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { json } from 'node:stream/consumers';
import { type ClientMessage, type EventMessage, type ServerMessage, subprotocol } from '@flagcast/protocol';
import { type WebSocket, WebSocketServer } from 'ws';

interface ScriptedServerOptions {
  /** Clients give a connection up that is silent for 2.5 times this, in milliseconds. Default 15,000. */
  readonly heartbeatIntervalMs?: number;
  /** Whether it has WebSockets; without them clients use server-sent events. Default true. */
  readonly webSockets?: boolean;
}

/** A connection of flagcast.v1 whose only channel has been subscribed to and is live. */
export interface LiveConnection {
  /** What the client sent with its subscription. */
  readonly cursor: string | undefined;
  /** Resolves when the connection has ended. */
  readonly closed: Promise<void>;
  /** Calls `taken` when the message was written to the network; never if the connection ends before. */
  send(message: ServerMessage, taken?: () => void): void;
  /** Ends it with a close code. */
  end(code: number, reason: string): void;
}

/**
 * Speaks flagcast.v1 for the channel `p` / `prod` of the project Web shop, and then sends
 * what the test scripts, for situations that a real server cannot produce on demand.
 */
export class ScriptedServer {
  readonly #http: Server;
  readonly #arrived: LiveConnection[] = [];
  #waiting: ((connection: LiveConnection) => void) | null = null;

  private constructor({ heartbeatIntervalMs = 15_000, webSockets = true }: ScriptedServerOptions) {
    const hello: ServerMessage = {
      type: 'hello',
      protocol: subprotocol,
      server: 'scripted',
      user_id: '1',
      username: 'root',
      token_expires_at: new Date(Date.now() + 3_600_000).toISOString(),
      heartbeat_interval_ms: heartbeatIntervalMs,
      max_channels: 32,
      guarantee: 'exact',
      guarantee_reason: 'event_log',
      overlap_ms: null,
      embedded_state: true,
      presence: true,
    };
    this.#http = createServer((request, response) => {
      const { pathname } = new URL(request.url ?? '/', 'http://scripted');
      if (pathname !== '/api/events') {
        response.end(JSON.stringify(pathname === '/api/snapshot' ? snapshot : projects));
        return;
      }
      void json(request).then((body) => {
        const { subscribe } = body as { readonly subscribe: readonly { readonly cursor: string }[] };
        const stream = streamConnection(response, subscribe[0]?.cursor);
        stream.send(hello);
        this.#arrive(stream);
      });
    });
    if (!webSockets) return;
    const sockets = new WebSocketServer({ server: this.#http, handleProtocols: () => subprotocol });
    sockets.on('connection', (socket) => {
      socket.on('message', (data) => {
        const message = JSON.parse((data as Buffer).toString('utf8')) as ClientMessage;
        if (message.type === 'subscribe') this.#arrive(socketConnection(socket, message.cursor));
      });
      socket.send(JSON.stringify(hello));
    });
  }

  static async open(options: ScriptedServerOptions = {}): Promise<ScriptedServer> {
    const server = new ScriptedServer(options);
    server.#http.listen(0, '127.0.0.1');
    await once(server.#http, 'listening');
    return server;
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#http.address() as AddressInfo).port}`;
  }

  /** The next connection that has become live, in the order of their arrival. */
  async connection(): Promise<LiveConnection> {
    const arrived = this.#arrived.shift();
    if (arrived !== undefined) return arrived;
    return await new Promise((resolve) => (this.#waiting = resolve));
  }

  async close(): Promise<void> {
    const closed = once(this.#http, 'close');
    this.#http.close();
    this.#http.closeAllConnections();
    await closed;
  }

  #arrive(connection: LiveConnection): void {
    connection.send({ type: 'caught_up', ...channel, cursor: connection.cursor ?? 'start' });
    const waiting = this.#waiting;
    this.#waiting = null;
    if (waiting === null) this.#arrived.push(connection);
    else waiting(connection);
  }
}

/** Event number `number` of the channel, with the cursor `cursor-<number>`; `padding` makes it long. */
export function scriptedEvent(number: number, padding = ''): EventMessage {
  return {
    source: 'audit',
    type: 'feature_updated',
    timestamp: '2025-09-26T12:00:00Z',
    project_id: channel.project_id,
    environment: channel.environment,
    entity: 'feature',
    entity_id: `f${number}${padding}`,
    action: 'updated',
    id: `event-${number}`,
    environment_id: channel.environment_id,
    row_id: `row-${number}`,
    feature_id: `f${number}`,
    pending_change_id: null,
    actor: 'alice',
    committed_at: null,
    seen_at: '2025-09-26T12:00:00Z',
    feature: null,
    cursor: `cursor-${number}`,
  };
}

const channel = { project_id: 'p', environment: 'prod', environment_id: '1' };
const snapshot = { ...channel, cursor: 'start', features: [], pending_changes: [] };
const projects = {
  projects: [{ id: 'p', name: 'Web shop', environments: [{ id: '1', key: 'prod', name: 'Production' }] }],
};

function socketConnection(socket: WebSocket, cursor: string | undefined): LiveConnection {
  return {
    cursor,
    closed: new Promise((resolve) => socket.once('close', () => resolve())),
    send(message, taken) {
      socket.send(JSON.stringify(message), (error) => {
        if (!error) taken?.();
      });
    },
    end: (code, reason) => socket.close(code, reason),
  };
}

function streamConnection(response: ServerResponse, cursor: string | undefined): LiveConnection {
  const send: LiveConnection['send'] = (message, taken) => {
    response.write(`data: ${JSON.stringify(message)}\n\n`, (error) => {
      if (!error) taken?.();
    });
  };
  return {
    cursor,
    closed: new Promise((resolve) => response.once('close', () => resolve())),
    send,
    end(code, reason) {
      send({ type: 'close', code, reason });
      response.end();
    },
  };
}
