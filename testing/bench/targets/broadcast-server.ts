import { once } from 'node:events';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { Duplex } from 'node:stream';
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
  ws: (http) => {
    const clients = new Map<string, Set<WebSocket>>();
    onUpgrade(http, (webSocket, _socket, channel) => join(clients, channel, webSocket));
    return (channel, message) => {
      for (const client of clients.get(channel) ?? []) client.send(message);
    };
  },

  /** The frame is built once and written to the sockets without the library. */
  prebuilt: (http) => {
    const sockets = new Map<string, Set<Duplex>>();
    onUpgrade(http, (_webSocket, socket, channel) => join(sockets, channel, socket));
    return (channel, message) => {
      const frame = textFrame(message);
      for (const socket of sockets.get(channel) ?? []) socket.write(frame);
    };
  },

  /** The same by @flagcast/io-uring, many sockets in one system call: the cost of sending itself. */
  io_uring: (http) => {
    const writer = ioUring(() => process.exit(1));
    const connections = new Map<string, Set<BatchedConnection>>();
    onUpgrade(http, (_webSocket, socket, channel) => join(connections, channel, batchedConnection(socket)));
    return (channel, message) => {
      const frame = textFrame(message);
      writer.cork(() => {
        for (const connection of connections.get(channel) ?? []) writer.write(connection, frame);
      });
    };
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

/** `onConnection` returns what to do when the client disconnects. */
function onUpgrade(
  http: Server,
  onConnection: (webSocket: WebSocket, socket: Duplex, channel: string) => () => void,
): void {
  const webSockets = new WebSocketServer({ noServer: true, perMessageDeflate: false });
  http.on('upgrade', (request, socket, head) => {
    webSockets.handleUpgrade(request, socket, head, (webSocket) => {
      const onClose = onConnection(webSocket, socket, (request.url ?? '').slice(1));
      webSocket.on('error', () => undefined);
      webSocket.on('close', onClose);
    });
  });
}

function join<Client>(clients: Map<string, Set<Client>>, channel: string, client: Client): () => void {
  const members = clients.get(channel) ?? new Set();
  clients.set(channel, members.add(client));
  return () => members.delete(client);
}

/** A frame of at most 65,535 bytes. */
function textFrame(message: string): Buffer {
  const payload = Buffer.from(message);
  const { length } = payload;
  const header = length < 126 ? [0x81, length] : [0x81, 126, length >> 8, length & 0xff];
  return Buffer.concat([Buffer.from(header), payload]);
}

function batchedConnection(socket: Duplex): BatchedConnection {
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
