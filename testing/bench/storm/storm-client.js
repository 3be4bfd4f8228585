import { randomBytes } from 'node:crypto';
import { connect } from 'node:net';
import { backoffMs } from '../../../packages/client/dist/connection-machine.js';
import { clientFrame, FrameReader, opcodes } from '../../testkit/frames.ts';

/**
 * @typedef {{
 *   readonly port: number,
 *   readonly localAddress: string,
 *   readonly path: string,
 *   readonly headers: Readonly<Record<string, string>>,
 *   readonly onLive: () => void,
 *   readonly onEvent: () => void,
 * }} StormClientOptions
 */

const emptyClose = clientFrame(opcodes.close, Buffer.alloc(0));
const emptyPong = clientFrame(opcodes.pong, Buffer.alloc(0));
const headEnd = '\r\n\r\n';
const cursorKey = '"cursor":"';

/**
 * A flagcast.v1 client that reconnects with the backoff of @flagcast/client and resumes from its cursor. It keeps no other
 * state.
 */
export class StormClient {
  /** @param {StormClientOptions} options */
  constructor(options) {
    this.options = options;
    /** @type {string | null} */
    this.cursor = null;
    this.failures = 0;
    this.closed = false;
    /** @type {NodeJS.Timeout | undefined} */
    this.timer = undefined;
    this.socket = this.open();
  }

  open() {
    const { port, localAddress, headers } = this.options;
    const socket = connect({ host: '127.0.0.1', port, localAddress, noDelay: true });
    const frames = new FrameReader((opcode, bytes, start, end) => {
      if (opcode === opcodes.ping) socket.write(emptyPong);
      // Answers the close frame.
      else if (opcode === opcodes.close) socket.end(emptyClose);
      else if (opcode === opcodes.text) this.onMessage(bytes.toString('utf8', start, end));
    });
    /** @type {string | null} */
    let head = '';
    socket.once('connect', () => socket.write(this.request(headers)));
    socket.on('data', (bytes) => {
      if (head === null) {
        frames.read(bytes);
        return;
      }
      head += bytes.toString('latin1');
      const end = head.indexOf(headEnd);
      if (end === -1) return;
      if (!head.startsWith('HTTP/1.1 101 ')) {
        socket.destroy();
        return;
      }
      const rest = Buffer.from(head.slice(end + headEnd.length), 'latin1');
      head = null;
      frames.read(rest);
    });
    // A close event follows each error.
    socket.on('error', () => undefined);
    socket.once('close', () => this.onLost());
    return socket;
  }

  /** @param {Readonly<Record<string, string>>} headers */
  request(headers) {
    const { port, path } = this.options;
    const from = this.cursor === null ? '' : `&cursor=${encodeURIComponent(this.cursor)}`;
    const all = {
      Host: `127.0.0.1:${port}`,
      Connection: 'Upgrade',
      Upgrade: 'websocket',
      'Sec-WebSocket-Version': '13',
      'Sec-WebSocket-Key': randomBytes(16).toString('base64'),
      'Sec-WebSocket-Protocol': 'flagcast.v1',
      ...headers,
    };
    const lines = Object.entries(all).map(([name, value]) => `${name}: ${value}\r\n`);
    return `GET ${path}${from} HTTP/1.1\r\n${lines.join('')}\r\n`;
  }

  /** @param {string} message */
  onMessage(message) {
    const at = message.lastIndexOf(cursorKey);
    if (at !== -1)
      this.cursor = message.slice(at + cursorKey.length, message.indexOf('"', at + cursorKey.length));
    if (message.startsWith('{"source"')) {
      this.options.onEvent();
    } else if (message.startsWith('{"type":"caught_up"')) {
      this.failures = 0;
      this.options.onLive();
    } else if (message.startsWith('{"type":"resync"')) {
      throw new Error(`A client that should have resumed received ${message}`);
    }
  }

  onLost() {
    if (this.closed) return;
    this.timer = setTimeout(
      () => {
        this.socket = this.open();
      },
      Math.random() * backoffMs(this.failures),
    );
    this.failures += 1;
  }

  close() {
    this.closed = true;
    clearTimeout(this.timer);
    this.socket.resetAndDestroy();
  }
}
