import type pg from 'pg';
import { backoffMs, discardSession, openSession } from '../database/session.js';
import type { Lifecycle } from '../lifecycle.js';

export interface WakeListenerOptions {
  /** `postgresql://...`; LISTEN needs a session of its own and does not work through a transaction pooler. */
  databaseUrl: string;
  /** The NOTIFY channel. Default `flagcast`. */
  channel?: string;
  /** How often to ask the connection whether it lives, in milliseconds. Default 15,000. */
  probeIntervalMs?: number;
  /** How long it may take to answer, in milliseconds. Default 5,000. */
  probeTimeoutMs?: number;
  lifecycle: Lifecycle;
  /** Called for every hint, and after every (re)connect, since hints were missed meanwhile. */
  onWake: () => void;
}

/**
 * Hears the hints of the triggers. A hint carries nothing and may be lost or repeated: it only
 * says that a read now is worth while. Nothing depends on it but the delay.
 */
export class WakeListener {
  readonly #options: Required<WakeListenerOptions>;
  #client: pg.Client | null = null;
  #stopped = false;
  #interrupt: (() => void) | null = null;
  #running: Promise<void> | null = null;

  constructor(options: WakeListenerOptions) {
    this.#options = { channel: 'flagcast', probeIntervalMs: 15_000, probeTimeoutMs: 5_000, ...options };
  }

  start(): void {
    this.#running ??= this.#run();
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    this.#interrupt?.();
    await this.#running;
  }

  async #run(): Promise<void> {
    let attempts = 0;
    while (!this.#isStopped()) {
      try {
        const client = await this.#listen();
        attempts = 0;
        await this.#holdOpen(client);
      } catch (error) {
        if (this.#isStopped()) break;
        attempts += 1;
        const retryInMs = backoffMs(attempts);
        this.#options.lifecycle.emit('listener:failed', {
          error: error instanceof Error ? error : new Error(String(error)),
          attempt: attempts,
          retryInMs,
        });
        await this.#pause(retryInMs);
      } finally {
        if (this.#client !== null) discardSession(this.#client);
        this.#client = null;
      }
    }
  }

  async #listen(): Promise<pg.Client> {
    const { databaseUrl, channel, probeTimeoutMs, lifecycle, onWake } = this.#options;
    const client = await openSession({
      databaseUrl,
      applicationName: 'flagcast listener',
      queryTimeoutMs: probeTimeoutMs,
    });
    this.#client = client;
    client.on('notification', () => onWake());
    await client.query(`LISTEN ${client.escapeIdentifier(channel)}`);
    lifecycle.emit('listener:listening', { channel });
    onWake();
    return client;
  }

  /** Probes until the connection is lost (throws) or the listener is stopped (returns). */
  async #holdOpen(client: pg.Client): Promise<void> {
    let lost = false;
    client.once('end', () => {
      lost = true;
      this.#interrupt?.();
    });
    while (!this.#isStopped()) {
      await this.#pause(this.#options.probeIntervalMs);
      if (this.#isStopped()) return;
      if (lost as boolean) throw new Error('the LISTEN connection was closed');
      await client.query('SELECT 1');
    }
  }

  async #pause(milliseconds: number): Promise<void> {
    if (this.#stopped) return;
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
  #isStopped(): boolean {
    return this.#stopped;
  }
}
