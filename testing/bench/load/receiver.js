import { randomBytes } from 'node:crypto';
import { connect } from 'node:net';
import { clientFrame, FrameReader, opcodes } from '../../testkit/frames.ts';

/** @import { Socket } from 'node:net' */
/** @import { Dialect } from './dialects.js' */

/**
 * @typedef {{
 *   readonly port: number,
 *   readonly localAddress: string,
 *   readonly path: string,
 *   readonly headers: Readonly<Record<string, string>>,
 *   readonly dialect: Dialect,
 *   readonly chunk: Buffer,
 *   readonly onReady: () => void,
 *   readonly onEvent: (bytes: number) => void,
 *   readonly onLost: (reason: string) => void,
 * }} ReceiverOptions
 * `chunk`: read buffer, shared by all receivers because they process it immediately. `onLost`: the connection was closed,
 * refused, or failed.
 */

const emptyPong = clientFrame(opcodes.pong, Buffer.alloc(0));
const crlf = '\r\n';

/**
 * A minimal WebSocket client that counts events and reads only the bytes of a message that this needs. A client library
 * would take several times the processor time of the servers, on the same machine.
 */
export class Receiver {
  /** @param {ReceiverOptions} options */
  constructor(options) {
    this.options = options;
    this.events = 0;
    this.ready = false;
    /** @type {string | null} the response to the handshake while it is incomplete */
    this.head = '';
    this.frames = new FrameReader((opcode, bytes, start, end) => this.onFrame(opcode, bytes, start, end));
    const { port, localAddress, chunk } = options;
    /** @type {Socket} */
    this.socket = connect({
      host: '127.0.0.1',
      port,
      localAddress,
      noDelay: true,
      onread: {
        buffer: chunk,
        callback: (length) => {
          this.read(chunk.subarray(0, length));
          return true;
        },
      },
    });
    this.socket.once('connect', () => this.socket.write(this.request()));
    let reason = 'closed by the server';
    this.socket.on('error', (error) => {
      reason = error.message;
    });
    this.socket.once('close', () => options.onLost(this.refusal ?? reason));
    /** @type {string | null} */
    this.refusal = null;
  }

  request() {
    const { port, path, headers, dialect } = this.options;
    const all = {
      Host: `127.0.0.1:${port}`,
      Connection: 'Upgrade',
      Upgrade: 'websocket',
      'Sec-WebSocket-Version': '13',
      'Sec-WebSocket-Key': randomBytes(16).toString('base64'),
      ...(dialect.subprotocols === null ? {} : { 'Sec-WebSocket-Protocol': dialect.subprotocols }),
      ...headers,
    };
    const lines = Object.entries(all).map(([name, value]) => `${name}: ${value}`);
    return [`GET ${path} HTTP/1.1`, ...lines, '', ''].join(crlf);
  }

  /** @param {Buffer} bytes */
  read(bytes) {
    if (this.head === null) {
      this.frames.read(bytes);
      return;
    }
    this.head += bytes.toString('latin1');
    const end = this.head.indexOf(crlf + crlf);
    if (end === -1) return;
    const [status = ''] = this.head.split(crlf, 1);
    const rest = Buffer.from(this.head.slice(end + 4), 'latin1');
    if (!status.startsWith('HTTP/1.1 101 ')) {
      this.refusal = `refused with ${JSON.stringify(status)}`;
      this.socket.destroy();
      return;
    }
    this.head = null;
    const { opening } = this.options.dialect;
    if (opening === null) this.becomeReady();
    else if (opening.length > 0) this.socket.write(opening);
    this.frames.read(rest);
  }

  becomeReady() {
    if (this.ready) return;
    this.ready = true;
    this.options.onReady();
  }

  /**
   * @param {number} opcode
   * @param {Buffer} bytes
   * @param {number} start
   * @param {number} end
   */
  onFrame(opcode, bytes, start, end) {
    if (opcode === opcodes.ping) {
      this.socket.write(emptyPong);
      return;
    }
    const kind = this.options.dialect.kindOf(opcode, bytes, start);
    if (kind === 'event') {
      this.events += 1;
      this.options.onEvent(end - start);
    } else if (kind === 'ready') {
      this.becomeReady();
    } else if (kind !== 'ignored') {
      this.socket.write(kind);
    }
  }

  /** Resets the connection, because an orderly close would keep the port in TIME_WAIT for a minute. */
  close() {
    this.socket.removeAllListeners('close');
    this.socket.resetAndDestroy();
  }
}
