import { backoffMs } from '../postgres/session.js';
import type { Lifecycle } from '../lifecycle.js';
import { connectNats, type NatsSession } from './nats.js';

export interface NatsConnectionOptions {
  readonly url: string;
  readonly lifecycle: Lifecycle;
  /** There is a connection; again and again, as it comes back. */
  readonly onUp: (line: NatsSession) => void;
  readonly onDown: () => void;
}

/** The connection to NATS: made, and made again, until it is closed. A loss is told once. */
export class Line {
  readonly #options: NatsConnectionOptions;
  #line: NatsSession | null = null;
  #isUp = false;
  #hasTold = false;
  #isEnded = false;
  #interrupt: (() => void) | null = null;
  #running: Promise<void> | null = null;

  constructor(options: NatsConnectionOptions) {
    this.#options = options;
  }

  start(): void {
    this.#running ??= this.#run();
  }

  async end(): Promise<void> {
    this.#isEnded = true;
    this.#interrupt?.();
    await this.#line?.connection.close();
    await this.#running;
  }

  async #run(): Promise<void> {
    for (let attempts = 1; !this.#hasEnded(); attempts += 1) {
      try {
        const line = await connectNats(this.#options.url);
        this.#line = line;
        if (this.#hasEnded()) {
          await line.connection.close();
          return;
        }
        attempts = 0;
        this.#up(line);
        await this.#watch(line);
        const closed = await line.connection.closed();
        if (this.#hasEnded()) return;
        this.#down(closed instanceof Error ? closed : new Error('NATS has closed the connection'));
      } catch (error) {
        if (this.#hasEnded()) return;
        this.#down(error instanceof Error ? error : new Error(String(error)));
      }
      await this.#pause(backoffMs(attempts + 1));
    }
  }

  /** Until the connection is closed for good. */
  async #watch(line: NatsSession): Promise<void> {
    for await (const status of line.connection.status()) {
      if (status.type === 'disconnect') this.#down(new Error('the connection to NATS was lost'));
      if (status.type === 'reconnect') this.#up(line);
      // A right that is missing: nothing would be heard, and nobody would know why.
      if (status.type === 'error') {
        this.#options.lifecycle.emit('relay:failed', { error: status.error, attempt: 1, retryInMs: 0 });
      }
    }
  }

  #up(line: NatsSession): void {
    this.#isUp = true;
    this.#hasTold = false;
    this.#options.lifecycle.emit('relay:connected', { server: line.connection.getServer() });
    this.#options.onUp(line);
  }

  #down(error: Error): void {
    if (this.#isEnded) return;
    if (this.#isUp) this.#options.onDown();
    this.#isUp = false;
    if (this.#hasTold) return;
    this.#hasTold = true;
    this.#options.lifecycle.emit('relay:lost', { error });
  }

  async #pause(milliseconds: number): Promise<void> {
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, milliseconds);
      this.#interrupt = () => {
        clearTimeout(timer);
        resolve();
      };
    });
    this.#interrupt = null;
  }

  // A method, so that the compiler does not take the flag's value across an await for granted.
  #hasEnded(): boolean {
    return this.#isEnded;
  }
}
