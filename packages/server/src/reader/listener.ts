import { randomBytes } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import { isHeard } from '../postgres/pooler.js';
import type { OpenSession, Session } from '../postgres/session.js';
import type { Lifecycle, LifecycleEvents } from '../lifecycle.js';
import { retry } from '../retry.js';

export interface WakeListenerOptions {
  /** LISTEN needs a session of its own on a primary: no pooler in transaction mode, no replica. */
  openSession: OpenSession;
  /** The NOTIFY channel. Default `flagcast`. */
  channel?: string;
  /** How often to ask the connection whether it lives, in milliseconds. Default 15,000. */
  probeIntervalMs?: number;
  /** How long it may take to answer, in milliseconds. Default 5,000. */
  probeTimeoutMs?: number;
  /** How often to look whether LISTEN works after all where it does not, in milliseconds. Default 60,000. */
  deafRetryMs?: number;
  lifecycle: Lifecycle;
  /** Called for every hint, and after every (re)connect, since hints were missed meanwhile. */
  onWake: () => void;
}

type Unavailability = LifecycleEvents['listener:unavailable'][0];

const fix = 'set FLAGCAST_LISTEN_URL to a connection string that leads straight to the primary';

const unavailabilities = {
  pooler: {
    reason: 'pooler',
    message:
      'LISTEN hears nothing through a pooler that pools by transaction: changes come with the next poll instead of at once',
    fix,
  },
  replica: {
    reason: 'replica',
    message: 'a replica takes no LISTEN: changes come with the next poll instead of at once',
    fix,
  },
} as const satisfies Record<string, Unavailability>;

/**
 * Hears the hints of the triggers. A hint carries nothing and may be lost or repeated: it only
 * says that a read now is worth while. Nothing depends on it but the delay.
 */
export class WakeListener {
  readonly #options: Required<WakeListenerOptions>;
  readonly #stopping = new AbortController();
  #running: Promise<unknown> | null = null;

  constructor(options: WakeListenerOptions) {
    this.#options = {
      channel: 'flagcast',
      probeIntervalMs: 15_000,
      probeTimeoutMs: 5_000,
      deafRetryMs: 60_000,
      ...options,
    };
  }

  start(): void {
    this.#running ??= this.#run();
  }

  async stop(): Promise<void> {
    this.#stopping.abort();
    await this.#running;
  }

  async #run(): Promise<void> {
    const { lifecycle, deafRetryMs } = this.#options;
    const { signal } = this.#stopping;
    let reported: Unavailability | null = null;
    await retry(
      async (attempts) => {
        while (!signal.aborted) {
          const session = await this.#open();
          try {
            const unavailability = await this.#checkNotifications(session);
            if (unavailability === null) await this.#listen(session);
            else if (unavailability !== reported) lifecycle.emit('listener:unavailable', unavailability);
            reported = unavailability;
            attempts.reset();
            if (unavailability === null) await this.#holdOpen(session);
          } finally {
            session.discard();
          }
          await delay(deafRetryMs, undefined, { signal });
        }
      },
      { signal, onRetry: (failure) => void lifecycle.emit('listener:failed', failure) },
    );
  }

  async #open(): Promise<Session> {
    return await this.#options.openSession({
      applicationName: 'flagcast listener',
      queryTimeoutMs: this.#options.probeTimeoutMs,
      values: 'text',
      // A database that does not answer must not hold up the shutdown.
      signal: this.#stopping.signal,
    });
  }

  /** Null where LISTEN works. A pooler accepts it silently, and leaves it in a session that others get next. */
  async #checkNotifications(client: Session): Promise<Unavailability | null> {
    const { rows } = await client.query<{ replica: string }>('SELECT pg_is_in_recovery()::text AS replica');
    if (rows[0]?.replica === 'true') return unavailabilities.replica;
    if (!client.isPooled) return null;
    const heard = await isHeard(client, async () => await this.#open(), {
      channel: `flagcast_test_${randomBytes(8).toString('hex')}`,
      timeoutMs: this.#options.probeTimeoutMs,
    });
    return heard ? null : unavailabilities.pooler;
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

  /** Probes the connection until it is lost; then rejects. */
  async #holdOpen(session: Session): Promise<never> {
    const lost = new AbortController();
    session.once('end', () => lost.abort(new Error('the LISTEN connection was closed')));
    const signal = AbortSignal.any([this.#stopping.signal, lost.signal]);
    for (;;) {
      await delay(this.#options.probeIntervalMs, undefined, { signal }).catch(() => undefined);
      signal.throwIfAborted();
      await session.query('SELECT 1');
    }
  }
}
