import { WebSocket } from 'ws';

/**
 * How a receiver treats a message: it is an event, the receiver is live from now on (ready), the message is ignored, or the
 * receiver must answer with this text.
 */
type MessageKind = 'event' | 'ready' | 'ignored' | { readonly answer: string };

/** The protocol of a receiver. It reads only the bytes that it needs. */
interface Dialect {
  readonly subprotocols?: readonly string[];
  /** Whether a receiver is live as soon as it is connected. */
  readonly isReadyAtOnce?: boolean;
  readonly kindOf: (bytes: Buffer) => MessageKind;
}

type DialectName = 'text' | 'flagcast.v1' | 'socket.io';

const code = (character: string) => character.charCodeAt(0);
const codes = { s: code('s'), c: code('c'), a: code('a'), zero: code('0'), two: code('2'), four: code('4') };

const dialects: Readonly<Record<DialectName, Dialect>> = {
  /** Each text frame is an event: Flagcast's plain dialect, a loop over ws, nchan. */
  text: { isReadyAtOnce: true, kindOf: () => 'event' },

  /** An event begins with `{"source"`; `{"type":"caught_up"` means that the channel, which the query string names, is live. */
  'flagcast.v1': {
    subprotocols: ['flagcast.v1'],
    kindOf: (bytes) => {
      if (bytes[2] === codes.s) return 'event';
      return bytes[9] === codes.c && bytes[10] === codes.a ? 'ready' : 'ignored';
    },
  },

  /** Engine.IO 4: `0` opens, `2` is a ping, `3` a pong, `4` is a packet of Socket.IO: `40` connects, `42` is an event. */
  'socket.io': {
    kindOf: ([first, second]) => {
      if (first === codes.zero) return { answer: '40' };
      if (first === codes.two) return { answer: '3' };
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

const cursorKey = '"cursor":"';
/** The backoff of @flagcast/client: full jitter up to the first limit, which doubles with each failure up to the last. */
const backoffMs = { first: 250, last: 30_000 };

const waiting: (() => void)[] = [];

/**
 * Runs one function in each turn of the event loop. Thousands of connections in one turn would send their requests only
 * after it, when the server has closed those that were accepted first (408); clients of a process each do not wait like that.
 */
function inTurns(open: () => void): void {
  const runFirst = () => {
    waiting.shift()?.();
    if (waiting.length > 0) setImmediate(runFirst);
  };
  if (waiting.push(open) === 1) setImmediate(runFirst);
}

/** A client that counts events. */
export class Receiver {
  isReady = false;
  readonly #options: ReceiverOptions;
  #socket: WebSocket;
  #cursor: string | null = null;
  #failures = 0;
  #isClosed = false;

  constructor(options: ReceiverOptions) {
    this.#options = options;
    this.#socket = this.#open();
  }

  #open(): WebSocket {
    const { port, path, headers, dialect, localAddress } = this.#options;
    const { subprotocols = [], isReadyAtOnce } = dialects[dialect];
    const from = this.#cursor === null ? '' : `&cursor=${encodeURIComponent(this.#cursor)}`;
    const socket = new WebSocket(`ws://127.0.0.1:${port}${path}${from}`, [...subprotocols], {
      ...{ headers, localAddress, perMessageDeflate: false, skipUTF8Validation: true },
    });
    let reason = 'closed by the server';
    if (isReadyAtOnce === true) socket.once('open', () => this.#becomeReady());
    socket.on('message', (data) => this.#receive(data as Buffer));
    socket.on('error', ({ message }) => {
      reason = message;
    });
    socket.once('close', () => this.#onClose(reason));
    return socket;
  }

  #becomeReady(): void {
    this.#failures = 0;
    if (this.isReady) return;
    this.isReady = true;
    this.#options.onReady();
  }

  #receive(bytes: Buffer): void {
    const { dialect, resumes, onEvent } = this.#options;
    if (resumes) this.#keepCursor(bytes.toString('latin1'));
    const kind = dialects[dialect].kindOf(bytes);
    if (kind === 'event') onEvent(bytes.length);
    else if (kind === 'ready') this.#becomeReady();
    else if (kind !== 'ignored') this.#socket.send(kind.answer);
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
      inTurns(() => {
        if (!this.#isClosed) this.#socket = this.#open();
      });
    }, Math.random() * limitMs);
  }

  /** Loses the connection, as in a failure of the network. */
  drop(): void {
    this.#socket.terminate();
  }

  close(): void {
    this.#isClosed = true;
    this.#socket.terminate();
  }
}
