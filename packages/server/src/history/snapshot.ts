import type { Snapshot } from '@flagcast/protocol';
import type { Pool, PoolClient } from 'pg';
import type { Channel } from '../access/access.js';
import { encodeCursor, type Position, positionOfSnapshot } from '../events/position.js';
import { featureJson, isoUtc, positionColumns, toPosition, unseenRows } from '../reader/statements.js';

export interface SnapshotSourceOptions {
  pool: Pool;
  /** The view of events, as it is written in SQL. */
  view: string;
  /** Where the reader stands; null while it has not begun. */
  position: () => Position | null;
}

/** How often, and how many milliseconds apart, the log is asked whether it is on disk; it is flushed every 200 ms by default. */
const flushAttempts = 25;
const flushPauseMs = 20;

const channelStatement = `
SELECT
  (
    SELECT coalesce(json_agg(${featureJson} ORDER BY f.key, f.id), '[]')::text
    FROM public.features f
    LEFT JOIN public.feature_params p ON p.feature_id = f.id AND p.environment_id = $2::bigint
    WHERE f.project_id = $1::uuid
  ) AS features,
  (
    SELECT coalesce(json_agg(json_build_object(
      'id', c.id, 'requested_by', c.requested_by, 'created_at', ${isoUtc('c.created_at')},
      'reason', c.change #>> '{meta,reason}', 'change', c.change,
      'entities', (
        SELECT coalesce(json_agg(json_build_object(
          'entity', v.entity, 'entity_id', v.entity_id, 'feature_id', v.feature_id)), '[]')
        FROM flagcast.v_realtime_events v
        WHERE v.pending_change_id = c.id AND v.action = 'pending'
      )) ORDER BY c.created_at, c.id), '[]')::text
    FROM public.pending_changes c
    WHERE c.status = 'pending' AND c.project_id = $1::uuid AND c.environment_id = $2::bigint
  ) AS pending_changes`;

/** Takes snapshots: features, open pending changes and the cursor of one channel, all of one moment. */
export class SnapshotSource {
  readonly #options: SnapshotSourceOptions;
  readonly #underWay = new Map<string, Promise<string>>();

  constructor(options: SnapshotSourceOptions) {
    this.#options = options;
  }

  /**
   * The snapshot as JSON text. Who asks while an equal one is being taken shares it: what was
   * committed since comes with the events after its cursor. Null while the reader has not begun; rejects with what the database throws.
   */
  async take(channel: Channel): Promise<string | null> {
    const from = this.#options.position();
    if (from === null) return null;
    const key = JSON.stringify([channel.projectId, channel.environmentId]);
    const shared = this.#underWay.get(key);
    if (shared !== undefined) return await shared;
    const taking = this.#take(channel, from);
    this.#underWay.set(key, taking);
    try {
      return await taking;
    } finally {
      this.#underWay.delete(key);
    }
  }

  async #take(channel: Channel, from: Position): Promise<string> {
    const client = await this.#options.pool.connect();
    try {
      await client.query('BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY');
      const position = await this.#positionOf(client, from, channel);
      const { rows } = await client.query<{ features: string; pending_changes: string }>(channelStatement, [
        channel.projectId,
        channel.environmentId,
      ]);
      await client.query('COMMIT');
      const head: Omit<Snapshot, 'features' | 'pending_changes'> = {
        project_id: channel.projectId,
        environment: channel.environmentKey,
        environment_id: channel.environmentId,
        cursor: encodeCursor(await this.#whenDurable(client, position)),
      };
      const { features, pending_changes: pendingChanges } = rows[0] ?? {
        features: '[]',
        pending_changes: '[]',
      };
      client.release();
      // The lists come as JSON already; a large one is not parsed only to be written again.
      return `${JSON.stringify(head).slice(0, -1)},"features":${features},"pending_changes":${pendingChanges}}`;
    } catch (error) {
      // Its transaction may still be open.
      client.release(true);
      throw error;
    }
  }

  /**
   * Where a client with this transaction's snapshot stands: past what the reader had delivered before
   * it began, and past all transactions since that it shows already.
   */
  async #positionOf(client: PoolClient, from: Position, channel: Channel): Promise<UndurablePosition> {
    const { rows } = await client.query<(string | null)[]>({
      rowMode: 'array',
      // When they are too many for a cursor those of other channels are left out first.
      text: `SELECT ${positionColumns}, (
        SELECT coalesce(array_agg(xid::text ORDER BY is_own DESC, xid), '{}')::text
        FROM (
          SELECT v.xid, bool_or(v.project_id::text = $4 AND v.environment_id::text = $5) AS is_own
          FROM (${unseenRows(this.#options.view)}) v
          GROUP BY v.xid
        ) AS shown
      )`,
      values: [from.watermark.toString(), from.floor, [], channel.projectId, channel.environmentId],
    });
    const row = rows[0] ?? [];
    const { xmax, insertLsn } = toPosition(row);
    const shown = (row[4] ?? '{}').slice(1, -1).split(',');
    return { from, xmax, insertLsn, shown: shown.filter((xid) => xid !== '').map(BigInt) };
  }

  /** A cursor may only hold ids that a crash cannot take back, and the log reaches the disk by itself. */
  async #whenDurable(client: PoolClient, position: UndurablePosition): Promise<Position> {
    const { from, xmax, insertLsn, shown } = position;
    for (let attempt = 0; insertLsn !== null && attempt < flushAttempts; attempt += 1) {
      const { rows } = await client.query<{ flushed: boolean }>(
        `SELECT (pg_current_wal_flush_lsn() - '0/0') >= $1::numeric AS flushed`,
        [insertLsn.toString()],
      );
      if (rows[0]?.flushed === true) break;
      if (attempt === flushAttempts - 1) {
        return positionOfSnapshot(from, from.horizon, shown);
      }
      await client.query('SELECT pg_sleep($1)', [flushPauseMs / 1_000]);
    }
    return positionOfSnapshot(from, xmax, shown);
  }
}

interface UndurablePosition {
  readonly from: Position;
  readonly xmax: bigint;
  readonly insertLsn: bigint | null;
  /** Those of the channel first. */
  readonly shown: readonly bigint[];
}
