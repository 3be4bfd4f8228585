import { createHash } from 'node:crypto';
import { type TriggerState } from '../host/host-triggers.js';
import { type EventSource, sourceChange } from './event-source.js';
import type { History } from './reading-session.js';

/**
 * The history that is read: a cluster and timeline, because another one has other transaction ids; the source with what
 * can be read of the features, because snapshots lack the rest; and the triggers that write the log, because events were
 * not logged while a trigger was missing or disabled. Each `compare` returns why earlier positions are invalid; null if
 * they are valid.
 */
export class ReadHistory {
  #history: History | null = null;
  source: EventSource | null = null;
  #triggers = '';
  /** Names the history in positions. */
  id = '';

  /** The cluster and the database in it; null before the first connection. */
  get database(): string | null {
    return this.#history?.database ?? null;
  }

  get isReplica(): boolean {
    return this.#history !== null && this.#history.timeline === null;
  }

  /** Positions from now on have this id. Default: a hash that is the same in all servers. */
  begin(id?: string): void {
    const { reason, name, hiddenTables, hasState, hasEnvironments, lists, policies } = this.source ?? {};
    const read = [hiddenTables, hasState, hasEnvironments, lists, ...(policies === null ? [] : [policies])];
    const parts = [this.#history?.database, this.#history?.timeline, reason, name, this.#triggers, read];
    this.id = id ?? createHash('sha256').update(JSON.stringify(parts)).digest('base64url').slice(0, 12);
  }

  compareHistory(history: History): string | null {
    const before = this.#history;
    if (before?.database === history.database && before.timeline === history.timeline) return null;
    this.#history = history;
    if (before === null) return null;
    // After a failover the transactions that the standby had not received are lost, and their ids are used again.
    return before.database === history.database
      ? `the database changed from timeline ${before.timeline ?? 'unknown'} to ${history.timeline ?? 'unknown'}: a standby was promoted`
      : `another database answers: ${history.database} instead of ${before.database}`;
  }

  compareSource(source: EventSource): string | null {
    const before = this.source;
    this.source = source;
    if (!source.hasHostTriggers) this.#triggers = '';
    return before === null ? null : sourceChange(before, source);
  }

  compareTriggers(triggers: readonly TriggerState[]): string | null {
    const before = this.#triggers;
    this.#triggers = triggers.map(({ version }) => version).join();
    if (before === '' || before === this.#triggers) return null;
    return 'the triggers that write the event log were changed, so events may not have been logged';
  }
}

/** Why earlier positions are invalid after a read. */
export const historyLosses = {
  behind: 'the database is behind what was read from it before (restored from a backup?)',
  deleted:
    'rows of the event log were deleted before they were read, or could not be written (stale for longer than FLAGCAST_LOG_RETENTION?)',
  'set-back': 'the clock of the database was set back, so the times of events do not show what is new',
  'lost-commits': 'a crash of the database took back commits that had been delivered',
};
