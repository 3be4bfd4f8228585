import { once } from 'node:events';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { Server as SocketIoServer } from 'socket.io';
import { type WebSocket, WebSocketServer } from 'ws';
import { serveParent } from '../../testkit/child.ts';

export type BroadcastKind = 'ws' | 'socket.io';

type BroadcastTask =
  | { readonly do: 'start'; readonly kind: BroadcastKind }
  | { readonly do: 'publish'; readonly events: readonly (readonly [channel: string, message: string])[] };

/** Sends a message to all clients of a channel. */
type Broadcast = (channel: string, message: string) => void;

const servers: Readonly<Record<BroadcastKind, (http: Server) => Broadcast>> = {
  /** The obvious implementation: a loop over the clients of the ws library. */
  ws: (http) => {
    const clients = new Map<string, Set<WebSocket>>();
    const webSockets = new WebSocketServer({ server: http, perMessageDeflate: false });
    webSockets.on('connection', (client, { url = '' }) => {
      const channel = url.slice(1);
      const members = clients.get(channel) ?? new Set();
      clients.set(channel, members.add(client));
      client.on('error', () => undefined);
      client.on('close', () => members.delete(client));
    });
    return (channel, message) => {
      for (const client of clients.get(channel) ?? []) client.send(message);
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
