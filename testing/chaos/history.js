import { isoUtc } from '../../packages/server/dist/host/sql-expressions.js';
import { plainKey } from './segment.js';

/** @import pg from 'pg' */
/** @import { ChaosChannel } from './writers.js' */

/** Maximum number of rows that a read returns. */
const pageRows = 500;

/**
 * A row of the event log. `id`: its `seq`. `xid`: the transaction that wrote it. `committedMs`: commit time, in
 * milliseconds since the epoch.
 *
 * @typedef {{
 *   readonly id: string,
 *   readonly xid: number,
 *   readonly plainKey: string,
 *   readonly environmentId: string,
 *   readonly entityId: string,
 *   readonly action: string,
 *   readonly changeId: string | null,
 *   readonly committedMs: number,
 * }} CommittedEvent
 */

/** The committed events, which the checker compares with what each client received. */
export class History {
  /** @type {Map<string, CommittedEvent>} */
  byId = new Map();
  /** @type {Map<string, CommittedEvent[]>} by environment and plain key, in the order of their commits */
  #byPlainKey = new Map();
  /** @type {Map<string, CommittedEvent[]>} by environment, in the order of their commits */
  #byEnvironment = new Map();
  /** @type {CommittedEvent[][]} the transactions that do not fit into one page */
  #largeTransactions = [];

  /** @param {readonly CommittedEvent[]} events */
  constructor(events) {
    /** @type {Map<string, CommittedEvent[]>} */
    const transactions = new Map();
    for (const event of [...events].sort((one, other) => one.committedMs - other.committedMs)) {
      this.byId.set(event.id, event);
      append(transactions, String(event.xid), event);
      append(this.#byPlainKey, `${event.environmentId} ${event.plainKey}`, event);
      append(this.#byEnvironment, event.environmentId, event);
    }
    this.#largeTransactions = [...transactions.values()].filter(({ length }) => length >= pageRows);
  }

  /**
   * Whether a transaction that does not fit into one page was committed within `withinMs` before `atMs`. A page can end
   * within a transaction, whose remaining rows are then read after later events.
   *
   * @param {number} atMs
   * @param {number} withinMs
   */
  wasPaging(atMs, withinMs) {
    return this.#largeTransactions.some(([event]) => {
      const committedMs = event?.committedMs ?? 0;
      return committedMs <= atMs && committedMs >= atMs - withinMs;
    });
  }

  /** @param {ChaosChannel} channel */
  of({ environmentId }) {
    return this.#byEnvironment.get(environmentId) ?? [];
  }

  /**
   * Events that look the same in the plain dialect.
   *
   * @param {ChaosChannel} channel
   * @param {string} key
   */
  byPlainKey({ environmentId }, key) {
    return this.#byPlainKey.get(`${environmentId} ${key}`) ?? [];
  }
}

/**
 * @template Value
 * @param {Map<string, Value[]>} lists
 * @param {string} key
 * @param {Value} value
 */
function append(lists, key, value) {
  const list = lists.get(key);
  if (list === undefined) lists.set(key, [value]);
  else list.push(value);
}

/**
 * Reads the event log and the rows that retention has deleted from it.
 *
 * @param {pg.Client} client
 * @returns {Promise<History>}
 */
export async function readHistory(client) {
  /**
   * @type {pg.QueryResult<{ seq: string, xid: number, environment_id: string, entity_id: string, action: string,
   *   pending_change_id: string | null, timestamp: string, committed_ms: number }>}
   */
  const { rows } = await client.query(`
    SELECT l.seq::text, l.xid::float8 AS xid, l.environment_id, l.entity_id, l.action, l.pending_change_id,
      ${isoUtc('l.created_at')} AS timestamp,
      extract(epoch FROM pg_xact_commit_timestamp((l.xid & 4294967295)::text::xid))::float8 * 1000 AS committed_ms
    FROM (SELECT * FROM flagcast.event_log UNION ALL SELECT * FROM chaos.deleted_events) l
    WHERE l.source <> 'control'`);
  return new History(
    rows.map((row) => ({
      id: row.seq,
      xid: row.xid,
      plainKey: plainKey(row),
      environmentId: row.environment_id,
      entityId: row.entity_id,
      action: row.action,
      changeId: row.pending_change_id,
      committedMs: row.committed_ms,
    })),
  );
}

/**
 * The state of a channel as in a client's store: the flags' parameters and the ids of the open change requests.
 *
 * @typedef {{
 *   readonly features: readonly { readonly id: string, readonly enabled: boolean, readonly default_value: string }[],
 *   readonly pending: readonly string[],
 * }} ChannelContents
 */

/**
 * @param {pg.Client} client
 * @param {ChaosChannel} channel
 * @returns {Promise<ChannelContents>}
 */
export async function readContents(client, channel) {
  /** @type {pg.QueryResult<ChannelContents['features'][number]>} */
  const features = await client.query(
    `SELECT f.id, p.enabled, p.default_value FROM features f
     JOIN feature_params p ON p.feature_id = f.id AND p.environment_id = $2
     WHERE f.project_id = $1 ORDER BY f.id`,
    [channel.projectId, channel.environmentId],
  );
  /** @type {pg.QueryResult<{ id: string }>} */
  const pending = await client.query(
    `SELECT id FROM pending_changes WHERE environment_id = $1 AND status = 'pending' ORDER BY id`,
    [channel.environmentId],
  );
  return { features: features.rows, pending: pending.rows.map(({ id }) => id) };
}
