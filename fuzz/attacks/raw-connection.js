import { connect } from 'node:net';
import { FrameReader, opcodes } from '../../bench/load/frames.js';

/**
 * What a server said to somebody who wrote bytes to it.
 *
 * `status`: of its first HTTP answer, null where there was none. `head`: that answer's lines, in latin1.
 * `statuses`: of all its HTTP answers. `closeCode`: of its close frame. `texts`: the text messages it sent.
 * `end`: whether it ended the connection, reset it, or neither.
 *
 * @typedef {{
 *   status: number | null,
 *   head: string,
 *   statuses: number[],
 *   closeCode: number | null,
 *   texts: string[],
 *   pongs: number,
 *   end: 'ended' | 'reset' | 'open',
 * }} Answer
 */

const mostKeptTexts = 64;
const tickMs = 100;
const flushLimitMs = 2_000;

/** A TCP connection that writes what it is told to, whether it makes sense or not, and keeps what comes back. */
export class RawConnection {
  #http = Buffer.of();

  /**
   * @param {number} port of 127.0.0.1
   * @param {string} localAddress where it comes from, in 127.0.0.0/8
   */
  constructor(port, localAddress) {
    /** @type {Answer} */
    this.answer = { status: null, head: '', statuses: [], closeCode: null, texts: [], pongs: 0, end: 'open' };
    /** What was written, for the report of a fault. @type {Buffer[]} */
    this.written = [];
    this.writtenBytes = 0;
    /** Nobody listens there any more. */
    this.isServerGone = false;
    /** Writes that have not left this process yet. */
    this.unwritten = 0;
    /** @type {Set<() => void>} */
    this.watchers = new Set();
    /** @type {FrameReader | null} */
    this.frames = null;
    this.socket = connect({ port, host: '127.0.0.1', localAddress, allowHalfOpen: true });
    this.socket.setNoDelay(true);
    this.socket.on('data', (chunk) => {
      this.#take(chunk);
      this.#changed();
    });
    this.socket.on('end', () => {
      if (this.answer.end === 'open') this.answer.end = 'ended';
      this.#changed();
    });
    this.socket.on('error', (/** @type {NodeJS.ErrnoException} */ { code }) => {
      this.isServerGone ||= code === 'ECONNREFUSED';
      this.answer.end = 'reset';
      this.#changed();
    });
    this.socket.on('close', () => {
      if (this.answer.end === 'open') this.answer.end = 'ended';
      this.#changed();
    });
  }

  /** @param {Buffer | string} bytes a string is written in latin1 */
  write(bytes) {
    const buffer = typeof bytes === 'string' ? Buffer.from(bytes, 'latin1') : bytes;
    if (this.writtenBytes < 65_536) this.written.push(buffer);
    this.writtenBytes += buffer.length;
    if (!this.socket.writable) return;
    this.unwritten += 1;
    this.socket.write(buffer, () => {
      this.unwritten -= 1;
      this.#changed();
    });
  }

  /**
   * Resolves with whether it has become true in time.
   *
   * @param {(answer: Answer) => boolean} isTrue
   * @param {number} limitMs
   * @returns {Promise<boolean>}
   */
  async until(isTrue, limitMs) {
    if (isTrue(this.answer)) return true;
    return await new Promise((resolve) => {
      const watcher = () => {
        if (isTrue(this.answer)) settle(true);
      };
      // Only time in which this process ran counts: what came while it did not is looked at first.
      let leftMs = limitMs;
      const limit = setInterval(
        () => {
          leftMs -= tickMs;
          if (leftMs <= 0) settle(isTrue(this.answer));
        },
        Math.min(tickMs, limitMs),
      );
      /** @param {boolean} result */
      const settle = (result) => {
        clearInterval(limit);
        this.watchers.delete(watcher);
        resolve(result);
      };
      this.watchers.add(watcher);
    });
  }

  /** Resolves when all that was written has left this process, or the server has not taken it for long. */
  async flushed() {
    await this.until(({ end }) => this.unwritten === 0 || end !== 'open', flushLimitMs);
  }

  /** Ends it: in an orderly way, or as if the machine had gone. */
  drop(reset = false) {
    if (reset) this.socket.resetAndDestroy();
    else this.socket.destroy();
  }

  /** What was written first, in hex. */
  get writtenHex() {
    return Buffer.concat(this.written).subarray(0, 65_536).toString('hex');
  }

  #changed() {
    for (const watcher of [...this.watchers]) watcher();
  }

  /** @param {Buffer} chunk */
  #take(chunk) {
    if (this.frames !== null) {
      this.frames.read(chunk);
      return;
    }
    this.#http = Buffer.concat([this.#http, chunk]);
    const text = this.#http.toString('latin1');
    // No body of the server's holds such a line.
    const heads = [...text.matchAll(/HTTP\/1\.[01] (\d{3}) [^]*?\r\n\r\n/g)];
    this.answer.statuses = heads.map(([, status]) => Number(status));
    const first = heads.find(([, status]) => status !== '100');
    this.answer.status = first === undefined ? null : Number(first[1]);
    this.answer.head = first?.[0] ?? '';
    const upgraded = heads.find(([, status]) => status === '101');
    if (upgraded === undefined) return;
    this.frames = new FrameReader((opcode, bytes, start, end) => this.#frame(opcode, bytes, start, end));
    const early = this.#http.subarray(upgraded.index + upgraded[0].length);
    this.#http = Buffer.of();
    if (early.length > 0) this.frames.read(early);
  }

  /**
   * @param {number} opcode
   * @param {Buffer} bytes
   * @param {number} start
   * @param {number} end
   */
  #frame(opcode, bytes, start, end) {
    if (opcode === opcodes.close) this.answer.closeCode = end - start < 2 ? 1005 : bytes.readUInt16BE(start);
    else if (opcode === opcodes.pong) this.answer.pongs += 1;
    else if (opcode === opcodes.text && this.answer.texts.length < mostKeptTexts) {
      this.answer.texts.push(bytes.toString('utf8', start, end));
    }
  }
}
