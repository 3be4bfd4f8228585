import { createHash } from 'node:crypto';
import { isoUtc } from '../packages/server/dist/reader/statements.js';
import { plainKey } from './segment.js';

/** @import pg from 'pg' */
/** @import { ChaosChannel } from './writers.js' */

/**
 * An event as the database holds it. `committedMs`, `createdMs`: milliseconds since the epoch; a cancellation
 * has no `createdMs`.
 *
 * @typedef {{
 *   readonly id: string,
 *   readonly plainKey: string,
 *   readonly environmentId: string,
 *   readonly entityId: string,
 *   readonly action: string,
 *   readonly changeId: string | null,
 *   readonly committedMs: number,
 *   readonly createdMs: number | null,
 * }} CommittedEvent
 */

/** All that was committed: what every client is compared with. */
export class Ledger {
  /** @type {Map<string, CommittedEvent>} */
  byId = new Map();
  /** @type {Map<string, CommittedEvent[]>} by environment and plain key, in the order of their commits */
  #byPlainKey = new Map();
  /** @type {Map<string, CommittedEvent[]>} by environment, in the order of their commits */
  #byEnvironment = new Map();

  /** @param {readonly CommittedEvent[]} events */
  constructor(events) {
    for (const event of [...events].sort((one, other) => one.committedMs - other.committedMs)) {
      this.byId.set(event.id, event);
      append(this.#byPlainKey, `${event.environmentId} ${event.plainKey}`, event);
      append(this.#byEnvironment, event.environmentId, event);
    }
  }

  /** @param {ChaosChannel} channel */
  of({ environmentId }) {
    return this.#byEnvironment.get(environmentId) ?? [];
  }

  /**
   * Those that the plain dialect tells apart by nothing.
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
 * As the protocol names an event.
 *
 * @param {readonly string[]} identity
 */
export function eventId(...identity) {
  return createHash('sha256').update(JSON.stringify(identity)).digest('base64url').slice(0, 22);
}

/**
 * @param {pg.Client} client
 * @returns {Promise<Ledger>}
 */
export async function readLedger(client) {
  /**
   * @type {pg.QueryResult<{ source: string, event_id: string, environment_id: string, entity: string,
   *   entity_id: string, action: string, pending_change_id: string | null, timestamp: string,
   *   committed_ms: number, created_ms: number }>}
   */
  const { rows } = await client.query(`
    SELECT v.source, v.event_id, v.environment_id::text, v.entity, v.entity_id::text, v.action,
      v.pending_change_id::text, ${isoUtc('v.created_at')} AS timestamp,
      extract(epoch FROM v.created_at)::float8 * 1000 AS created_ms,
      extract(epoch FROM pg_xact_commit_timestamp((v.xid & 4294967295)::text::xid))::float8 * 1000 AS committed_ms
    FROM flagcast.v_realtime_events v`);
  return new Ledger(
    rows.map((row) => ({
      id: eventId(row.source, row.event_id, row.entity, row.entity_id, row.action),
      plainKey: plainKey(row),
      environmentId: row.environment_id,
      entityId: row.entity_id,
      action: row.action,
      changeId: row.pending_change_id,
      committedMs: row.committed_ms,
      createdMs: row.action === 'cancelled' ? null : row.created_ms,
    })),
  );
}

/**
 * The state of a channel, as a client's store has it: the flags with what can be set of them, and the open
 * requests.
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
