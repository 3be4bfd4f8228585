import type pg from 'pg';
import type { Session, SessionOptions, Statement } from './session.js';
import type { SessionSlots } from './session-slots.js';

/** Runs statements. */
export interface Queries {
  /** Rejects with what the database throws, or NoFreeSessionError. */
  query<Row extends pg.QueryResultRow>(
    statement: Statement,
    values?: unknown[],
  ): Promise<pg.QueryResult<Row>>;
}

/** Runs statements in sessions that it lends. */
export interface SessionSource extends Queries {
  /** Lends a session to `work`, which leaves no transaction open. Rejects with what `work` throws, or NoFreeSessionError. */
  use<Result>(work: (session: Session) => Promise<Result>): Promise<Result>;
}

/** A session that is not used for so long is closed, in milliseconds. */
const idleTimeoutMs = 10_000;

/** Keeps sessions open for the next user, within its slots. */
export class SessionPool implements SessionSource {
  readonly #slots: SessionSlots;
  readonly #options: SessionOptions;
  readonly #open = new Set<Session>();
  /** The one that was used last is the last one. */
  readonly #idle = new Map<Session, NodeJS.Timeout>();

  constructor(slots: SessionSlots, options: SessionOptions) {
    this.#slots = slots;
    this.#options = options;
  }

  async query<Row extends pg.QueryResultRow>(
    statement: Statement,
    values?: unknown[],
  ): Promise<pg.QueryResult<Row>> {
    return await this.use(async (session) => await session.query<Row>(statement, values));
  }

  async use<Result>(work: (session: Session) => Promise<Result>): Promise<Result> {
    return await this.#use(work);
  }

  /** The same for a request: it gives up its place in the queue when `signal` is aborted. */
  until(signal: AbortSignal): SessionSource {
    return {
      use: async (work) => await this.#use(work, signal),
      query: async <Row extends pg.QueryResultRow>(statement: Statement, values?: unknown[]) =>
        await this.#use(async (session) => await session.query<Row>(statement, values), signal),
    };
  }

  /** Lends none any more. Resolves when all sessions have ended that were not given up before; those in use are waited for. */
  async end(): Promise<void> {
    this.#slots.close();
    const ended = [...this.#open]
      .filter((session) => !session.isGivenUp)
      .map(async (session) => await new Promise<void>((resolve) => session.once('end', resolve)));
    for (const session of this.#idle.keys()) this.#close(session);
    await Promise.all(ended);
  }

  async #use<Result>(work: (session: Session) => Promise<Result>, signal?: AbortSignal): Promise<Result> {
    const session = await this.#take(signal);
    try {
      return await work(session);
    } finally {
      this.#giveBack(session);
    }
  }

  async #take(signal?: AbortSignal): Promise<Session> {
    const [session] = [...this.#idle.keys()].slice(-1);
    if (session === undefined) return (await this.#slots.take(signal)) ?? (await this.#openSession());
    clearTimeout(this.#idle.get(session));
    this.#idle.delete(session);
    return session;
  }

  async #openSession(): Promise<Session> {
    const session = await this.#slots.openTaken(this.#options);
    this.#open.add(session);
    session.once('end', () => {
      this.#open.delete(session);
      clearTimeout(this.#idle.get(session));
      this.#idle.delete(session);
    });
    return session;
  }

  #giveBack(session: Session): void {
    if (!session.isReusable) session.discard();
    else if (this.#slots.isClosed) this.#close(session);
    else if (!this.#slots.handOn(session)) {
      const timer = setTimeout(() => this.#close(session), idleTimeoutMs);
      timer.unref();
      this.#idle.set(session, timer);
    }
  }

  #close(session: Session): void {
    clearTimeout(this.#idle.get(session));
    this.#idle.delete(session);
    session.discard();
  }
}
