import { randomBytes } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import { receivesNotifications } from '../postgres/notification-check.js';
import type { OpenSession, Session } from '../postgres/session.js';
import { isReplica } from '../postgres/statements.js';
import type { Lifecycle, LifecycleEvents } from '../lifecycle.js';
import { retry } from '../retry.js';

export interface WakeListenerOptions {
  /** LISTEN needs a session of its own at a primary: no pooler in transaction mode, no replica. */
  openSession: OpenSession;
  /** How often to check that the connection is alive, in milliseconds. Default 15,000. */
  probeIntervalMs?: number;
  /** How long that may take, in milliseconds. Default 5,000. */
  probeTimeoutMs?: number;
  /** How often to check again whether LISTEN works, in milliseconds. Default 60,000. */
  unavailableRetryMs?: number;
  lifecycle: Lifecycle;
  /** Called for every notification, and after every connect, because notifications may have been missed. */
  onWake: () => void;
}

type Unavailability = LifecycleEvents['listener:unavailable'][0];

/** The NOTIFY channel of the triggers. */
export const notifyChannel = 'flagcast';

const fix = 'set FLAGCAST_LISTEN_URL to a connection string that leads straight to the primary';

const unavailabilities = {
  pooler: {
    reason: 'pooler',
    message:
      'LISTEN receives nothing through a pooler in transaction mode: changes come with the next poll instead of at once',
    fix,
  },
  replica: {
    reason: 'replica',
    message: 'a replica does not support LISTEN: changes come with the next poll instead of at once',
    fix,
  },
} as const satisfies Record<string, Unavailability>;

/**
 * Listens for the notifications of the triggers where the session that reads cannot. A notification only says that a read
 * now will find something; it may be lost or repeated. Only the delay depends on it.
 */
export class WakeListener {
  readonly #options: Required<WakeListenerOptions>;
  #stopping: AbortController | null = null;
  #running: Promise<unknown> = Promise.resolve();

  constructor(options: WakeListenerOptions) {
    this.#options = {
      probeIntervalMs: 15_000,
      probeTimeoutMs: 5_000,
      unavailableRetryMs: 60_000,
      ...options,
    };
  }

  /** Does nothing if it has started. Can be called again after `stop`. */
  start(): void {
    if (this.#stopping !== null) return;
    const { signal } = (this.#stopping = new AbortController());
    this.#running = this.#running.then(async () => await this.#run(signal));
  }

  async stop(): Promise<void> {
    this.#stopping?.abort();
    this.#stopping = null;
    await this.#running;
  }

  async #run(signal: AbortSignal): Promise<void> {
    const { lifecycle, unavailableRetryMs } = this.#options;
    let reported: Unavailability | null = null;
    await retry(
      async (attempts) => {
        while (!signal.aborted) {
          const session = await this.#open(signal);
          try {
            const unavailability = await this.#checkNotifications(session, signal);
            if (unavailability === null) await this.#listen(session);
            else if (unavailability !== reported) lifecycle.emit('listener:unavailable', unavailability);
            reported = unavailability;
            attempts.reset();
            if (unavailability === null) await this.#holdOpen(session, signal);
          } finally {
            session.discard();
          }
          await delay(unavailableRetryMs, undefined, { signal });
        }
      },
      { signal, onRetry: (failure) => void lifecycle.emit('listener:failed', failure) },
    );
  }

  /** The signal gives the session up, so that a database that does not answer does not delay the shutdown. */
  async #open(signal: AbortSignal): Promise<Session> {
    const { openSession, probeTimeoutMs } = this.#options;
    const applicationName = 'flagcast listener';
    return await openSession({ applicationName, queryTimeoutMs: probeTimeoutMs, values: 'text', signal });
  }

  /** Null where LISTEN works. A pooler accepts it without an error, but in a session that other clients use next. */
  async #checkNotifications(session: Session, signal: AbortSignal): Promise<Unavailability | null> {
    if (await isReplica(session)) return unavailabilities.replica;
    if (!session.isPooled) return null;
    const isReceived = await receivesNotifications(session, async () => await this.#open(signal), {
      channel: `flagcast_test_${randomBytes(8).toString('hex')}`,
      timeoutMs: this.#options.probeTimeoutMs,
    });
    return isReceived ? null : unavailabilities.pooler;
  }

  async #listen(session: Session): Promise<void> {
    const { lifecycle, onWake } = this.#options;
    session.on('notification', (notification) => {
      if (notification.channel === notifyChannel) onWake();
    });
    await session.query(`LISTEN ${notifyChannel}`);
    lifecycle.emit('listener:listening', { channel: notifyChannel });
    onWake();
  }

  /** Checks the connection until it is lost; then rejects. */
  async #holdOpen(session: Session, stopping: AbortSignal): Promise<never> {
    const lost = new AbortController();
    session.once('end', () => lost.abort(new Error('the LISTEN connection was closed')));
    const signal = AbortSignal.any([stopping, lost.signal]);
    for (;;) {
      await delay(this.#options.probeIntervalMs, undefined, { signal }).catch(() => undefined);
      signal.throwIfAborted();
      await session.query('SELECT 1');
    }
  }
}
