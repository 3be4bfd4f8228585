import { setImmediate } from 'node:timers/promises';
import { promisify } from 'node:util';
import { gzip } from 'node:zlib';
import type { ApprovalsSnapshot, Snapshot } from '@flagcast/protocol';
import type { ApprovalsScope, Channel } from '../auth/authorization.js';
import { encodeCursor, type Position } from '../events/position.js';
import { ReadableLists, withScheduleState } from '../host/feature-lists.js';
import {
  approvalsStatement,
  canReadSteps,
  channelStatement,
  featureSeparator,
} from '../host/pending-change.js';
import { errorCode, isUndecodable } from '../postgres/errors.js';
import type { Queries, SessionSource } from '../postgres/session-pool.js';
import { refusesHiddenRows } from '../postgres/statements.js';
import { type EventSource, hidesTheSame } from '../reader/event-source.js';
import {
  isFlushed,
  positionColumns,
  type SnapshotPosition,
  toSnapshotPosition,
} from '../reader/snapshot-position.js';

export interface SnapshotSourceOptions {
  pool: SessionSource;
  /** What the reader reads; null before the first read. */
  source: () => EventSource | null;
  /** The reader's position; null before the first read. */
  position: () => Position | null;
  /** Default: those of this source only. */
  lists?: ReadableLists;
}

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

/** Whose approvals feed begins. */
export interface ApprovalsRequest {
  readonly user: { readonly id: string; readonly username: string };
  readonly scope: ApprovalsScope;
  /** The projects on whose requests the user may decide. */
  readonly mayDecide: readonly string[];
}

/** The lists of a snapshot by their keys, each as JSON text. */
type Lists = Readonly<Record<string, string>>;

/** The statement that reads the lists in one row. With `escapes` texts that cannot be decoded are escaped. */
type ListsStatement = (
  session: Queries,
  escapes: boolean,
  source: EventSource,
) => Promise<{ text: string; values: unknown[] }>;

interface Taken {
  readonly cursor: string;
  /** Null if the server cannot read the state of features. */
  readonly lists: Lists | null;
}

/**
 * Takes snapshots: the features, open pending changes and cursor of one channel at one moment. A snapshot shows
 * everything that was committed before its request. Requests that wait for another snapshot of the channel share the
 * next one.
 */
export class SnapshotSource {
  readonly #options: SnapshotSourceOptions;
  readonly #lists: ReadableLists;
  /** By channel, the snapshots that are being taken. They may not show what later requests need. */
  readonly #running = new Map<string, Promise<EncodedSnapshot | null>>();
  /** By channel, the snapshots that begin after those. */
  readonly #waiting = new Map<string, Promise<EncodedSnapshot | null>>();

  constructor(options: SnapshotSourceOptions) {
    this.#options = options;
    this.#lists = options.lists ?? new ReadableLists();
  }

  /** Null before the first read; rejects with the error of the database. */
  async take(channel: Channel): Promise<EncodedSnapshot | null> {
    const key = JSON.stringify([channel.projectId, channel.environmentId, channel.environmentKey]);
    const start = async (): Promise<EncodedSnapshot | null> => {
      this.#waiting.delete(key);
      const taken = this.#takeChannel(channel);
      const end = (): void => {
        if (this.#running.get(key) === taken) this.#running.delete(key);
      };
      void taken.then(end, end);
      this.#running.set(key, taken);
      return await taken;
    };
    const running = this.#running.get(key);
    const next = this.#waiting.get(key) ?? running?.then(start, start);
    if (next === undefined) return await start();
    this.#waiting.set(key, next);
    return await next;
  }

  /** The requests of an approvals feed, not shared. Null before the first read; rejects with the error of the database. */
  async takeApprovals({ user, scope, mayDecide }: ApprovalsRequest): Promise<EncodedSnapshot | null> {
    const { projectIds, environmentIds } = scope.parameters;
    const taken = await this.#take(async (session, escapes) => ({
      text: approvalsStatement({ escapes, hasSteps: await canReadSteps(session) }),
      values: [projectIds, environmentIds, user.id, user.username],
    }));
    if (taken === null) return null;
    const { cursor, lists } = taken;
    const head: Omit<ApprovalsSnapshot, 'pending_changes'> = {
      feed: 'approvals',
      scope: scope.id,
      cursor,
      embedded_state: lists !== null,
      may_decide: [...mayDecide],
    };
    return encode(head, lists ?? { pending_changes: '[]' });
  }

  async #takeChannel({ projectId, environmentId, environmentKey }: Channel): Promise<EncodedSnapshot | null> {
    const taken = await this.#take(async (session, escapes, source) => ({
      text: channelStatement(await this.#lists.read(session, source.lists), { escapes }),
      values: [projectId, environmentId],
    }));
    if (taken === null) return null;
    const { cursor, lists } = taken;
    const head: Omit<Snapshot, 'features' | 'pending_changes'> = {
      project_id: projectId,
      environment: environmentKey,
      environment_id: environmentId,
      cursor,
      embedded_state: lists !== null,
    };
    const { features = '', pending_changes = '[]' } = lists ?? {};
    return encode(head, { features: await joinFeatures(features), pending_changes });
  }

  async #take(statement: ListsStatement): Promise<Taken | null> {
    const [source, position] = [this.#options.source(), this.#options.position()];
    if (source === null || position === null) return null;
    return await this.#takeOf(source, position, statement).catch(async (error: unknown) => {
      // Row-level security refused it. Policies that show all rows may have been made since the source was found.
      const { pool } = this.#options;
      const isRefused = errorCode(error) === '42501' && source.policies === null;
      if (!isRefused || !(await hidesTheSame(pool, source))) throw error;
      const taken = await this.#takeOf({ ...source, policies: '' }, position, statement);
      if (!(await hidesTheSame(pool, source))) throw error;
      return taken;
    });
  }

  async #takeOf(source: EventSource, position: Position, statement: ListsStatement): Promise<Taken> {
    const take = async (escapes: boolean): Promise<Taken> =>
      await this.#options.pool.use(async (session) => {
        const toStatement = source.hasState ? async () => await statement(session, escapes, source) : null;
        return await takeSnapshot(session, toStatement, { source, position });
      });
    return await take(false).catch(async (error: unknown) => {
      if (!isUndecodable(error)) throw error;
      return await take(true);
    });
  }
}

/** `position` is the reader's, which is earlier than the snapshot. */
async function takeSnapshot(
  session: Queries,
  statement: (() => ReturnType<ListsStatement>) | null,
  { source, position }: { readonly source: EventSource; readonly position: Position },
): Promise<Taken> {
  const setting = source.policies !== null ? '' : `; SET LOCAL ${refusesHiddenRows}`;
  await session.query(`BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY${setting}`);
  const { rows } = await session.query<(string | null)[]>({
    rowMode: 'array',
    text: `SELECT ${positionColumns}`,
  });
  let lists: Lists | null = null;
  if (statement !== null) {
    const { text, values } = await statement();
    lists = (await session.query<Record<string, string>>(text, values)).rows[0] ?? {};
  }
  await session.query('COMMIT');
  if (source.guarantee !== 'exact') return { cursor: encodeCursor(position), lists };
  const shown = toSnapshotPosition(rows[0] ?? []);
  return { cursor: encodeCursor(await positionOf(session, shown, position)), lists };
}

/** The lists are JSON already; parsing them only to write them again would cost time. */
function encode(head: object, lists: Lists): EncodedSnapshot {
  const keys = Object.entries(lists).map(([key, json]) => `,"${key}":${json}`);
  return new EncodedSnapshot(Buffer.from(`${JSON.stringify(head).slice(0, -1)}${keys.join('')}}`));
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
  if (insertLsn !== null && !(await isFlushed(session, insertLsn))) return readerPosition;
  return { ...coverage, history: readerPosition.history };
}
