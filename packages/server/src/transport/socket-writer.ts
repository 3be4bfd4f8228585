import { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { describeError } from '../describe.js';

/** A connection that a `SocketWriter` writes to. */
export interface BatchedConnection {
  /** Whether the writer holds bytes of this connection; only the writer sets it. */
  isBatched: boolean;
  /** The file descriptor if bytes may bypass the socket now; null if it has bytes waiting, is closing, or uses TLS. */
  readonly descriptor: number | null;
  /** Writes to Node's socket, which buffers what the kernel does not accept. False: it is buffering more than a little. */
  writeToSocket(bytes: Buffer): boolean;
  /** Is called with the result of `writeToSocket` for bytes that `SocketWriter.write` had accepted. */
  onWritten(hasRoom: boolean): void;
  /** Destroys the socket without a close frame. */
  terminate(): void;
}

/** How a server writes to its WebSockets. */
export interface SocketWriter {
  /** For the log. */
  readonly name: string;
  /** Runs `work`. All that it writes to connections is sent when this returns. */
  cork(work: () => void): void;
  /** Writes now or, if corked, later. False: the socket is buffering more than a little. */
  write(connection: BatchedConnection, bytes: Buffer): boolean;
  /** Sends the collected writes. */
  flush(): void;
}

/**
 * Makes the writer of one server, or throws an Error with the reason why this machine does not allow it.
 * `onFailure` is called if the writer falls back to plain writes later.
 */
export type SocketWriterFactory = (onFailure: () => void) => SocketWriter;

/** Writes to each connection separately. */
export const plainSocketWriter: SocketWriter = {
  name: 'plain',
  cork: (work) => work(),
  write: (connection, bytes) => connection.writeToSocket(bytes),
  flush: () => undefined,
};

/** The factory's writer, else the plain one and the reason. */
export function openSocketWriter(
  factory: SocketWriterFactory | undefined,
  onFailure: () => void,
): { readonly socketWriter: SocketWriter; readonly reason: string | null } {
  if (factory === undefined) return { socketWriter: plainSocketWriter, reason: 'no socketWriter is set' };
  try {
    return { socketWriter: factory(onFailure), reason: null };
  } catch (error) {
    return { socketWriter: plainSocketWriter, reason: describeError(error) };
  }
}

/** What a socket of Node writes to; Node drops it when the socket is destroyed. */
export interface SocketHandle {
  readonly fd: number;
}

/**
 * The handle of a socket that sends bytes unchanged over TCP; null for TLS and for streams of the host.
 *
 * Node does not document the handle, but all its versions have it. Without it, each connection is written to separately.
 */
export function handleOf(socket: Duplex): SocketHandle | null {
  if (Object.getPrototypeOf(socket) !== Socket.prototype || Object.hasOwn(socket, 'write')) return null;
  const { _handle: handle = null } = socket as { _handle?: SocketHandle | null };
  return handle?.constructor.name === 'TCP' && handle.fd >= 0 ? handle : null;
}
