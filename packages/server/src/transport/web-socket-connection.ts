import type { Duplex } from 'node:stream';
import { CloseCode, type CloseReason } from '@flagcast/protocol';
import { WebSocket } from 'ws';
import type { Principal } from '../auth/request-authorizer.js';
import { pingFrame, pongFrame } from '../connections/codecs/frame.js';
import { Connection, type Session } from '../connections/connection.js';
import type { ConnectionRegistry } from '../connections/connection-registry.js';
import {
  type BatchedConnection,
  handleOf,
  plainSocketWriter,
  type SocketHandle,
  type SocketWriter,
} from './socket-writer.js';

/** A client may send this many messages and pings in a window, far more than the limit on channels needs. */
const maxMessages = 100;
const messageWindowMs = 10_000;

export interface WebSocketConnectionOptions<OpenSession extends Session> {
  webSocket: ServerWebSocket;
  /** Its socket. */
  socket: Duplex;
  registry: ConnectionRegistry;
  principal: Principal;
  socketWriter: SocketWriter;
  openSession: (connection: Connection) => OpenSession;
}

/**
 * Passes its events to its connection without listeners: the same listeners for each of thousands of idle WebSockets would
 * take a quarter of a kilobyte each.
 */
export class ServerWebSocket extends WebSocket {
  connection: WebSocketConnection | null = null;

  override close(code?: number, reason?: string | Buffer): void {
    if (this.connection !== null) this.connection.isClosing = true;
    super.close(code, reason);
  }

  override emit(event: string | symbol, ...values: unknown[]): boolean {
    // The library closes the connection after each of its errors, with a matching code.
    if (event === 'error') return true;
    if (this.connection === null) return super.emit(event, ...values);
    switch (event) {
      case 'message':
        this.connection.onMessage(values[0] as Buffer, values[1] as boolean);
        return true;
      case 'ping':
        this.connection.onPing(values[0] as Buffer);
        return true;
      case 'pong':
        this.connection.hasAnswered = true;
        return true;
      case 'close':
        this.connection.ended(values[0] as number, (values[1] as Buffer).toString('utf8'));
        return true;
      default:
        return super.emit(event, ...values);
    }
  }
}

/** A WebSocket. Encoded frames go directly to its socket. There are thousands, mostly idle, so it has few objects. */
export class WebSocketConnection<OpenSession extends Session = Session>
  extends Connection
  implements BatchedConnection
{
  readonly session: OpenSession;
  isBatched = false;
  /** A close frame was or will be sent: nothing may follow it. */
  isClosing = false;
  /** Whether the socket may have bytes waiting: only then is it asked. */
  #mayHaveWaiting = true;
  readonly #webSocket: ServerWebSocket;
  readonly #socket: Duplex;
  readonly #socketWriter: SocketWriter;
  readonly #handle: SocketHandle | null;
  /** Kept because reading it from the handle is slow. */
  readonly #descriptor: number;
  /** Null until the first message: most clients never send one. */
  #messageRate: { count: number; windowEndsAtMs: number } | null = null;

  /** Registers the connection. Throws what `openSession` throws. */
  constructor(options: WebSocketConnectionOptions<OpenSession>) {
    super(options.principal, options.registry);
    const { webSocket, socket } = options;
    this.#webSocket = webSocket;
    this.#socket = socket;
    this.#handle = handleOf(socket);
    this.#descriptor = this.#handle?.fd ?? -1;
    this.#socketWriter = this.#handle === null ? plainSocketWriter : options.socketWriter;
    this.session = options.openSession(this);
    this.registry.add(this);
    webSocket.connection = this;
    const { session } = this;
    socket.on('drain', () => session.drained());
  }

  protected override get bufferedAmount(): number {
    return this.#socket.writableLength;
  }

  get descriptor(): number | null {
    if (this.#mayHaveWaiting) {
      if (this.#socket.writableLength > 0) return null;
      this.#mayHaveWaiting = false;
    }
    if (this.isClosing) return null;
    // Node drops the handle when the socket is destroyed; the descriptor may be another connection's then.
    const { _handle: handle } = this.#socket as { readonly _handle?: SocketHandle | null };
    return handle === this.#handle ? this.#descriptor : null;
  }

  protected override write(bytes: Buffer): boolean {
    return this.#socketWriter.write(this, bytes);
  }

  writeToSocket(bytes: Buffer): boolean {
    this.#mayHaveWaiting = true;
    return this.#webSocket.readyState !== WebSocket.OPEN || this.#socket.write(bytes);
  }

  protected override closeTransport(code: CloseCode, reason: CloseReason): void {
    // What was sent before must arrive before the close frame.
    if (this.isBatched) this.#socketWriter.flush();
    this.#webSocket.close(code, reason);
  }

  override ping(): void {
    this.hasAnswered = false;
    this.send(pingFrame);
  }

  override sendKeepAlive(): void {
    if (this.takeIdle()) this.send(pongFrame);
  }

  terminate(): void {
    this.#webSocket.terminate();
  }

  onMessage(data: Buffer, isBinary: boolean): void {
    if (this.#countMessage()) this.session.receive(data, isBinary);
  }

  /** Answers, unless the client does not read the answers: they would fill the memory. */
  onPing(data: Buffer): void {
    if (!this.#countMessage() || this.#webSocket.readyState !== WebSocket.OPEN || this.isFull) return;
    this.#mayHaveWaiting = true;
    this.#webSocket.pong(data);
  }

  /** False, and the connection is closed, if the client sends too many. */
  #countMessage(): boolean {
    const nowMs = performance.now();
    this.#messageRate ??= { count: 0, windowEndsAtMs: 0 };
    if (nowMs > this.#messageRate.windowEndsAtMs) {
      this.#messageRate = { count: 0, windowEndsAtMs: nowMs + messageWindowMs };
    }
    this.#messageRate.count += 1;
    if (this.#messageRate.count <= maxMessages) return true;
    this.session.close(CloseCode.protocolViolation, 'too_many_messages');
    return false;
  }
}
