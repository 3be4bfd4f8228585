import { randomBytes } from 'node:crypto';
import { isHeard } from '../postgres/pooler.js';
import { backoffMs, type Session, type SessionOptions } from '../postgres/session.js';
import { type SessionSlots, unboundedSlots } from '../postgres/session-slots.js';
import type { Lifecycle, LifecycleEvents } from '../lifecycle.js';

export interface WakeListenerOptions {
  /** `postgresql://...`; LISTEN needs a session of its own on a primary: no transaction pooler, no replica. */
  databaseUrl: string;
  /** The NOTIFY channel. Default `flagcast`. */
  channel?: string;
  /** How often to ask the connection whether it lives, in milliseconds. Default 15,000. */
  probeIntervalMs?: number;
  /** How long it may take to answer, in milliseconds. Default 5,000. */
  probeTimeoutMs?: number;
  /** How often to look whether LISTEN works after all where it does not, in milliseconds. Default 60,000. */
  deafRetryMs?: number;
  /** Where its sessions count. Default: nowhere else. */
  slots?: SessionSlots;
  lifecycle: Lifecycle;
  /** Called for every hint, and after every (re)connect, since hints were missed meanwhile. */
  onWake: () => void;
}

type Deafness = LifecycleEvents['listener:unavailable'][0];

const mend = 'set FLAGCAST_LISTEN_URL to a connection string that leads straight to the primary';

const deafnesses = {
  pooler: {
    reason: 'pooler',
    what: 'LISTEN hears nothing through a pooler that pools by transaction: changes come with the next poll instead of at once',
    mend,
  },
  replica: {
    reason: 'replica',
    what: 'a replica takes no LISTEN: changes come with the next poll instead of at once',
    mend,
  },
} as const satisfies Record<string, Deafness>;

/**
 * Hears the hints of the triggers. A hint carries nothing and may be lost or repeated: it only
 * says that a read now is worth while. Nothing depends on it but the delay.
 */
export class WakeListener {
  readonly #options: Required<WakeListenerOptions>;
  #client: Session | null = null;
  #stopped = false;
  #interrupt: (() => void) | null = null;
  #running: Promise<void> | null = null;

  constructor(options: WakeListenerOptions) {
    this.#options = {
      channel: 'flagcast',
      probeIntervalMs: 15_000,
      probeTimeoutMs: 5_000,
      deafRetryMs: 60_000,
      slots: unboundedSlots(),
      ...options,
    };
  }

  start(): void {
    this.#running ??= this.#run();
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    this.#interrupt?.();
    // A database that does not answer must not hold up the shutdown.
    this.#close();
    await this.#running;
  }

  async #run(): Promise<void> {
    let attempts = 0;
    let told: Deafness | null = null;
    while (!this.#isStopped()) {
      try {
        const client = await this.#connect();
        const deafness = await this.#whyDeaf(client);
        if (this.#isStopped()) break;
        if (deafness === null) await this.#listen(client);
        else if (deafness !== told) this.#options.lifecycle.emit('listener:unavailable', deafness);
        attempts = 0;
        told = deafness;
        if (deafness === null) {
          await this.#holdOpen(client);
        } else {
          this.#close();
          await this.#pause(this.#options.deafRetryMs);
        }
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
        this.#close();
      }
    }
  }

  async #connect(): Promise<Session> {
    return (this.#client = await this.#open());
  }

  async #open(): Promise<Session> {
    return await this.#options.slots.open(this.#session);
  }

  #close(): void {
    this.#client?.discard();
    this.#client = null;
  }

  get #session(): SessionOptions {
    const { databaseUrl, probeTimeoutMs } = this.#options;
    return {
      databaseUrl,
      applicationName: 'flagcast listener',
      queryTimeoutMs: probeTimeoutMs,
      values: 'text',
    };
  }

  /** Null where LISTEN works. A pooler takes it without a word, and leaves it in a session that others get next. */
  async #whyDeaf(client: Session): Promise<Deafness | null> {
    const { rows } = await client.query<{ replica: string }>('SELECT pg_is_in_recovery()::text AS replica');
    if (rows[0]?.replica === 'true') return deafnesses.replica;
    if (!client.isPooled) return null;
    const heard = await isHeard(client, async () => await this.#open(), {
      channel: `flagcast_test_${randomBytes(8).toString('hex')}`,
      timeoutMs: this.#options.probeTimeoutMs,
    });
    return heard ? null : deafnesses.pooler;
  }

  async #listen(client: Session): Promise<void> {
    const { channel, lifecycle, onWake } = this.#options;
    client.on('notification', (notification) => {
      if (notification.channel === channel) onWake();
    });
    await client.query(`LISTEN ${client.escapeIdentifier(channel)}`);
    lifecycle.emit('listener:listening', { channel });
    onWake();
  }

  /** Probes until the connection is lost (throws) or the listener is stopped (returns). */
  async #holdOpen(client: Session): Promise<void> {
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
