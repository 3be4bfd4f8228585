import { randomBytes } from 'node:crypto';
import { connect, type Socket } from 'node:net';
import { clientFrame, FrameReader, opcodes } from '../../testkit/frames.ts';

/**
 * How a receiver treats a frame: it is an event, the receiver is live from now on (ready), the frame is ignored, or the
 * receiver must answer with these bytes.
 */
type FrameKind = 'event' | 'ready' | 'ignored' | Buffer;

/** The protocol of a receiver. */
interface Dialect {
  readonly subprotocol?: string;
  /** Whether a receiver is live as soon as it is connected. */
  readonly isReadyAtOnce?: boolean;
  /** The kind of a text frame, whose payload begins at `start`. */
  readonly kindOf: (bytes: Buffer, start: number) => FrameKind;
}

type DialectName = 'text' | 'flagcast.v1' | 'socket.io';

const code = (character: string) => character.charCodeAt(0);
const codes = { s: code('s'), c: code('c'), a: code('a'), zero: code('0'), two: code('2'), four: code('4') };
const socketIoConnect = clientFrame(opcodes.text, Buffer.from('40'));
const socketIoPong = clientFrame(opcodes.text, Buffer.from('3'));

const dialects: Readonly<Record<DialectName, Dialect>> = {
  /** Each text frame is an event: Flagcast's plain dialect, a loop over ws, nchan. */
  text: { isReadyAtOnce: true, kindOf: () => 'event' },

  /** An event begins with `{"source"`; `{"type":"caught_up"` means that the channel, which the query string names, is live. */
  'flagcast.v1': {
    subprotocol: 'flagcast.v1',
    kindOf: (bytes, start) => {
      if (bytes[start + 2] === codes.s) return 'event';
      return bytes[start + 9] === codes.c && bytes[start + 10] === codes.a ? 'ready' : 'ignored';
    },
  },

  /** Engine.IO 4: `0` opens, `2` is a ping, `3` a pong, `4` is a packet of Socket.IO: `40` connects, `42` is an event. */
  'socket.io': {
    kindOf: (bytes, start) => {
      const [first, second] = [bytes[start], bytes[start + 1]];
      if (first === codes.zero) return socketIoConnect;
      if (first === codes.two) return socketIoPong;
      if (first !== codes.four) return 'ignored';
      return second === codes.two ? 'event' : second === codes.zero ? 'ready' : 'ignored';
    },
  },
};

export interface ReceiverOptions {
  readonly port: number;
  readonly localAddress: string;
  readonly path: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly dialect: DialectName;
  /** Whether it reconnects from its cursor, with the backoff of @flagcast/client; only with flagcast.v1. */
  readonly resumes: boolean;
  readonly onReady: () => void;
  readonly onEvent: (bytes: number) => void;
  /** Is called when the connection was closed, refused, or failed; not if it `resumes`. */
  readonly onLost: (reason: string) => void;
}

/** All receivers of a process read into this buffer, because they process it immediately. */
const chunk = Buffer.allocUnsafe(65_536);
const emptyClose = clientFrame(opcodes.close, Buffer.alloc(0));
const emptyPong = clientFrame(opcodes.pong, Buffer.alloc(0));
const headEnd = '\r\n\r\n';
const cursorKey = '"cursor":"';
/** The backoff of @flagcast/client: full jitter up to the first limit, which doubles with each failure up to the last. */
const backoffMs = { first: 250, last: 30_000 };

/**
 * A minimal WebSocket client that counts events and reads only the bytes of a message that this needs. A client library
 * would take several times the processor time of the servers, on the same machine.
 */
export class Receiver {
  isReady = false;
  readonly #options: ReceiverOptions;
  #socket: Socket;
  #cursor: string | null = null;
  #failures = 0;
  #isClosed = false;

  constructor(options: ReceiverOptions) {
    this.#options = options;
    this.#socket = this.#open();
  }

  #open(): Socket {
    const { port, localAddress, dialect } = this.#options;
    let reason = 'closed by the server';
    /** The response to the handshake while it is incomplete. */
    let head: string | null = '';
    const frames = new FrameReader((opcode, bytes, start, end) => this.#onFrame(opcode, bytes, start, end));
    const read = (bytes: Buffer) => {
      if (head === null) {
        frames.read(bytes);
        return;
      }
      head += bytes.toString('latin1');
      const end = head.indexOf(headEnd);
      if (end === -1) return;
      if (!head.startsWith('HTTP/1.1 101 ')) {
        reason = `refused with ${head.slice(0, head.indexOf('\r'))}`;
        socket.destroy();
        return;
      }
      const rest = Buffer.from(head.slice(end + headEnd.length), 'latin1');
      head = null;
      if (dialects[dialect].isReadyAtOnce === true) this.#becomeReady();
      frames.read(rest);
    };
    const callback = (length: number) => {
      read(chunk.subarray(0, length));
      return true;
    };
    const onread = { buffer: chunk, callback };
    const socket = connect({ host: '127.0.0.1', port, localAddress, noDelay: true, onread });
    socket.once('connect', () => socket.write(this.#request()));
    socket.on('error', (error) => {
      reason = error.message;
    });
    socket.once('close', () => this.#onClose(reason));
    return socket;
  }

  #request(): string {
    const { port, path, headers, dialect } = this.#options;
    const { subprotocol } = dialects[dialect];
    const from = this.#cursor === null ? '' : `&cursor=${encodeURIComponent(this.#cursor)}`;
    const all = {
      Host: `127.0.0.1:${port}`,
      Connection: 'Upgrade',
      Upgrade: 'websocket',
      'Sec-WebSocket-Version': '13',
      'Sec-WebSocket-Key': randomBytes(16).toString('base64'),
      ...(subprotocol === undefined ? {} : { 'Sec-WebSocket-Protocol': subprotocol }),
      ...headers,
    };
    const lines = Object.entries(all).map(([name, value]) => `${name}: ${value}\r\n`);
    return `GET ${path}${from} HTTP/1.1\r\n${lines.join('')}\r\n`;
  }

  #becomeReady(): void {
    this.#failures = 0;
    if (this.isReady) return;
    this.isReady = true;
    this.#options.onReady();
  }

  #onFrame(opcode: number, bytes: Buffer, start: number, end: number): void {
    const { dialect, resumes, onEvent } = this.#options;
    if (opcode === opcodes.ping) this.#socket.write(emptyPong);
    else if (opcode === opcodes.close && resumes) this.#socket.end(emptyClose);
    if (opcode !== opcodes.text) return;
    if (resumes) this.#keepCursor(bytes.toString('latin1', start, end));
    const kind = dialects[dialect].kindOf(bytes, start);
    if (kind === 'event') onEvent(end - start);
    else if (kind === 'ready') this.#becomeReady();
    else if (kind !== 'ignored') this.#socket.write(kind);
  }

  #keepCursor(message: string): void {
    if (message.startsWith('{"type":"resync"') && this.#cursor !== null) {
      throw new Error(`A client that should have resumed received ${message}`);
    }
    const at = message.lastIndexOf(cursorKey);
    if (at === -1) return;
    const start = at + cursorKey.length;
    this.#cursor = message.slice(start, message.indexOf('"', start));
  }

  #onClose(reason: string): void {
    if (this.#isClosed) return;
    if (!this.#options.resumes) {
      this.#options.onLost(reason);
      return;
    }
    this.isReady = false;
    const limitMs = Math.min(backoffMs.first * 2 ** this.#failures, backoffMs.last);
    this.#failures += 1;
    setTimeout(() => {
      if (!this.#isClosed) this.#socket = this.#open();
    }, Math.random() * limitMs);
  }

  /** Resets the connection, because an orderly close would keep the port in TIME_WAIT for a minute. */
  close(): void {
    this.#isClosed = true;
    this.#socket.resetAndDestroy();
  }
}
