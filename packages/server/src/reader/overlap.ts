import { randomUUID } from 'node:crypto';
import { type FlagEvent, hashedId, type ReadState } from '../events/event.js';
import type { Coverage } from '../events/position.js';
import { requestEntities } from '../host/pending-change.js';
import { isoUtc, isoUtcInRange } from '../host/sql-expressions.js';
import { eventReader, featureOfRow, type LogFeatures, requestOfStep } from './log-statements.js';

/** How far a read without an event log looks back by default. */
export const defaultOverlapMs = 60_000;

/**
 * The events of the host's tables that are younger than $1, for FROM: the audit log; all open requests, which
 * `is_open_request` marks; and the decisions on those requests $2 that were open at the read before. The tables do
 * not record when a request was cancelled, so a decision is found by its request being open no more.
 */
export const tablesRelation = `(
  SELECT 'audit' AS source, a.id::text AS row_id, a.project_id::text AS project_id,
    a.environment_id::text AS environment_id, e.key::text AS environment_key, a.entity::text AS entity,
    coalesce(a.entity_id, a.feature_id)::text AS entity_id,
    CASE a.action WHEN 'create' THEN 'created' WHEN 'update' THEN 'updated' WHEN 'delete' THEN 'deleted'
      ELSE a.action::text END AS action,
    a.created_at, a.feature_id::text AS feature_id, NULL::text AS pending_change_id,
    coalesce(nullif(a.username, ''), a.actor)::text AS actor, false AS is_open_request
  FROM public.audit_log a
  LEFT JOIN public.environments e ON e.id = a.environment_id
  WHERE a.created_at > $1::timestamptz
  UNION ALL
  SELECT 'pending', c.id::text, c.project_id::text, c.environment_id::text, e.key::text, r.entity,
    r.entity_id::text, c.status::text,
    CASE c.status
      WHEN 'pending' THEN r.created_at
      WHEN 'approved' THEN coalesce(c.approved_at, statement_timestamp())
      WHEN 'rejected' THEN coalesce(c.rejected_at, statement_timestamp())
      ELSE statement_timestamp()
    END,
    r.feature_id::text, c.id::text,
    CASE c.status WHEN 'pending' THEN c.requested_by WHEN 'approved' THEN c.approved_by
      WHEN 'rejected' THEN c.rejected_by END::text,
    c.status = 'pending'
  FROM public.pending_changes c
  JOIN ${requestEntities} r ON r.pending_change_id = c.id
  LEFT JOIN public.environments e ON e.id = c.environment_id
  WHERE c.status = 'pending' OR c.id::text = ANY ($2::text[])
)`;

/**
 * Where a read begins: so long ago ($1, in milliseconds), or when the oldest open transaction of this database began, as far
 * as this role sees. On a replica the transactions are not visible, so it is the time of what was replayed last.
 */
export const sinceStatement = `
SELECT ${isoUtcInRange(`least(
  (SELECT min(xact_start) FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid()
      AND backend_type NOT IN ('autovacuum worker', 'walsender')),
  CASE WHEN pg_is_in_recovery() THEN least(clock_timestamp(), pg_last_xact_replay_timestamp()) ELSE clock_timestamp() END
) - $1::float8 * interval '1 millisecond'`)}`;

const order = `v.created_at, (v.source = 'pending' AND v.action <> 'pending'), length(v.row_id), v.row_id, v.action,
  v.entity, v.entity_id`;

/**
 * The events of a source without transaction ids, as the event log has them, and `is_open_request`: $1 since when, $2
 * the requests that were open at the last read.
 */
export function overlapStatement(
  relation: string,
  { hasState, lists }: Pick<LogFeatures, 'hasState' | 'lists'>,
): string {
  return `
SELECT NULL, 0, v.source, v.row_id, v.project_id, v.environment_id, v.environment_key, v.entity, v.entity_id, v.action,
  ${isoUtc('v.created_at')}, v.feature_id, v.pending_change_id, v.actor, NULL,
  ${hasState ? featureOfRow('v', { columns: lists, order }) : 'NULL'},
  ${hasState ? requestOfStep('v', order) : 'NULL'},
  v.is_open_request::text
FROM ${relation} v
WHERE v.created_at <= 'infinity'::timestamptz
ORDER BY ${order}`;
}

/** Start times of transactions can be earlier by less than this, in milliseconds. */
const clockToleranceMs = 1_000;

/** An event as a read found it. */
interface FoundEvent {
  readonly event: FlagEvent;
  readonly isOpenRequest: boolean;
}

/**
 * Tracks what has been delivered of a source without transaction ids. Each read looks back by the overlap and drops
 * what was delivered. So it finds an event that is committed within the overlap after its created_at, or while an older
 * transaction is visibly open. An event that is committed later is missed.
 *
 * Positions count the batches of this process: a client that returns to it resumes from memory, any other one gets a
 * resync.
 */
export class OverlapProgress {
  /** Only this process understands its positions. */
  readonly history = randomUUID().slice(0, 12);
  /** The delivered events that a read can find again: their ids and created_at. */
  readonly #delivered = new Map<string, string>();
  /** The open requests of the last read, with one event for each entity. */
  #open = new Map<string, FlagEvent>();
  /**
   * How far the next read looks back, as the last one found it: a transaction that was open then may have been
   * committed since. Null before the first read.
   */
  from: string | null = null;
  #batches = 1n;
  #hasBegun = false;

  get remembered(): number {
    return this.#delivered.size + this.#open.size;
  }

  /** The requests that were open at the last read. */
  get openRequests(): string[] {
    return [...new Set([...this.#open.values()].map(({ rowId }) => rowId))];
  }

  /** Less than the xmax of `position`, which covers all batches so far. */
  get snapshotXmax(): bigint {
    return this.#batches - 1n;
  }

  /** The coverage that cursors get. */
  get position(): Coverage {
    return { xmin: this.#batches, xmax: this.#batches, listed: 'open', xids: [] };
  }

  get state(): ReadState {
    return { coverage: this.position, durable: this.position, partial: [], durablePartial: [] };
  }

  /**
   * Whether a read looks back further than an earlier one: the clock of the database was set back. Then the next events
   * have times that this progress counts as delivered and forgotten.
   */
  isSetBack(since: string): boolean {
    return this.from !== null && Date.parse(since) < Date.parse(this.from) - clockToleranceMs;
  }

  /** Records a read and returns its new events; the first read has none. The next read looks back to `since`. */
  absorb(rows: readonly (string | null)[][], since: string, hasState: boolean): FlagEvent[] {
    const toEvent = eventReader({ hasState });
    const found = rows.map((row) => toFoundEvent(toEvent(row), row.at(-1) === 'true', this.#batches));
    const openBefore = this.#open;
    const open = found.filter(({ isOpenRequest }) => isOpenRequest).map(({ event }) => event);
    this.#open = new Map(open.map((event) => [event.id, event]));
    const fresh = found
      .filter(({ event, isOpenRequest }) =>
        isOpenRequest ? !openBefore.has(event.id) : !this.#delivered.has(event.id),
      )
      .map(({ event }) => event);
    const named = new Set(found.map(({ event }) => event.rowId));
    // A request that disappeared without a decision was deleted.
    const gone = [...openBefore.values()].filter(({ rowId }) => !named.has(rowId));
    fresh.push(...gone.map((event) => asCancelled(event, this.#batches)));
    // Never earlier: older events have been forgotten.
    const from = this.from === null || since > this.from ? since : this.from;
    this.from = from;
    for (const [id, createdAt] of this.#delivered) if (createdAt <= from) this.#delivered.delete(id);
    // Afterwards, because times after the year 9999 do not sort as texts, and each read finds such rows.
    for (const { event, isOpenRequest } of found) {
      if (!isOpenRequest) this.#delivered.set(event.id, event.createdAt);
    }
    const hadBegun = this.#hasBegun;
    this.#hasBegun = true;
    if (!hadBegun || fresh.length === 0) return [];
    this.#batches += 1n;
    return fresh;
  }
}

function toFoundEvent(event: FlagEvent, isOpenRequest: boolean, xid: bigint): FoundEvent {
  const { source, rowId, projectId, environmentId, entity, entityId, action, createdAt } = event;
  const names = [source, rowId, projectId, environmentId, entity, entityId, action, createdAt];
  return { isOpenRequest, event: { ...event, id: hashedId(names), xid } };
}

function asCancelled(event: FlagEvent, batch: bigint): FlagEvent {
  const createdAt = new Date().toISOString().replace('Z', '000Z');
  return {
    ...event,
    id: hashedId([event.id, 'cancelled', createdAt]),
    xid: batch,
    action: 'cancelled',
    createdAt,
    actor: null,
    // The request is gone, or the read did not return it.
    pendingChangeJson: event.pendingChangeJson === undefined ? undefined : null,
  };
}
