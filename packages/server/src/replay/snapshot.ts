import { setImmediate } from 'node:timers/promises';
import { promisify } from 'node:util';
import { gzip } from 'node:zlib';
import type { ApprovalsSnapshot, Snapshot } from '@flagcast/protocol';
import type { ApprovalsScope } from '../auth/approvals-scope.js';
import type { Channel } from '../auth/authorization.js';
import { encodeCursor, type Position } from '../events/position.js';
import { readListColumns, withScheduleState } from '../host/feature-lists.js';
import {
  approvalsStatement,
  canReadSteps,
  channelStatement,
  featureSeparator,
} from '../host/pending-change.js';
import { isUndecodable } from '../postgres/errors.js';
import type { Queries, SessionSource } from '../postgres/session-pool.js';
import type { EventSource } from '../reader/event-source.js';
import { positionColumns, type SnapshotPosition, toSnapshotPosition } from '../reader/log-statements.js';

export interface SnapshotSourceOptions {
  pool: SessionSource;
  /** What the reader reads; null before the first read. */
  source: () => EventSource | null;
  /** The reader's position; null before the first read. */
  position: () => Position | null;
}

/** How often, and at what interval in milliseconds, a flush of the write-ahead log is awaited. It comes every 200 ms. */
const flushAttempts = 25;
const flushPauseMs = 20;
/** How long an unused snapshot is kept, in milliseconds, and how many bytes of snapshots. */
const keepMs = 10_000;
const maxKeptBytes = 33_554_432;

const compress = promisify(gzip);

/** A snapshot as JSON, shared by all responses that send it. */
export class EncodedSnapshot {
  readonly bytes: Buffer;
  #gzipped: Promise<Buffer> | null = null;

  constructor(bytes: Buffer) {
    this.bytes = bytes;
  }

  async gzipped(): Promise<Buffer> {
    this.#gzipped ??= compress(this.bytes);
    return await this.#gzipped;
  }
}

interface KeptSnapshot {
  readonly snapshot: EncodedSnapshot;
  /** The history of its cursor. */
  readonly history: string;
  /** The transactions that it shows, as pg_current_snapshot() returns them; null if they cannot be compared later. */
  readonly transactions: string | null;
}

interface ChannelQueue {
  running: Promise<EncodedSnapshot | null>;
  /** Shared by the requests that came after `running` had started, which may not show what they need. */
  next: Promise<EncodedSnapshot | null> | null;
}

/** Whose approvals feed begins. */
export interface ApprovalsRequest {
  readonly user: { readonly id: string; readonly username: string };
  readonly scope: ApprovalsScope;
  /** The projects on whose requests the user may decide. */
  readonly mayDecide: readonly string[];
}

/**
 * Takes snapshots: the features, open pending changes and cursor of one channel at one moment. A snapshot shows
 * everything that was committed before its request. Waiting requests share the next snapshot. The last one is reused
 * while no transaction has ended in the database.
 */
export class SnapshotSource {
  readonly #options: SnapshotSourceOptions;
  readonly #queues = new Map<string, ChannelQueue>();
  /** By channel, the most recently used one last. */
  readonly #kept = new Map<string, KeptSnapshot>();

  constructor(options: SnapshotSourceOptions) {
    this.#options = options;
  }

  /** Null before the first read; rejects with the error of the database. */
  async take(channel: Channel): Promise<EncodedSnapshot | null> {
    const key = JSON.stringify([channel.projectId, channel.environmentId, channel.environmentKey]);
    const take = async (): Promise<EncodedSnapshot | null> => await this.#takeOrReuse(key, channel);
    const queue = this.#queues.get(key);
    if (queue !== undefined) {
      queue.next ??= queue.running.then(take, take);
      return await queue.next;
    }
    const started: ChannelQueue = { running: take(), next: null };
    this.#queues.set(key, started);
    void this.#work(key, started);
    return await started.running;
  }

  /** The requests of an approvals feed, not shared. Null before the first read; rejects with the error of the database. */
  async takeApprovals(request: ApprovalsRequest): Promise<EncodedSnapshot | null> {
    const [source, position] = [this.#options.source(), this.#options.position()];
    if (source === null || position === null) return null;
    const { snapshot } = await this.#take({ content: approvalsContent(request), source, position });
    return snapshot;
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
    const [source, position] = [this.#options.source(), this.#options.position()];
    if (source === null || position === null) return null;
    const kept = this.#kept.get(key);
    const isCurrent =
      kept?.history === position.history && kept.transactions === (await this.#transactions());
    const snapshot = isCurrent
      ? kept
      : await this.#take({ content: channelContent(channel), source, position });
    this.#keep(key, snapshot);
    return snapshot.snapshot;
  }

  /** The transactions that are visible now. */
  async #transactions(): Promise<string | undefined> {
    const { rows } = await this.#options.pool.query<{ transactions: string }>(
      'SELECT pg_current_snapshot()::text AS transactions',
    );
    return rows[0]?.transactions;
  }

  #keep(key: string, snapshot: KeptSnapshot): void {
    this.#kept.delete(key);
    if (snapshot.transactions === null) return;
    // A copy, so that each use has a time-out of its own.
    const kept = { ...snapshot };
    this.#kept.set(key, kept);
    setTimeout(() => {
      if (this.#kept.get(key) === kept) this.#kept.delete(key);
    }, keepMs).unref();
    let bytes = 0;
    for (const each of this.#kept.values()) bytes += each.snapshot.bytes.length;
    for (const [oldest, each] of this.#kept) {
      if (bytes <= maxKeptBytes) break;
      this.#kept.delete(oldest);
      bytes -= each.snapshot.bytes.length;
    }
  }

  async #take(request: SnapshotRequest): Promise<KeptSnapshot> {
    const take = async (escapes: boolean): Promise<KeptSnapshot> =>
      await this.#options.pool.use(async (session) => await takeSnapshot(session, request, escapes));
    return await take(false).catch(async (error: unknown) => {
      if (!isUndecodable(error)) throw error;
      return await take(true);
    });
  }
}

/** What a snapshot contains. */
interface SnapshotContent {
  /** The JSON around the lists. */
  head(cursor: string, embeddedState: boolean): object;
  /** The lists by their keys, each as JSON text. */
  readonly noLists: Readonly<Record<string, string>>;
  /** Reads the lists in one row. With `escapes` texts that cannot be decoded are escaped. */
  statement(session: Queries, escapes: boolean): Promise<SnapshotStatement>;
  /** The lists of that row, each as JSON text. */
  finish?(lists: Readonly<Record<string, string>>): Promise<Readonly<Record<string, string>>>;
}

interface SnapshotStatement {
  readonly text: string;
  readonly values: unknown[];
}

interface SnapshotRequest {
  readonly content: SnapshotContent;
  readonly source: EventSource;
  /** The reader's position, which is earlier than the snapshot. */
  readonly position: Position;
}

/** `escapes`: escapes text that cannot be decoded. */
async function takeSnapshot(
  session: Queries,
  { content, source, position }: SnapshotRequest,
  escapes: boolean,
): Promise<KeptSnapshot> {
  await session.query('BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY');
  const { rows } = await session.query<(string | null)[]>({
    rowMode: 'array',
    text: `SELECT ${positionColumns}`,
  });
  const [row = []] = rows;
  const [transactions = null, insertLsn = null] = row;
  let lists: Readonly<Record<string, string>> | undefined;
  if (source.hasState) {
    const { text: statement, values } = await content.statement(session, escapes);
    [lists] = (await session.query<Record<string, string>>(statement, values)).rows;
  }
  await session.query('COMMIT');
  const shown = source.guarantee === 'exact' ? toSnapshotPosition(row) : null;
  const cursor = encodeCursor(shown === null ? position : await positionOf(session, shown, position));
  if (lists !== undefined) lists = (await content.finish?.(lists)) ?? lists;
  // The lists are JSON already; parsing them only to write them again would cost time.
  const keys = Object.entries(lists ?? content.noLists).map(([key, json]) => `,"${key}":${json}`);
  const text = `${JSON.stringify(content.head(cursor, source.hasState)).slice(0, -1)}${keys.join('')}}`;
  return {
    snapshot: new EncodedSnapshot(Buffer.from(text)),
    history: position.history,
    // A replica does not list transactions in flight, so it is unknown which have ended.
    transactions: insertLsn === null ? null : transactions,
  };
}

function channelContent({ projectId, environmentId, environmentKey }: Channel): SnapshotContent {
  return {
    head: (cursor, embeddedState): Omit<Snapshot, 'features' | 'pending_changes'> => ({
      project_id: projectId,
      environment: environmentKey,
      environment_id: environmentId,
      cursor,
      embedded_state: embeddedState,
    }),
    noLists: { features: '[]', pending_changes: '[]' },
    statement: async (session, escapes) => ({
      // Not those that the reader found: while another server reads, it does not look.
      text: channelStatement(await readListColumns(session), { escapes }),
      values: [projectId, environmentId],
    }),
    finish: async (lists) => ({ ...lists, features: await joinFeatures(lists['features'] ?? '') }),
  };
}

/** For how long to compute without a pause, in milliseconds: thousands of features can have schedules. */
const sliceMs = 5;

/** The features of `channelStatement` as a JSON list. */
async function joinFeatures(texts: string): Promise<string> {
  if (texts === '') return '[]';
  const features: string[] = [];
  let pauseAtMs = performance.now() + sliceMs;
  for (const text of texts.split(featureSeparator)) {
    features.push(withScheduleState(text));
    if (performance.now() < pauseAtMs) continue;
    await setImmediate();
    pauseAtMs = performance.now() + sliceMs;
  }
  return `[${features.join(',')}]`;
}

function approvalsContent({ user, scope, mayDecide }: ApprovalsRequest): SnapshotContent {
  const { projectIds, environmentIds } = scope.parameters;
  return {
    head: (cursor, embeddedState): Omit<ApprovalsSnapshot, 'pending_changes'> => ({
      feed: 'approvals',
      scope: scope.id,
      cursor,
      embedded_state: embeddedState,
      may_decide: [...mayDecide],
    }),
    noLists: { pending_changes: '[]' },
    statement: async (session, escapes) => ({
      text: approvalsStatement({ escapes, hasSteps: await canReadSteps(session) }),
      values: [projectIds, environmentIds, user.id, user.username],
    }),
  };
}

/**
 * The position that the snapshot shows. A cursor may only contain transactions that a crash cannot undo, so this
 * waits until the write-ahead log is flushed; after a time-out it is the reader's position. On a replica some events of
 * the last moments may be delivered again.
 */
async function positionOf(
  session: Queries,
  { coverage, insertLsn }: SnapshotPosition,
  readerPosition: Position,
): Promise<Position> {
  for (let attempt = 0; insertLsn !== null; attempt += 1) {
    const { rows } = await session.query<{ flushed: boolean }>(
      `SELECT (pg_current_wal_flush_lsn() - '0/0') >= $1::numeric AS flushed`,
      [insertLsn.toString()],
    );
    if (rows[0]?.flushed === true) break;
    if (attempt === flushAttempts - 1) return readerPosition;
    await session.query('SELECT pg_sleep($1)', [flushPauseMs / 1_000]);
  }
  return { ...coverage, history: readerPosition.history };
}
