import { once } from 'node:events';
import { createServer, type Server } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import { ioUring } from '@flagcast/io-uring';
import type { BatchedConnection } from 'flagcast';
import { Server as SocketIoServer } from 'socket.io';
import { type WebSocket, WebSocketServer } from 'ws';
import { serveParent } from '../../testkit/child.ts';

export type BroadcastKind = 'ws' | 'prebuilt' | 'io_uring' | 'socket.io';

type BroadcastTask =
  | { readonly do: 'start'; readonly kind: BroadcastKind }
  | { readonly do: 'publish'; readonly events: readonly (readonly [channel: string, message: string])[] };

/** Sends a message to all clients of a channel. */
type Broadcast = (channel: string, message: string) => void;

const servers: Readonly<Record<BroadcastKind, (http: Server) => Broadcast>> = {
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
  broadcast = servers[task.kind](http);
  http.listen(0, '127.0.0.1');
  await once(http, 'listening');
  return (http.address() as AddressInfo).port;
});
