import { retry } from '../retry.js';
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
  readonly #ending = new AbortController();
  #running: Promise<void> | null = null;

  constructor(options: NatsConnectionOptions) {
    this.#options = options;
  }

  start(): void {
    this.#running ??= this.#run();
  }

  async end(): Promise<void> {
    this.#ending.abort();
    await this.#line?.connection.close();
    await this.#running;
  }

  async #run(): Promise<void> {
    const { signal } = this.#ending;
    await retry(
      async (attempts) => {
        const line = await connectNats(this.#options.url);
        this.#line = line;
        if (signal.aborted) {
          await line.connection.close();
          return;
        }
        attempts.reset();
        this.#up(line);
        await this.#watch(line);
        const closed = await line.connection.closed();
        throw closed instanceof Error ? closed : new Error('NATS has closed the connection');
      },
      { signal, onRetry: ({ error }) => this.#down(error) },
    );
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
    if (this.#ending.signal.aborted) return;
    if (this.#isUp) this.#options.onDown();
    this.#isUp = false;
    if (this.#hasTold) return;
    this.#hasTold = true;
    this.#options.lifecycle.emit('relay:lost', { error });
  }
}
