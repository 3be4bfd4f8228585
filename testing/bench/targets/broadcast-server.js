import { once } from 'node:events';
import { createServer } from 'node:http';
import { Server as SocketIoServer } from 'socket.io';
import { WebSocketServer } from 'ws';
import { SubmissionQueue } from '../../../packages/io-uring/dist/submission-queue.js';
import { textFrame } from '../../../packages/server/dist/connections/codecs/frame.js';
import { serveParent } from '../../testkit/child.ts';

/** @import { Server } from 'node:http' */
/** @import { AddressInfo } from 'node:net' */
/** @import { Duplex } from 'node:stream' */
/** @import { WebSocket } from 'ws' */

/** @import { SocketHandle } from '../../../packages/server/dist/transport/socket-writer.js' */

/** @typedef {'ws' | 'prebuilt' | 'io_uring' | 'socket.io'} BroadcastKind */
/**
 * `start` is the first request. `publish` has no result; each event is a channel and a message.
 *
 * @typedef {{ do: 'start', kind: BroadcastKind } | { do: 'publish', events: readonly (readonly [channel: string, message: string])[] }} BroadcastTask
 */

/**
 * Sends a message to all clients of a channel.
 *
 * @typedef {(channel: string, message: string) => void} Broadcast
 */

/** @type {Readonly<Record<BroadcastKind, (http: Server) => Broadcast>>} */
const servers = {
  /** The obvious implementation: a loop over the clients of the ws library. */
  ws: (http) => {
    const clients = /** @type {Map<string, Set<WebSocket>>} */ (new Map());
    onUpgrade(http, (webSocket, _socket, channel) => join(clients, channel, webSocket));
    return (channel, message) => {
      for (const client of clients.get(channel) ?? []) {
        if (client.readyState === client.OPEN) client.send(message);
      }
    };
  },

  /** The frame is built once and written to the sockets without the library; so are heartbeats. */
  prebuilt: (http) => {
    const sockets = /** @type {Map<string, Set<Duplex>>} */ (new Map());
    onUpgrade(http, (_webSocket, socket, channel) => join(sockets, channel, socket));
    startHeartbeats(sockets);
    return (channel, message) => {
      const frame = textFrame(message);
      for (const socket of sockets.get(channel) ?? []) socket.write(frame);
    };
  },

  /** The same with io_uring, many sockets in one system call: the cost of sending itself. Ignores short writes. */
  io_uring: (http) => {
    const queue = new SubmissionQueue();
    const handles = /** @type {Map<string, Set<SocketHandle>>} */ (new Map());
    onUpgrade(http, (_webSocket, socket, channel) => join(handles, channel, Reflect.get(socket, '_handle')));
    return (channel, message) => {
      const frame = textFrame(message);
      for (const { fd } of handles.get(channel) ?? []) {
        if (!queue.hasRoom(frame)) queue.submit();
        queue.add(fd, frame);
      }
      queue.submit();
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

/**
 * @param {Server} http
 * @param {(webSocket: WebSocket, socket: Duplex, channel: string) => () => void} onConnection returns what to do when the client disconnects
 */
function onUpgrade(http, onConnection) {
  const webSockets = new WebSocketServer({ noServer: true, perMessageDeflate: false });
  http.on('upgrade', (request, socket, head) => {
    webSockets.handleUpgrade(request, socket, head, (webSocket) => {
      const onClose = onConnection(webSocket, socket, (request.url ?? '').slice(1));
      webSocket.on('error', () => undefined);
      webSocket.on('close', onClose);
    });
  });
}

/** The interval of flagcast.v1. Each tick sends to one part of the clients. */
const heartbeatIntervalMs = 15_000;
const heartbeatParts = 60;
/** An unsolicited pong of the maximum length: about as long as a heartbeat, and clients do not count it as an event. */
const heartbeatFrame = Buffer.concat([Buffer.of(0x8a, 125), Buffer.alloc(125, ' ')]);

/** @param {ReadonlyMap<string, ReadonlySet<Duplex>>} sockets */
function startHeartbeats(sockets) {
  let part = 0;
  setInterval(() => {
    let number = part;
    for (const members of sockets.values()) {
      for (const socket of members) {
        if (number % heartbeatParts === 0) socket.write(heartbeatFrame);
        number += 1;
      }
    }
    part = (part + 1) % heartbeatParts;
  }, heartbeatIntervalMs / heartbeatParts);
}

/**
 * @template Client
 * @param {Map<string, Set<Client>>} clients
 * @param {string} channel
 * @param {Client} client
 * @returns {() => void}
 */
function join(clients, channel, client) {
  const members = clients.get(channel) ?? new Set();
  clients.set(channel, members.add(client));
  return () => members.delete(client);
}

/** @type {Broadcast} */
let broadcast = () => undefined;

serveParent(async (/** @type {BroadcastTask} */ task) => {
  if (task.do === 'publish') {
    for (const [channel, message] of task.events) broadcast(channel, message);
    return null;
  }
  const http = createServer();
  broadcast = servers[task.kind](http);
  http.listen(0, '127.0.0.1');
  await once(http, 'listening');
  return /** @type {AddressInfo} */ (http.address()).port;
});
