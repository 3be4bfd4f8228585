import type { Duplex } from 'node:stream';
import { CloseCode } from '@flagcast/protocol';
import type { WebSocket } from 'ws';
import type { Peer } from '../connection/peer.js';
import type { Visitor } from './door.js';
import { MessageRate } from './message-rate.js';
import { pingFrame } from '../wire/frame.js';
import type { OpenPeer, Peers } from './peers.js';

/** A WebSocket as a connection sees it. Finished frames go straight to the socket under it. */
export class SocketPeer implements Peer {
  readonly webSocket: WebSocket;
  readonly socket: Duplex;
  /** The first code that it was closed with from our side. */
  endedWith: { readonly code: CloseCode; readonly reason: string } | null = null;

  constructor(webSocket: WebSocket, socket: Duplex) {
    this.webSocket = webSocket;
    this.socket = socket;
  }

  get bufferedAmount(): number {
    return this.socket.writableLength;
  }

  send(bytes: Buffer): boolean {
    return this.webSocket.readyState !== this.webSocket.OPEN || this.socket.write(bytes);
  }

  close(code: CloseCode, reason: string): void {
    this.endedWith ??= { code, reason };
    this.webSocket.close(code, reason);
  }
}

/** What a socket's events are handed to. */
type Connection = OpenPeer['connection'] & {
  /** The peer has so much waiting that it gets nothing more. */
  readonly full: boolean;
  drained(): void;
  ended(): void;
};

/** Counts a connection in with all others, hands it the events of its socket, and ends it when its peer sends too much. */
export function join(
  peers: Peers,
  peer: SocketPeer,
  dialect: string,
  { user, expiresAtMs }: Visitor,
  connection: Connection,
): OpenPeer {
  const { webSocket, socket } = peer;
  const open: OpenPeer = {
    user,
    dialect,
    expiresAtMs,
    answered: true,
    connection,
    ping: () => {
      open.answered = false;
      peer.send(pingFrame);
    },
    terminate: () => webSocket.terminate(),
  };
  const leave = peers.add(open);
  socket.on('drain', () => connection.drained());
  webSocket.on('pong', () => {
    open.answered = true;
  });
  const rate = new MessageRate();
  const count = (): void => {
    if (!rate.take()) connection.close(CloseCode.protocolViolation, 'too many messages');
  };
  // Before whoever reads the messages: of a connection that has been closed it reads no more.
  webSocket.on('message', count);
  webSocket.on('ping', (data) => {
    count();
    // Whoever asks and does not read the answers gets none: they would pile up here.
    if (webSocket.readyState === webSocket.OPEN && !connection.full) webSocket.pong(data);
  });
  // The library closes the connection after each of its errors, with the code that fits.
  webSocket.on('error', () => undefined);
  webSocket.once('close', (code, reason) => {
    connection.ended();
    // A peer that is cut off does not send our code back.
    const { code: endCode, reason: endReason } = peer.endedWith ?? { code, reason: reason.toString('utf8') };
    leave(endCode, endReason);
  });
  return open;
}
