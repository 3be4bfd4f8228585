import type { Snapshot } from '@flagcast/protocol';
import type { Pool, PoolClient } from 'pg';
import type { Channel } from '../access/access.js';
import { encodeCursor, type Position, positionOfSnapshot } from '../events/position.js';
import type { EventView } from '../reader/event-view.js';
import {
  channelStatement,
  eventColumns,
  positionColumns,
  toEvent,
  toPosition,
  unseenRows,
} from '../reader/statements.js';

export interface SnapshotSourceOptions {
  pool: Pool;
  /** What the reader reads; null while it has not begun. */
  view: () => EventView | null;
  /** Where the reader stands; null while it has not begun. */
  position: () => Position | null;
}

/** How often, and how many milliseconds apart, the log is asked whether it is on disk; it is flushed every 200 ms by default. */
const flushAttempts = 25;
const flushPauseMs = 20;

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
    const view = this.#options.view();
    if (from === null || view === null) return null;
    const key = JSON.stringify([channel.projectId, channel.environmentId]);
    const shared = this.#underWay.get(key);
    if (shared !== undefined) return await shared;
    const taking = this.#take(channel, from, view);
    this.#underWay.set(key, taking);
    try {
      return await taking;
    } finally {
      this.#underWay.delete(key);
    }
  }

  async #take(channel: Channel, from: Position, view: EventView): Promise<string> {
    const client = await this.#options.pool.connect();
    try {
      await client.query('BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY');
      const position = await (from.byTime
        ? this.#positionByTime(client, view, from, channel)
        : this.#positionOf(client, view, from, channel));
      const lists = view.hasState ? await this.#lists(client, view, channel) : noLists;
      await client.query('COMMIT');
      const head: Omit<Snapshot, 'features' | 'pending_changes'> = {
        project_id: channel.projectId,
        environment: channel.environmentKey,
        environment_id: channel.environmentId,
        cursor: encodeCursor(await this.#whenDurable(client, position)),
        embedded_state: view.hasState,
      };
      client.release();
      // The lists come as JSON already; a large one is not parsed only to be written again.
      const { features, pending_changes: pendingChanges } = lists;
      return `${JSON.stringify(head).slice(0, -1)},"features":${features},"pending_changes":${pendingChanges}}`;
    } catch (error) {
      // Its transaction may still be open.
      client.release(true);
      throw error;
    }
  }

  async #lists(client: PoolClient, view: EventView, channel: Channel): Promise<ChannelLists> {
    const { rows } = await client.query<ChannelLists>(channelStatement(view), [
      channel.projectId,
      channel.environmentId,
    ]);
    return rows[0] ?? noLists;
  }

  /**
   * Where a client with this transaction's snapshot stands: past what the reader had delivered before
   * it began, and past all transactions since that it shows already.
   */
  async #positionOf(
    client: PoolClient,
    view: EventView,
    from: Position,
    channel: Channel,
  ): Promise<UndurablePosition> {
    const { rows } = await client.query<(string | null)[]>({
      rowMode: 'array',
      // When they are too many for a cursor those of other channels are left out first.
      text: `SELECT ${positionColumns}, (
        SELECT coalesce(array_agg(xid::text ORDER BY is_own DESC, xid), '{}')::text
        FROM (
          SELECT v.xid, bool_or(v.project_id::text = $4 AND v.environment_id::text = $5) AS is_own
          FROM (${unseenRows(view)}) v
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

  /** The same where the view tells no transaction ids: past the events that it shows already. */
  async #positionByTime(
    client: PoolClient,
    view: EventView,
    from: Position,
    channel: Channel,
  ): Promise<UndurablePosition> {
    const { rows } = await client.query<(string | null)[]>({
      rowMode: 'array',
      types: { getTypeParser: () => (value: string | Buffer) => value },
      text: `SELECT ${positionColumns}, ${eventColumns({ hasState: false })}
        FROM (SELECT 1) AS always
        LEFT JOIN (
          ${unseenRows(view)} AND v.project_id::text = $4 AND v.environment_id::text = $5
        ) v ON true
        ORDER BY v.created_at DESC`,
      values: ['0', from.floor, [], channel.projectId, channel.environmentId],
    });
    const { xmax, insertLsn } = toPosition(rows[0] ?? []);
    const events = rows.map((row) => toEvent(row, view)).filter((event) => event !== null);
    return { from, xmax, insertLsn, shown: events.map(({ mark }) => mark) };
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

/** Each as JSON text. */
interface ChannelLists {
  readonly features: string;
  readonly pending_changes: string;
}

/** Of a database that has no tables of features, or does not let us read them. */
const noLists: ChannelLists = { features: '[]', pending_changes: '[]' };

interface UndurablePosition {
  readonly from: Position;
  readonly xmax: bigint;
  readonly insertLsn: bigint | null;
  /** Those of the channel first. */
  readonly shown: readonly bigint[];
}
