import { setTimeout as delay } from 'node:timers/promises';
import type { OpenSession, Session } from '../postgres/session.js';
import { inTransaction, isReplica } from '../postgres/statements.js';
import type { Lifecycle } from '../lifecycle.js';
import { toError } from '../describe.js';

/** FLAGCAST_LOG_RETENTION by default: 7 days. */
export const defaultLogRetentionMs = 604_800_000;

interface LogRetentionOptions {
  readonly openSession: OpenSession;
  readonly queryTimeoutMs: number;
  /** How long rows of the event log are kept, in milliseconds: how far back a client can resume. */
  readonly keepMs: number;
  /** How often old rows are deleted, in milliseconds. Default 60,000. */
  readonly intervalMs?: number;
  /** Whether events are read from the event log. */
  readonly hasLog: () => boolean;
  readonly lifecycle: Lifecycle;
}

/** Rows that one transaction deletes at most, and the pause after it, in milliseconds. */
const batchRows = 5_000;
const batchPauseMs = 100;

/**
 * Deletes old rows of the event log in small transactions. An advisory lock lets one server do it at a time. A replica
 * is read-only: a server that reads the primary does it.
 */
export class LogRetention {
  readonly #options: LogRetentionOptions;
  #timer: NodeJS.Timeout | null = null;
  #pruning: Promise<void> | null = null;
  #isStopped = false;

  constructor(options: LogRetentionOptions) {
    this.#options = options;
  }

  start(): void {
    this.#timer ??= setInterval(() => {
      this.#pruning ??= this.#prune().finally(() => (this.#pruning = null));
    }, this.#options.intervalMs ?? 60_000);
    this.#timer.unref();
  }

  async stop(): Promise<void> {
    this.#isStopped = true;
    if (this.#timer !== null) clearInterval(this.#timer);
    this.#timer = null;
    await this.#pruning;
  }

  async #prune(): Promise<void> {
    const { openSession, queryTimeoutMs, keepMs, hasLog, lifecycle } = this.#options;
    if (!hasLog()) return;
    let session: Session | null = null;
    try {
      session = await openSession({ applicationName: 'flagcast retention', queryTimeoutMs });
      if (await isReplica(session)) return;
      let deleted = 0;
      for (let rows = batchRows; rows === batchRows && !this.#isStopped;) {
        rows = await deleteRows(session, keepMs);
        deleted += rows;
        if (rows === batchRows) await delay(batchPauseMs);
      }
      if (deleted > 0) lifecycle.emit('log:pruned', { rows: deleted });
    } catch (error) {
      lifecycle.emit('log:prune-failed', { error: toError(error) });
    } finally {
      session?.discard();
    }
  }
}

/** Deletes one batch. Returns how many rows it had; 0 if another server holds the lock. */
async function deleteRows(session: Session, keepMs: number): Promise<number> {
  // With default_transaction_read_only a statement by itself could not.
  const { rows } = await inTransaction(
    session,
    async () =>
      await session.query<{ rows: string | null }>(
        `SELECT flagcast.prune_event_log($1::float8 * interval '1 millisecond', $2)::text AS rows`,
        [keepMs, batchRows],
      ),
  );
  return Number(rows[0]?.rows ?? 0);
}
