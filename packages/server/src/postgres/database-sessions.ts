import { within } from '../retry.js';
import type { Database } from './connection-settings.js';
import type { OpenSession } from './session.js';
import { SessionPool } from './session-pool.js';

/** What the number of sessions that a server needs depends on. */
export interface SessionNeeds {
  /** Whether it accepts writes. */
  readonly writes: boolean;
  /** Whether it shares a reader through a relay. */
  readonly relay: boolean;
}

/** How many sessions of the database a server has for each purpose. */
export interface SessionBudget {
  /** The reader, the listener, the lock of the relay, and one for retention or to replace a lost one. */
  readonly reader: number;
  readonly authorization: number;
  readonly requests: number;
  readonly writes: number;
}

export const defaultDatabaseConnections = 10;

/** The connection limit of the role that install creates: two servers, and one that replaces one of them. */
export const roleConnectionLimit = 3 * defaultDatabaseConnections;

/** How many sessions of the database one server needs. */
export function minServerConnections({ writes, relay }: SessionNeeds): number {
  return 5 + (writes ? 1 : 0) + (relay ? 1 : 0);
}

/**
 * How many sessions `flagcast serve` needs with all its workers: one for the command itself, and the share of one more
 * worker, because a replacement starts before the old worker ends.
 */
export function minCommandConnections(workers: number, needs: SessionNeeds): number {
  return 1 + (workers === 1 ? 1 : workers + 1) * minServerConnections(needs);
}

/** How many of the command's connections each of its servers gets. */
export function connectionsOfServer(connections: number, workers: number): number {
  return Math.floor((connections - 1) / (workers === 1 ? 1 : workers + 1));
}

/**
 * Divides the sessions of one server.
 *
 * @throws Error if they are too few.
 */
export function divideConnections(connections: number, needs: SessionNeeds): SessionBudget {
  const least = minServerConnections(needs);
  if (!Number.isInteger(connections) || connections < least) {
    throw new Error(
      `${connections} connections to the database are too few: give database.connections ${least} or more`,
    );
  }
  const budget = {
    reader: 3 + (needs.relay ? 1 : 0),
    requests: 1,
    authorization: 1,
    writes: needs.writes ? 1 : 0,
  };
  const growing = (['requests', 'authorization', 'writes'] as const).filter((purpose) => budget[purpose] > 0);
  for (let left = connections - least; left > 0; left -= 1) {
    const [smallest = 'requests'] = growing.toSorted((a, b) => budget[a] - budget[b]);
    budget[smallest] += 1;
  }
  return budget;
}

export interface DatabaseSessionsOptions extends SessionNeeds {
  /** A URL, or a pool of the host, which lends its clients to requests and authorization and is never ended. */
  readonly database: Database;
  /** The URL for sessions that a pooler cannot give: LISTEN and the relay's lock. Default: `database`. */
  readonly listenUrl: string | null;
  /** How many sessions there may be in all. */
  readonly connections: number;
  /** How long a statement may take, and how long to wait for a session, in milliseconds each. */
  readonly queryTimeoutMs: number;
}

/** All sessions of one server. Each purpose has its own, so that it cannot use up the sessions of another one. */
export class DatabaseSessions {
  /** Users, channels and rights. */
  readonly authorization: SessionPool;
  /** What requests read. */
  readonly requests: SessionPool;
  /** What requests write: a writer that waits for a lock holds up no read. */
  readonly writes: SessionPool;
  /** How long a statement may take, and how long to wait for a session, in milliseconds each. */
  readonly queryTimeoutMs: number;
  /** All pools, for metrics. */
  readonly pools: readonly SessionPool[];
  readonly #reader: SessionPool;
  readonly #database: Database;
  readonly #listenDatabase: Database;

  constructor({ database, listenUrl, connections, queryTimeoutMs, ...needs }: DatabaseSessionsOptions) {
    this.#database = database;
    this.#listenDatabase = listenUrl === null ? database : { url: listenUrl };
    this.queryTimeoutMs = queryTimeoutMs;
    const budget = divideConnections(connections, needs);
    const poolFor = (purpose: keyof typeof budget): SessionPool =>
      new SessionPool({ purpose, limit: budget[purpose], database, queryTimeoutMs });
    this.#reader = poolFor('reader');
    this.authorization = poolFor('authorization');
    this.requests = poolFor('requests');
    this.writes = poolFor('writes');
    this.pools = [this.#reader, this.authorization, this.requests, this.writes];
  }

  /** Whether the host has ended its pool, so that requests and permission checks have no sessions. */
  get hasEndedPool(): boolean {
    return this.#database.pool?.ending === true;
  }

  /** Opens a session for the reader or for retention, which close it. */
  readonly open: OpenSession = async (options) => await this.#reader.open(options);

  /** The same for the listener and the relay's lock. */
  readonly openListening: OpenSession = async (options) =>
    await this.#reader.open({ ...options, database: this.#listenDatabase });

  /**
   * Ends them when the work in them is done and the owners of the reader's sessions have stopped (`stopped`), or when
   * that takes longer than a statement may.
   */
  async end(stopped: Promise<unknown>): Promise<void> {
    const ended = Promise.all([stopped, this.authorization.end(), this.requests.end(), this.writes.end()]);
    // Also if one of the owners has failed.
    await within(this.queryTimeoutMs, ended).catch(() => undefined);
    for (const pool of this.pools) pool.destroy();
  }
}
