import { connect } from 'node:net';
import { FrameReader, opcodes } from '../../testkit/frames.ts';

/**
 * What the server has sent. `status`: of its first HTTP response, or null. `head`: the head of that response, in latin1.
 * `statuses`: of all HTTP responses. `closeCode`: of its close frame. `texts`: text messages. `pongs`: number of pong frames.
 * `end`: state of the connection.
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

const maxTexts = 64;
const tickMs = 100;
const flushLimitMs = 2_000;

/** A TCP connection that writes arbitrary bytes and records what the server sends. */
export class RawConnection {
  #http = Buffer.of();

  /**
   * @param {number} port of 127.0.0.1
   * @param {string} localAddress source address, in 127.0.0.0/8
   */
  constructor(port, localAddress) {
    /** @type {Answer} */
    this.answer = { status: null, head: '', statuses: [], closeCode: null, texts: [], pongs: 0, end: 'open' };
    /** The written bytes, for reports. @type {Buffer[]} */
    this.written = [];
    this.writtenBytes = 0;
    /** The server refuses connections. */
    this.isServerGone = false;
    /** Number of writes that are not flushed. */
    this.unwritten = 0;
    /** @type {Set<() => void>} */
    this.watchers = new Set();
    /** @type {FrameReader | null} */
    this.frames = null;
    this.socket = connect({ port, host: '127.0.0.1', localAddress, allowHalfOpen: true });
    this.socket.setNoDelay(true);
    this.socket.on('data', (chunk) => {
      this.#receive(chunk);
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
   * Waits for the condition; resolves with false after `limitMs`.
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
      // Counts ticks, so that received data is processed before the time-out if this process was suspended.
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

  /** Resolves when all writes are flushed, or after a time limit. */
  async flushed() {
    await this.until(({ end }) => this.unwritten === 0 || end !== 'open', flushLimitMs);
  }

  /** Closes or resets the connection. */
  drop(reset = false) {
    if (reset) this.socket.resetAndDestroy();
    else this.socket.destroy();
  }

  /** The first 64 kB that were written, in hex. */
  get writtenHex() {
    return Buffer.concat(this.written).subarray(0, 65_536).toString('hex');
  }

  #changed() {
    for (const watcher of [...this.watchers]) watcher();
  }

  /** @param {Buffer} chunk */
  #receive(chunk) {
    if (this.frames !== null) {
      this.frames.read(chunk);
      return;
    }
    this.#http = Buffer.concat([this.#http, chunk]);
    const text = this.#http.toString('latin1');
    // No response body of the server contains such a line.
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
    else if (opcode === opcodes.text && this.answer.texts.length < maxTexts) {
      this.answer.texts.push(bytes.toString('utf8', start, end));
    }
  }
}
