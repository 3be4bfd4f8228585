import { once } from 'node:events';
import { createServer, type Server } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import { ioUring } from '@flagcast/io-uring';
import type { BatchedConnection } from 'flagcast';
import pg from 'pg';
import { Server as SocketIoServer } from 'socket.io';
import { type WebSocket, WebSocketServer } from 'ws';
import { serveParent } from '../../testkit/child.ts';

export type BroadcastKind = 'ws' | 'prebuilt' | 'io_uring' | 'socket.io' | 'notify';

type BroadcastTask =
  | { readonly do: 'start'; readonly kind: BroadcastKind; readonly databaseUrl?: string }
  | { readonly do: 'publish'; readonly events: readonly (readonly [channel: string, message: string])[] };

/** Sends a message to all clients of a channel. */
type Broadcast = (channel: string, message: string) => void;

type Start = (http: Server, databaseUrl: string) => Broadcast | Promise<Broadcast>;

const servers: Readonly<Record<BroadcastKind, Start>> = {
  /** The obvious implementation: a loop over the clients of the ws library. */
  ws: (http) =>
    loop(
      http,
      (client) => client,
      (clients, message) => {
        for (const client of clients) client.send(message);
      },
    ),

  /** The frame is built once and written to the sockets without the library. */
  prebuilt: (http) =>
    loop(
      http,
      (_client, socket) => socket,
      (sockets, message) => {
        const frame = textFrame(message);
        for (const socket of sockets) socket.write(frame);
      },
    ),

  /** The same by @flagcast/io-uring, many sockets in one system call: the cost of sending itself. */
  io_uring: (http) => {
    const writer = ioUring(() => process.exit(1));
    return loop(http, batchedConnection, (connections, message) => {
      const frame = textFrame(message);
      writer.cork(() => {
        for (const connection of connections) writer.write(connection, frame);
      });
    });
  },

  /** As in the manual of Socket.IO: a room for each channel, WebSocket only. */
  'socket.io': (http) => {
    const io = new SocketIoServer(http, {
      transports: ['websocket'],
      serveClient: false,
      perMessageDeflate: false,
    });
    io.on('connection', (socket) => void socket.join(String(socket.handshake.query['channel'])));
    return (channel, message) => void io.to(channel).emit('event', JSON.parse(message));
  },

  /**
   * A minimal server of audit rows: it selects the row of each NOTIFY by its primary key, and sends it to every client. It has
   * no authentication, and loses events while it is disconnected. One session listens and selects, because a second one would
   * have to be woken first.
   */
  notify: async (http, databaseUrl) => {
    const broadcast = servers.ws(http, databaseUrl) as Broadcast;
    const client = new pg.Client({ connectionString: databaseUrl, application_name: 'bench baseline' });
    await client.connect();
    // The settings of Flagcast's reader.
    await client.query('SET plan_cache_mode = force_generic_plan; SET jit = off; SET enable_seqscan = off');
    const send = async (id: string) => {
      const { rows } = await client.query<string[]>({
        name: 'bench_select',
        text: `SELECT a.created_at, a.project_id, e.key, a.entity, a.entity_id, a.action
          FROM audit_log a JOIN environments e ON e.id = a.environment_id WHERE a.id = $1`,
        values: [id],
        rowMode: 'array',
        types: { getTypeParser: () => String },
      });
      for (const [timestamp, project_id, environment, entity, entity_id, action] of rows) {
        const message = { source: 'audit', type: `${entity}_${action}`, timestamp, project_id, environment };
        broadcast('', JSON.stringify({ ...message, entity, entity_id, action }));
      }
    };
    client.on('notification', ({ payload = '' }) => void send(payload));
    await client.query('LISTEN bench_notify');
    return broadcast;
  },
};

/** `send` gets the clients of the channel that is the path of their request; `memberOf` returns what it needs of a client. */
function loop<Member>(
  http: Server,
  memberOf: (client: WebSocket, socket: Socket) => Member,
  send: (members: Iterable<Member>, message: string) => void,
): Broadcast {
  const channels = new Map<string, Set<Member>>();
  const webSockets = new WebSocketServer({ server: http, perMessageDeflate: false });
  webSockets.on('connection', (client, { url = '', socket }) => {
    const channel = url.slice(1);
    const member = memberOf(client, socket);
    const members = channels.get(channel) ?? new Set();
    channels.set(channel, members.add(member));
    client.on('error', () => undefined);
    client.on('close', () => members.delete(member));
  });
  return (channel, message) => send(channels.get(channel) ?? [], message);
}

/** A frame of at most 65,535 bytes. */
function textFrame(message: string): Buffer {
  const payload = Buffer.from(message);
  const { length } = payload;
  const header = length < 126 ? [0x81, length] : [0x81, 126, length >> 8, length & 0xff];
  return Buffer.concat([Buffer.from(header), payload]);
}

function batchedConnection(_client: WebSocket, socket: Socket): BatchedConnection {
  const handle = Reflect.get(socket, '_handle') as { readonly fd: number };
  return {
    isBatched: false,
    get descriptor() {
      return socket.destroyed || socket.writableLength > 0 ? null : handle.fd;
    },
    writeToSocket: (bytes) => socket.write(bytes),
    onWritten: () => undefined,
    terminate: () => void socket.destroy(),
  };
}

let broadcast: Broadcast = () => undefined;

serveParent(async (task: BroadcastTask) => {
  if (task.do === 'publish') {
    for (const [channel, message] of task.events) broadcast(channel, message);
    return null;
  }
  const http = createServer();
  broadcast = await servers[task.kind](http, task.databaseUrl ?? '');
  http.listen(0, '127.0.0.1');
  await once(http, 'listening');
  return (http.address() as AddressInfo).port;
});
