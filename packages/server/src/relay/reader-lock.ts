import { createHash } from 'node:crypto';
import type pg from 'pg';
import { isPooled } from '../database/pooler.js';
import { discardSession, openSession } from '../database/session.js';

/** The database's URL leads through a pooler, behind which a lock is nobody's. */
export class PooledLockError extends Error {
  override readonly name = 'PooledLockError';
}

const queryTimeoutMs = 5_000;
/** A machine that vanishes without a word must not keep the lock for hours: PostgreSQL finds out in about 11 s. */
const keepAliveSettings =
  'SET tcp_keepalives_idle = 5; SET tcp_keepalives_interval = 2; SET tcp_keepalives_count = 3';

/** An advisory lock of PostgreSQL: of all servers that read one history one has it. It ends with its connection. */
export class ReaderLock {
  readonly #client: pg.Client;
  #isReleased = false;

  private constructor(client: pg.Client) {
    this.#client = client;
  }

  /**
   * Takes the lock; null where somebody else has it. `onLost` is called when its connection ends by itself.
   *
   * @throws PooledLockError through a pooler by transaction, else what the database throws.
   */
  static async take(databaseUrl: string, id: string, onLost: () => void): Promise<ReaderLock | null> {
    const client = await openSession({ databaseUrl, applicationName: 'flagcast relay', queryTimeoutMs });
    try {
      if (await isPooled(client)) {
        throw new PooledLockError('the reader of a relay cannot be elected through a pooler by transaction');
      }
      await client.query(keepAliveSettings);
      const { rows } = await client.query<{ taken: string }>(
        'SELECT pg_try_advisory_lock($1::bigint)::text AS taken',
        [lockKey(id).toString()],
      );
      if (rows[0]?.taken !== 'true') {
        await client.end();
        return null;
      }
      const lock = new ReaderLock(client);
      client.once('end', () => {
        if (!lock.#isReleased) onLost();
      });
      return lock;
    } catch (error) {
      discardSession(client);
      throw error;
    }
  }

  /** Gives it back; others can have it when this resolves. */
  async release(): Promise<void> {
    if (this.#isReleased) return;
    this.#isReleased = true;
    // A database that does not answer must not hold up the end.
    const giveUp = setTimeout(() => discardSession(this.#client), queryTimeoutMs);
    await this.#client.end().catch(() => undefined);
    clearTimeout(giveUp);
  }
}

function lockKey(id: string): bigint {
  return createHash('sha256').update(`flagcast relay ${id}`).digest().readBigInt64BE();
}
