import { connect, type Socket } from 'node:net';
import type { Writable } from 'node:stream';
import { frameReader } from '../frames.ts';

/** What the server has sent. */
export interface RawAnswer {
  /** Of its first HTTP response. */
  status: number | null;
  /** The head of that response, in latin1. */
  head: string;
  /** Of all HTTP responses. */
  statuses: number[];
  /** Of its close frame. */
  closeCode: number | null;
  texts: string[];
  pongs: number;
  end: 'ended' | 'reset' | 'open';
}

const maxTexts = 64;
const maxWritten = 65_536;
const tickMs = 100;
const flushLimitMs = 2_000;

/** A TCP connection that writes arbitrary bytes and records what the server sends. */
export class RawConnection {
  readonly answer: RawAnswer = {
    status: null,
    head: '',
    statuses: [],
    closeCode: null,
    texts: [],
    pongs: 0,
    end: 'open',
  };
  readonly socket: Socket;
  /** The server refuses connections. */
  isServerGone = false;
  readonly #written: Buffer[] = [];
  #writtenBytes = 0;
  /** The number of writes that are not flushed. */
  #unwritten = 0;
  readonly #watchers = new Set<() => void>();
  #http = Buffer.of();
  #frames: Writable | null = null;

  /** Connects to a port of 127.0.0.1 from an address in 127.0.0.0/8. */
  constructor(port: number, localAddress: string) {
    this.socket = connect({ port, host: '127.0.0.1', localAddress, allowHalfOpen: true });
    this.socket.setNoDelay(true);
    this.socket.on('data', (chunk) => {
      this.#receive(chunk);
      this.#changed();
    });
    this.socket.on('error', ({ code }: NodeJS.ErrnoException) => {
      this.isServerGone ||= code === 'ECONNREFUSED';
      this.answer.end = 'reset';
      this.#changed();
    });
    for (const event of ['end', 'close'] as const) {
      this.socket.on(event, () => {
        if (this.answer.end === 'open') this.answer.end = 'ended';
        this.#changed();
      });
    }
  }

  /** Writes the bytes; a string in latin1. */
  write(bytes: Buffer | string): void {
    const buffer = typeof bytes === 'string' ? Buffer.from(bytes, 'latin1') : bytes;
    if (this.#writtenBytes < maxWritten) this.#written.push(buffer);
    this.#writtenBytes += buffer.length;
    if (!this.socket.writable) return;
    this.#unwritten += 1;
    this.socket.write(buffer, () => {
      this.#unwritten -= 1;
      this.#changed();
    });
  }

  /** Waits for the condition; resolves with false after `limitMs`. */
  async until(isTrue: (answer: RawAnswer) => boolean, limitMs: number): Promise<boolean> {
    if (isTrue(this.answer)) return true;
    return await new Promise((resolve) => {
      const settle = (result: boolean): void => {
        clearInterval(limit);
        this.#watchers.delete(watcher);
        resolve(result);
      };
      const watcher = (): void => {
        if (isTrue(this.answer)) settle(true);
      };
      // Counts ticks, so that received data is processed before the time-out if this process was suspended.
      let leftMs = limitMs;
      const limit = setInterval(() => {
        leftMs -= tickMs;
        if (leftMs <= 0) settle(isTrue(this.answer));
      }, tickMs);
      this.#watchers.add(watcher);
    });
  }

  /** Resolves when all writes are flushed, or after a time limit. */
  async flushed(): Promise<void> {
    await this.until(({ end }) => this.#unwritten === 0 || end !== 'open', flushLimitMs);
  }

  /** Closes or resets the connection. */
  drop(reset = false): void {
    if (reset) this.socket.resetAndDestroy();
    else this.socket.destroy();
  }

  /** The first 64 kB that were written, in hex. */
  get writtenHex(): string {
    return Buffer.concat(this.#written).subarray(0, maxWritten).toString('hex');
  }

  #changed(): void {
    for (const watcher of [...this.#watchers]) watcher();
  }

  #receive(chunk: Buffer): void {
    if (this.#frames !== null) {
      this.#frames.write(chunk);
      return;
    }
    this.#http = Buffer.concat([this.#http, chunk]);
    // No response body of the server contains such a line.
    const heads = [...this.#http.toString('latin1').matchAll(/HTTP\/1\.[01] (\d{3}) [^]*?\r\n\r\n/g)];
    this.answer.statuses = heads.map(([, status]) => Number(status));
    const first = heads.find(([, status]) => status !== '100');
    this.answer.status = first === undefined ? null : Number(first[1]);
    this.answer.head = first?.[0] ?? '';
    const upgraded = heads.find(([, status]) => status === '101');
    if (upgraded === undefined) return;
    const { answer } = this;
    this.#frames = frameReader({
      onText: (text) => {
        if (answer.texts.length < maxTexts) answer.texts.push(text);
      },
      onClose: (code) => (answer.closeCode = code),
      onPong: () => (answer.pongs += 1),
    });
    this.#frames.write(this.#http.subarray(upgraded.index + upgraded[0].length));
    this.#http = Buffer.of();
  }
}
