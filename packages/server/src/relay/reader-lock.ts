import { createHash } from 'node:crypto';
import type { Session } from '../postgres/session.js';
import type { SessionSlots } from '../postgres/session-slots.js';

/** The database's URL leads through a pooler, behind which a lock is nobody's. */
export class PooledLockError extends Error {
  override readonly name = 'PooledLockError';
}

const queryTimeoutMs = 5_000;

/** An advisory lock of PostgreSQL: of all servers that read one history one has it. It ends with its session, also when the machine vanishes: PostgreSQL notices that in about 11 s. */
export class ReaderLock {
  readonly #client: Session;
  #isReleased = false;

  private constructor(client: Session) {
    this.#client = client;
  }

  /**
   * Takes the lock; null where somebody else has it. `onLost` is called when its connection ends by itself.
   *
   * @throws PooledLockError through a pooler by transaction, else what the database throws.
   */
  static async take(
    { databaseUrl, slots }: { readonly databaseUrl: string; readonly slots: SessionSlots },
    id: string,
    onLost: () => void,
  ): Promise<ReaderLock | null> {
    const client = await slots.open({
      databaseUrl,
      applicationName: 'flagcast relay',
      queryTimeoutMs,
      values: 'text',
    });
    try {
      if (client.isPooled) {
        throw new PooledLockError('the reader of a relay cannot be elected through a pooler by transaction');
      }
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
      client.discard();
      throw error;
    }
  }

  /** Gives it back; others can have it when this resolves. */
  async release(): Promise<void> {
    if (this.#isReleased) return;
    this.#isReleased = true;
    await this.#client.end().catch(() => undefined);
  }
}

function lockKey(id: string): bigint {
  return createHash('sha256').update(`flagcast relay ${id}`).digest().readBigInt64BE();
}
