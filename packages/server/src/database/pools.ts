import pg from 'pg';
import { connectionSettings } from './connection-settings.js';
import { discardSession } from './session.js';

export interface PoolsOptions {
  /** `postgresql://…`; where it is missing an Error says so. */
  readonly databaseUrl: string;
  /** How long connecting and a query may take each, in milliseconds. */
  readonly timeoutMs: number;
}

/** The pools of connections of one server, which end together. */
export class Pools {
  readonly #options: PoolsOptions;
  readonly #pools: pg.Pool[] = [];
  readonly #clients = new Set<pg.Client>();

  constructor(options: PoolsOptions) {
    // JavaScript may leave it out, and then the driver would look for a database on this machine.
    if (((options.databaseUrl as string | undefined) ?? '') === '') {
      throw new Error(
        'There is no databaseUrl: give postgresql://user:password@host:5432/database (if it comes from the environment, is the variable set?)',
      );
    }
    this.#options = options;
  }

  /** `max` connections at the most, under this name in pg_stat_activity. */
  open(applicationName: string, max: number): pg.Pool {
    const { databaseUrl, timeoutMs } = this.#options;
    const opened = new pg.Pool({
      ...connectionSettings(databaseUrl),
      application_name: applicationName,
      max,
      connectionTimeoutMillis: timeoutMs,
      query_timeout: timeoutMs,
      keepAlive: true,
    });
    // An idle connection that is lost is replaced at the next look-up.
    opened.on('error', () => undefined);
    opened.on('connect', (client) => {
      // The pool looks after idle ones only; whoever has it learns of the loss from the query.
      client.on('error', () => undefined);
      if (client instanceof pg.Client) this.#clients.add(client);
    });
    opened.on('remove', (client) => this.#clients.delete(client as pg.Client));
    this.#pools.push(opened);
    return opened;
  }

  /** Says goodbye, when what is under way is done. */
  async end(): Promise<void> {
    await Promise.all(this.#pools.map(async (pool) => await pool.end()));
  }

  /** Drops what is left after the goodbye: a database that does not answer would keep the process alive. */
  discard(): void {
    for (const client of this.#clients) discardSession(client);
  }
}
