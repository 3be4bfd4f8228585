import { createHash } from 'node:crypto';
import type { RelayContext, RelaySession } from 'flagcast/support';

/** The session leads through a pooler by transaction, where session locks do not work. */
export class PooledLockError extends Error {
  override readonly name = 'PooledLockError';
}

/**
 * PostgreSQL's advisory lock for a history: at most one of the servers that read it holds the lock. It ends with its
 * session. If a machine vanishes, PostgreSQL ends the session after about 11 s.
 */
export class ReaderLock {
  readonly #session: RelaySession;
  #isReleased = false;

  private constructor(session: RelaySession) {
    this.#session = session;
  }

  /**
   * Takes the lock; null if another server has it. `onLost` is called if its session ends before `release`.
   *
   * @throws PooledLockError through a pooler by transaction, or the error of the database.
   */
  static async take(
    openSession: RelayContext['openSession'],
    id: string,
    onLost: () => void,
  ): Promise<ReaderLock | null> {
    const session = await openSession();
    try {
      if (session.isPooled) {
        throw new PooledLockError('the reader of a relay cannot be elected through a pooler by transaction');
      }
      const { rows } = await session.query('SELECT pg_try_advisory_lock($1) AS taken', [lockKey(id)]);
      if (rows[0]?.['taken'] !== true) {
        await session.end();
        return null;
      }
      const lock = new ReaderLock(session);
      session.once('end', () => {
        if (!lock.#isReleased) onLost();
      });
      return lock;
    } catch (error) {
      session.discard();
      throw error;
    }
  }

  /** Releases the lock; other servers can take it when this resolves. */
  async release(): Promise<void> {
    if (this.#isReleased) return;
    this.#isReleased = true;
    await this.#session.end().catch(() => undefined);
  }
}

function lockKey(id: string): string {
  return createHash('sha256').update(`flagcast relay ${id}`).digest().readBigInt64BE().toString();
}
