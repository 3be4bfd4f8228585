import { promisify } from 'node:util';
import { gzip } from 'node:zlib';
import type { Snapshot } from '@flagcast/protocol';
import type { Channel } from '../auth/table-authorization.js';
import { errorCode } from '../postgres/errors.js';
import type { Queries, SessionSource } from '../postgres/session-pool.js';
import { encodeCursor, type Position } from '../events/position.js';
import { channelStatement } from '../host/feature-state.js';
import type { EventSource } from '../reader/event-source.js';
import { positionColumns, toSnapshotPosition } from '../reader/log-statements.js';

export interface SnapshotSourceOptions {
  pool: SessionSource;
  /** What the reader reads; null while it has not begun. */
  source: () => EventSource | null;
  /** Where the reader stands; null while it has not begun. */
  position: () => Position | null;
}

/** How often, and how many milliseconds apart, the log is asked whether it is on disk; it is flushed every 200 ms by default. */
const flushAttempts = 25;
const flushPauseMs = 20;

/** How long a snapshot is kept after it was asked for last, in milliseconds, and how many bytes are kept in all. */
const keepMs = 10_000;
const maxKeptBytes = 33_554_432;

const compress = promisify(gzip);

/** A snapshot as it is sent, one object for all equal requests. */
export class EncodedSnapshot {
  /** JSON. */
  readonly bytes: Buffer;
  #gzipped: Promise<Buffer> | null = null;

  constructor(bytes: Buffer) {
    this.bytes = bytes;
  }

  /** The JSON compressed with gzip, once. */
  async gzipped(): Promise<Buffer> {
    this.#gzipped ??= compress(this.bytes);
    return await this.#gzipped;
  }
}

interface KeptSnapshot {
  readonly snapshot: EncodedSnapshot;
  /** The history that its cursor belongs to. */
  readonly history: string;
  /** The transactions that it shows, as PostgreSQL writes a snapshot. */
  readonly transactions: string;
  expiresAtMs: number;
}

/** What takes the snapshots of one channel. */
interface ChannelQueue {
  running: Promise<EncodedSnapshot | null>;
  /** For the requests that came while `running` was under way. */
  next: Promise<EncodedSnapshot | null> | null;
}

/**
 * Takes snapshots: features, open pending changes and the cursor of one channel, all of one moment. Each shows what was
 * committed when it was asked for. Requests that wait for a snapshot share the next one, and the one before serves for
 * as long as no transaction has ended in the database.
 */
export class SnapshotSource {
  readonly #options: SnapshotSourceOptions;
  readonly #queues = new Map<string, ChannelQueue>();
  /** By channel, the one that was asked for last at the end. */
  readonly #kept = new Map<string, KeptSnapshot>();
  #timer: NodeJS.Timeout | null = null;

  constructor(options: SnapshotSourceOptions) {
    this.#options = options;
  }

  /** Null while the reader has not begun; rejects with what the database throws. */
  async take(channel: Channel): Promise<EncodedSnapshot | null> {
    const key = JSON.stringify([channel.projectId, channel.environmentId, channel.environmentKey]);
    const queue = this.#queues.get(key);
    const take = async (): Promise<EncodedSnapshot | null> => await this.#takeOrReuse(key, channel);
    if (queue !== undefined) {
      // The one under way may not show what was committed since it began.
      queue.next ??= queue.running.then(take, take);
      return await queue.next;
    }
    const started: ChannelQueue = { running: take(), next: null };
    this.#queues.set(key, started);
    void this.#work(key, started);
    return await started.running;
  }

  async #work(key: string, queue: ChannelQueue): Promise<void> {
    for (;;) {
      await queue.running.catch(() => undefined);
      if (queue.next === null) break;
      queue.running = queue.next;
      queue.next = null;
    }
    this.#queues.delete(key);
  }

  async #takeOrReuse(key: string, channel: Channel): Promise<EncodedSnapshot | null> {
    const from = this.#options.position();
    const source = this.#options.source();
    if (from === null || source === null) return null;
    const kept = this.#kept.get(key);
    this.#kept.delete(key);
    if (kept?.history === from.history && (await this.#transactions()) === kept.transactions) {
      this.#keep(key, kept);
      return kept.snapshot;
    }
    const { text, transactions } = await this.#take(channel, from, source);
    const snapshot = new EncodedSnapshot(Buffer.from(text));
    if (transactions !== null)
      this.#keep(key, { snapshot, history: from.history, transactions, expiresAtMs: 0 });
    return snapshot;
  }

  /** The transactions that are visible now. */
  async #transactions(): Promise<string | null> {
    const { rows } = await this.#options.pool.query<{ transactions: string }>(
      'SELECT pg_current_snapshot()::text AS transactions',
    );
    return rows[0]?.transactions ?? null;
  }

  #keep(key: string, kept: KeptSnapshot): void {
    kept.expiresAtMs = performance.now() + keepMs;
    this.#kept.set(key, kept);
    let keptBytes = 0;
    for (const { snapshot } of this.#kept.values()) keptBytes += snapshot.bytes.length;
    for (const [oldest, { snapshot }] of this.#kept) {
      if (keptBytes <= maxKeptBytes) break;
      this.#kept.delete(oldest);
      keptBytes -= snapshot.bytes.length;
    }
    this.#timer ??= setTimeout(() => this.#dropExpired(), keepMs).unref();
  }

  #dropExpired(): void {
    this.#timer = null;
    const nowMs = performance.now();
    for (const [key, { expiresAtMs }] of this.#kept) {
      if (expiresAtMs <= nowMs) this.#kept.delete(key);
    }
    if (this.#kept.size > 0) this.#timer = setTimeout(() => this.#dropExpired(), keepMs).unref();
  }

  async #take(channel: Channel, from: Position, source: EventSource): Promise<TakenSnapshot> {
    try {
      return await this.#takeAs(channel, from, source, false);
    } catch (error) {
      if (!isUndecodable(error)) throw error;
      return await this.#takeAs(channel, from, source, true);
    }
  }

  async #takeAs(
    channel: Channel,
    from: Position,
    source: EventSource,
    escapes: boolean,
  ): Promise<TakenSnapshot> {
    return await this.#options.pool.use(async (client) => {
      await client.query('BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY');
      const row = await this.#position(client);
      const shown = source.guarantee === 'exact' ? toSnapshotPosition(row) : null;
      const [transactions = null, insertLsn = null] = row;
      const lists = source.hasState ? await this.#lists(client, channel, escapes) : noLists;
      await client.query('COMMIT');
      const head: Omit<Snapshot, 'features' | 'pending_changes'> = {
        project_id: channel.projectId,
        environment: channel.environmentKey,
        environment_id: channel.environmentId,
        cursor: encodeCursor(await this.#whenDurable(client, from, shown)),
        embedded_state: source.hasState,
      };
      // The lists come as JSON already; a large one is not parsed only to be written again.
      const { features, pending_changes: pendingChanges } = lists;
      return {
        text: `${JSON.stringify(head).slice(0, -1)},"features":${features},"pending_changes":${pendingChanges}}`,
        // A replica does not list what is in flight: what has ended there is not known.
        transactions: insertLsn === null ? null : transactions,
      };
    });
  }

  async #lists(client: Queries, channel: Channel, escapes: boolean): Promise<ChannelLists> {
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
  async #position(client: Queries): Promise<readonly (string | null)[]> {
    const { rows } = await client.query<(string | null)[]>({
      rowMode: 'array',
      text: `SELECT ${positionColumns}`,
    });
    return rows[0] ?? [];
  }

  /**
   * The position of the cursor. It may only hold ids that a crash cannot take back: the write-ahead log reaches the disk
   * by itself; where it does not in time, the cursor is the reader's, which stood there before the snapshot.
   */
  async #whenDurable(
    client: Queries,
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

interface TakenSnapshot {
  /** JSON. */
  readonly text: string;
  /** The transactions that it shows; null where that cannot be compared later. */
  readonly transactions: string | null;
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
