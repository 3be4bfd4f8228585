import { Session, type SessionOptions } from './session.js';

/** No session of the database was free in time. */
export class NoFreeSessionError extends Error {
  override readonly name = 'NoFreeSessionError';
}

export interface SessionSlotsOptions {
  /** What the sessions are for, in metrics and errors. */
  readonly purpose: string;
  /** How many sessions there may be. */
  readonly limit: number;
  /** How long to wait for one that is free, in milliseconds. */
  readonly waitTimeoutMs: number;
}

interface Waiter {
  readonly resolve: (session: Session | null) => void;
  readonly reject: (error: Error) => void;
}

/**
 * Bounds how many sessions PostgreSQL has of us for one purpose. A session counts from before it is opened until
 * PostgreSQL has ended it, also one that was given up.
 */
export class SessionSlots {
  readonly purpose: string;
  readonly limit: number;
  readonly #waitTimeoutMs: number;
  readonly #waiters = new Set<Waiter>();
  /** Those that PostgreSQL has not ended. */
  readonly #sessions = new Set<Session>();
  #used = 0;
  #timeouts = 0;
  #isClosed = false;

  constructor({ purpose, limit, waitTimeoutMs }: SessionSlotsOptions) {
    this.purpose = purpose;
    this.limit = limit;
    this.#waitTimeoutMs = waitTimeoutMs;
  }

  get used(): number {
    return this.#used;
  }

  get waiting(): number {
    return this.#waiters.size;
  }

  /** How often nothing was free in time. */
  get timeouts(): number {
    return this.#timeouts;
  }

  /** Opens a session as soon as there may be one more. */
  async open(options: SessionOptions): Promise<Session> {
    return (await this.take(options.signal)) ?? (await this.openTaken(options));
  }

  /** Opens a session for a slot that was taken. */
  async openTaken(options: SessionOptions): Promise<Session> {
    let session: Session;
    try {
      session = new Session(options);
    } catch (error) {
      this.#free();
      throw error;
    }
    this.#sessions.add(session);
    session.once('end', () => {
      this.#sessions.delete(session);
      this.#free();
    });
    await session.open();
    return session;
  }

  get isClosed(): boolean {
    return this.#isClosed;
  }

  /** Lends nothing any more, also not to those that wait. */
  close(): void {
    this.#isClosed = true;
    for (const waiter of this.#waiters) waiter.reject(closed());
  }

  /** Closes, and gives all sessions up, also those that PostgreSQL has not ended yet. */
  destroy(): void {
    this.close();
    for (const session of this.#sessions) session.destroy();
  }

  /**
   * Waits in turn for a slot, and resolves with null: the caller opens a session; or for a session that another one has
   * handed on. Rejects with NoFreeSessionError after the time-out, and when `signal` is aborted.
   */
  async take(signal?: AbortSignal): Promise<Session | null> {
    if (this.#isClosed) throw closed();
    if (this.#used < this.limit) {
      this.#used += 1;
      return null;
    }
    if (signal?.aborted === true) throw clientGone();
    return await new Promise((resolve, reject) => {
      const leave = (): void => {
        clearTimeout(timer);
        signal?.removeEventListener('abort', onAbort);
        this.#waiters.delete(waiter);
      };
      const waiter: Waiter = {
        resolve: (session) => {
          leave();
          resolve(session);
        },
        reject: (error) => {
          leave();
          reject(error);
        },
      };
      const timer = setTimeout(() => {
        this.#timeouts += 1;
        waiter.reject(
          new NoFreeSessionError(
            `all ${this.limit} sessions of the database for ${this.purpose} were in use for ${this.#waitTimeoutMs} ms`,
          ),
        );
      }, this.#waitTimeoutMs);
      const onAbort = (): void => waiter.reject(clientGone());
      signal?.addEventListener('abort', onAbort);
      this.#waiters.add(waiter);
    });
  }

  /** Hands a session on to the one that has waited longest; false where no one waits. */
  handOn(session: Session): boolean {
    const [waiter] = this.#waiters;
    waiter?.resolve(session);
    return waiter !== undefined;
  }

  #free(): void {
    const [waiter] = this.#waiters;
    if (waiter === undefined) this.#used -= 1;
    else waiter.resolve(null);
  }
}

/** For sessions that count nowhere: those of commands and of parts that run alone. */
export function unboundedSlots(): SessionSlots {
  return new SessionSlots({ purpose: 'anything', limit: Number.POSITIVE_INFINITY, waitTimeoutMs: 0 });
}

function closed(): NoFreeSessionError {
  return new NoFreeSessionError('the server is closing its sessions of the database');
}

function clientGone(): NoFreeSessionError {
  return new NoFreeSessionError('the client of the request has gone');
}
