import type { Snapshot } from '@flagcast/protocol';
import type { Pool, PoolClient } from 'pg';
import type { Channel } from '../access/access.js';
import { errorCode } from '../database/error-code.js';
import { encodeCursor, type Position } from '../events/position.js';
import { channelStatement } from '../host/feature-state.js';
import type { EventSource } from '../reader/event-source.js';
import { positionColumns, toSnapshotPosition } from '../reader/log-statements.js';

export interface SnapshotSourceOptions {
  pool: Pool;
  /** What the reader reads; null while it has not begun. */
  source: () => EventSource | null;
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
   * The snapshot as JSON text. Requests that come while an equal one is being taken share it: what was committed since
   * comes with the events after its cursor. Null while the reader has not begun; rejects with what the database throws.
   */
  async take(channel: Channel): Promise<string | null> {
    const from = this.#options.position();
    const source = this.#options.source();
    if (from === null || source === null) return null;
    const key = JSON.stringify([channel.projectId, channel.environmentId]);
    const shared = this.#underWay.get(key);
    if (shared !== undefined) return await shared;
    const taking = this.#take(channel, from, source);
    this.#underWay.set(key, taking);
    try {
      return await taking;
    } finally {
      this.#underWay.delete(key);
    }
  }

  async #take(channel: Channel, from: Position, source: EventSource): Promise<string> {
    try {
      return await this.#takeAs(channel, from, source, false);
    } catch (error) {
      if (!isUndecodable(error)) throw error;
      return await this.#takeAs(channel, from, source, true);
    }
  }

  async #takeAs(channel: Channel, from: Position, source: EventSource, escapes: boolean): Promise<string> {
    const client = await this.#options.pool.connect();
    try {
      await client.query('BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY');
      const shown = source.guarantee === 'exact' ? await this.#position(client) : null;
      const lists = source.hasState ? await this.#lists(client, channel, escapes) : noLists;
      await client.query('COMMIT');
      const head: Omit<Snapshot, 'features' | 'pending_changes'> = {
        project_id: channel.projectId,
        environment: channel.environmentKey,
        environment_id: channel.environmentId,
        cursor: encodeCursor(await this.#whenDurable(client, from, shown)),
        embedded_state: source.hasState,
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

  async #lists(client: PoolClient, channel: Channel, escapes: boolean): Promise<ChannelLists> {
    const { rows } = await client.query<ChannelLists>(channelStatement({ escapes }), [
      channel.projectId,
      channel.environmentId,
    ]);
    return rows[0] ?? noLists;
  }

  /**
   * What this transaction's snapshot covers. A replica's does not list what is in flight, so there events of the last
   * moments may come again.
   */
  async #position(client: PoolClient): Promise<ReturnType<typeof toSnapshotPosition>> {
    const { rows } = await client.query<(string | null)[]>({
      rowMode: 'array',
      text: `SELECT ${positionColumns}`,
    });
    return toSnapshotPosition(rows[0] ?? []);
  }

  /**
   * The position of the cursor. It may only hold ids that a crash cannot take back: the write-ahead log reaches the disk
   * by itself; where it does not in time, the cursor is the reader's, which stood there before the snapshot.
   */
  async #whenDurable(
    client: PoolClient,
    from: Position,
    shown: ReturnType<typeof toSnapshotPosition> | null,
  ): Promise<Position> {
    if (shown === null) return from;
    const { coverage, insertLsn } = shown;
    for (let attempt = 0; insertLsn !== null; attempt += 1) {
      const { rows } = await client.query<{ flushed: boolean }>(
        `SELECT (pg_current_wal_flush_lsn() - '0/0') >= $1::numeric AS flushed`,
        [insertLsn.toString()],
      );
      if (rows[0]?.flushed === true) break;
      if (attempt === flushAttempts - 1) return from;
      await client.query('SELECT pg_sleep($1)', [flushPauseMs / 1_000]);
    }
    return { ...coverage, history: from.history };
  }
}

/** Each as JSON text. */
interface ChannelLists {
  readonly features: string;
  readonly pending_changes: string;
}

/** Of a database that has no tables of features, or does not let us read them. */
const noLists: ChannelLists = { features: '[]', pending_changes: '[]' };

/** character_not_in_repertoire, untranslatable_character. */
function isUndecodable(error: unknown): boolean {
  return ['22021', '22P05'].includes(errorCode(error) ?? '');
}
