import type { Duplex } from 'node:stream';
import { CloseCode } from '@flagcast/protocol';
import { WebSocket } from 'ws';
import type { User } from '../auth/table-authorization.js';
import { Connection } from '../connections/connection.js';
import { pingFrame, pongFrame } from '../connections/codecs/frame.js';
import type { Principal } from '../auth/request-authorizer.js';
import {
  type BatchedConnection,
  handleOf,
  plainSocketWriter,
  type SocketHandle,
  type SocketWriter,
} from './socket-writer.js';
import { MessageRate } from '../connections/message-rate.js';
import type { OpenConnection, ConnectionRegistry } from '../connections/connection-registry.js';

/** What a socket's events are handed to. */
type ConnectionSession = OpenConnection['connection'] & {
  drained(): void;
  ended(): void;
};

/** Where a socket of Node keeps what it writes to. */
interface HandleOwner {
  readonly _handle?: SocketHandle | null;
}

/** Reads the messages of a socket; must not throw. */
interface Input {
  receive(data: Buffer, isBinary: boolean): void;
}

export interface WebSocketConnectionOptions<Connected extends ConnectionSession> {
  webSocket: ServerWebSocket;
  /** The socket under it. */
  socket: Duplex;
  peers: ConnectionRegistry;
  dialect: string;
  principal: Principal;
  /** Past this many bytes that the network has not taken the peer gets nothing more until it has drained. */
  highWaterBytes: number;
  socketWriter: SocketWriter;
  /** Makes the connection, and who reads for it; what it throws the constructor throws. */
  connect: (peer: WebSocketConnection) => { readonly connection: Connected; readonly input: Input };
}

/**
 * A WebSocket that tells its peer what happens, and needs no listeners for it: of thousands that are idle
 * each would keep a table of the same ones, which takes a quarter of a kilobyte.
 */
export class ServerWebSocket extends WebSocket {
  peer: WebSocketConnection | null = null;

  override close(code?: number, reason?: string | Buffer): void {
    if (this.peer !== null) this.peer.isLeaving = true;
    super.close(code, reason);
  }

  override emit(event: string | symbol, ...values: unknown[]): boolean {
    // The library closes the connection after each of its errors, with the code that fits.
    if (event === 'error') return true;
    if (this.peer === null) return super.emit(event, ...values);
    switch (event) {
      case 'message':
        this.peer.received(values[0] as Buffer, values[1] as boolean);
        return true;
      case 'ping':
        this.peer.pinged(values[0] as Buffer);
        return true;
      case 'pong':
        this.peer.answered = true;
        return true;
      case 'close':
        this.peer.closed(values[0] as number, (values[1] as Buffer).toString('utf8'));
        return true;
      default:
        return super.emit(event, ...values);
    }
  }
}

/**
 * A WebSocket as a connection sees it, and as one of all that are open. Finished frames go straight to the
 * socket under it. One object, and next to no closures: there are thousands of them, mostly idle.
 */
export class WebSocketConnection<Connected extends ConnectionSession = ConnectionSession>
  extends Connection
  implements OpenConnection, BatchedConnection
{
  connectionId = 0;
  readonly user: User;
  readonly dialect: string;
  expiresAtMs: number;
  answered = true;
  isBatched = false;
  /** A close frame has been sent, or will be: nothing may follow. */
  isLeaving = false;
  /** Whether the socket may have bytes of its own waiting: only then is it asked. */
  #mayWait = true;
  readonly connection: Connected;
  readonly #webSocket: ServerWebSocket;
  readonly #socket: Duplex;
  readonly #socketWriter: SocketWriter;
  /** What the socket writes to, and its number, which Node takes long to tell. */
  readonly #handle: SocketHandle | null;
  readonly #handleDescriptor: number;
  readonly #peers: ConnectionRegistry;
  readonly #input: Input;
  /** Null until it sends something, as most never do. */
  #rate: MessageRate | null = null;
  /** The first code that it was closed with from our side. */
  #endedWith: { readonly code: CloseCode; readonly reason: string } | null = null;

  /** Counts the peer in with all others, and hands the events of its socket to its connection. */
  constructor(options: WebSocketConnectionOptions<Connected>) {
    const { webSocket, socket, peers, dialect, principal, highWaterBytes, socketWriter, connect } = options;
    super(highWaterBytes);
    this.#webSocket = webSocket;
    this.#socket = socket;
    this.#handle = handleOf(socket);
    this.#handleDescriptor = this.#handle?.fd ?? -1;
    this.#socketWriter = this.#handle === null ? plainSocketWriter : socketWriter;
    this.#peers = peers;
    this.user = principal.user;
    this.dialect = dialect;
    this.expiresAtMs = principal.expiresAtMs;
    const { connection, input } = connect(this);
    this.connection = connection;
    this.#input = input;
    peers.add(this);
    webSocket.peer = this;
    socket.on('drain', () => connection.drained());
  }

  protected override get bufferedAmount(): number {
    return this.#socket.writableLength;
  }

  get descriptor(): number | null {
    if (this.#mayWait) {
      if (this.#socket.writableLength > 0) return null;
      this.#mayWait = false;
    }
    if (this.isLeaving) return null;
    return (this.#socket as HandleOwner)._handle === this.#handle ? this.#handleDescriptor : null;
  }

  protected override write(bytes: Buffer): boolean {
    return this.#socketWriter.write(this, bytes);
  }

  writeToSocket(bytes: Buffer): boolean {
    this.#mayWait = true;
    return this.#webSocket.readyState !== WebSocket.OPEN || this.#socket.write(bytes);
  }

  protected override onPaused(): void {
    this.#peers.reportPaused(this);
  }

  protected override onDrained(pausedMs: number): void {
    // It may have been told to go meanwhile: then it is brought nothing more.
    if (this.#endedWith === null) this.#peers.reportDrained(this, pausedMs);
  }

  override close(code: CloseCode, reason: string): void {
    this.#endedWith ??= { code, reason };
    // What it was told before comes before.
    if (this.isBatched) this.#socketWriter.flush();
    this.#webSocket.close(code, reason);
  }

  ping(): void {
    this.answered = false;
    this.send(pingFrame);
  }

  keepOpen(): void {
    if (this.takeQuiet()) this.send(pongFrame);
  }

  terminate(): void {
    this.#webSocket.terminate();
  }

  /** A message has come. One that sends too many is sent away. */
  received(data: Buffer, isBinary: boolean): void {
    if (this.#count()) this.#input.receive(data, isBinary);
  }

  /** A ping has come. Whoever asks and does not read the answers gets none: they would pile up here. */
  pinged(data: Buffer): void {
    if (!this.#count() || this.#webSocket.readyState !== WebSocket.OPEN || this.full) return;
    this.#mayWait = true;
    this.#webSocket.pong(data);
  }

  /** The socket is closed. */
  closed(code: number, reason: string): void {
    this.connection.ended();
    // A peer that is cut off does not send our code back.
    const ended = this.#endedWith ?? { code, reason };
    this.#peers.remove(this, ended.code, ended.reason);
  }

  #count(): boolean {
    this.#rate ??= new MessageRate();
    if (this.#rate.take()) return true;
    this.connection.close(CloseCode.protocolViolation, 'too many messages');
    return false;
  }
}
