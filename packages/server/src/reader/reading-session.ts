import { errorCode, isOfData } from '../postgres/errors.js';
import type { OpenSession, Session } from '../postgres/session.js';
import { inTransaction } from '../postgres/statements.js';
import type { TriggerState } from '../host/host-triggers.js';
import { ascending, type Coverage } from '../events/position.js';
import { checkSource, type EventSource, EventSourceError, findReadable, readRights } from './event-source.js';
import type { ReadBounds } from './log-progress.js';
import {
  deletedXidOf,
  hasRows,
  historyStatement,
  isIncomplete,
  isQuiet,
  type LogRow,
  pageRows,
  type ReadMode,
  readStatement,
  plannerSettings,
  searchStatement,
  toLogRows,
} from './log-statements.js';
import { notifyChannel } from './listener.js';
import { overlapStatement, sinceStatement } from './overlap.js';
import {
  isFlushed,
  positionColumns,
  type SnapshotPosition,
  toSnapshotPosition,
} from './snapshot-position.js';

export interface History {
  readonly database: string;
  /** Null on a replica, which does not show it. */
  readonly timeline: string | null;
}

export interface ReadingSessionOptions {
  readonly openSession: OpenSession;
  readonly view: string | null;
  readonly queryTimeoutMs: number;
  /** The source on the connection before; null on the first one. */
  readonly before: EventSource | null;
}

/** The result of one read of the event log. */
export interface LogRead {
  readonly position: SnapshotPosition;
  readonly rows: readonly LogRow[];
  /** See `isQuiet`. */
  readonly isQuiet: boolean;
  /** See `deletedXidOf`. */
  readonly deletedXid: bigint;
  /** Null if it cannot have changed. */
  readonly history: History | null;
}

/** After a read that needed the mode `full`, so many others with rows begin with it. */
const fullReads = 16;
/** Deleting the rows of a restored dump takes long; in milliseconds. */
const adoptTimeoutMs = 300_000;

/** A session that reads events. Every method rejects with what the database throws. */
export class ReadingSession {
  readonly history: History;
  readonly source: EventSource;
  /** The state of the triggers before the source was read for the first time. */
  readonly triggers: readonly TriggerState[];
  readonly #client: Session;
  /** As `readRights` returned them when the source was found. */
  readonly #rights: string;
  /** Whether statements are prepared. Behind a pooler the next statement may run in another session. */
  readonly #keepsStatements: boolean;
  /** Whether each read returns its history, because it may change during the connection. */
  readonly #tellsHistory: boolean;
  isListening = false;
  /** By page size and mode. */
  readonly #readStatements = new Map<string, string>();
  /** How many reads with rows do not try the mode `short`. */
  #fullReadsLeft = 0;

  private constructor(
    client: Session,
    found: Pick<ReadingSession, 'history' | 'source' | 'triggers'> & { rights: string },
  ) {
    this.#client = client;
    this.#rights = found.rights;
    this.history = found.history;
    this.source = found.source;
    this.triggers = found.triggers;
    this.#keepsStatements = !client.isPooled;
    // A pooler can lead to another server, and a replica can be promoted, without ending the connection.
    this.#tellsHistory = client.isPooled || found.history.timeline === null;
  }

  static async open(options: ReadingSessionOptions): Promise<ReadingSession> {
    const { openSession, queryTimeoutMs } = options;
    const session = { applicationName: 'flagcast reader', values: 'text' } as const;
    const client = await openSession({ ...session, queryTimeoutMs });
    try {
      const answer = await client.query<[string, string | null]>({
        text: historyStatement,
        rowMode: 'array',
      });
      const [database = '', timeline = null] = answer.rows[0] ?? [];
      const history = { database, timeline };
      const rights = await readRights(client);
      const found = await findReadable(client, options.view, options.before);
      if (found.reason === 'event_log') {
        await adoptLog(client, async () => await openSession({ ...session, queryTimeoutMs: adoptTimeoutMs }));
        if (!client.isPooled) await client.query(plannerSettings);
      }
      const { triggers, ...checks } = await checkSource(client, found, !client.isPooled);
      const source = { ...found, ...checks };
      if (source.policies === null) await client.refuseHiddenRows();
      const reading = new ReadingSession(client, { history, source, triggers, rights });
      await reading.#plan('short');
      return reading;
    } catch (error) {
      client.discard();
      throw error;
    }
  }

  /** Calls back when the session has ended. */
  onceLost(callback: () => void): void {
    this.#client.once('end', callback);
  }

  /** Calls back for every notification. */
  onNotification(callback: () => void): void {
    this.#client.on('notification', ({ channel }) => {
      if (channel === notifyChannel) callback();
    });
  }

  /** Whether LISTEN works in this session: neither behind a pooler nor on a replica. */
  get canListen(): boolean {
    return !this.#tellsHistory;
  }

  /** Begins or ends to listen. A read afterwards finds what was not notified before. */
  async listen(isWanted: boolean): Promise<void> {
    if (this.isListening === isWanted) return;
    // True only while PostgreSQL certainly notifies.
    this.isListening = false;
    await this.#client.query(`${isWanted ? 'LISTEN' : 'UNLISTEN'} ${notifyChannel}`);
    this.isListening = isWanted;
  }

  /**
   * Checks what changes without an announcement. `isOutdated`: the source would be found in another form now, because
   * row-level security hides rows of other tables, its policies or the lists of features have changed, there is a log now,
   * or, where something could not be read, rights on the host's tables or their columns have changed.
   */
  async check(): Promise<{ readonly triggers: readonly TriggerState[]; readonly isOutdated: boolean }> {
    const { hasHostTriggers, hasState, hasEnvironments, hiddenTables, policies, lists, hasLog } = this.source;
    const found = await checkSource(this.#client, this.source, this.#keepsStatements);
    const isIncomplete = hasHostTriggers && !(hasState && hasEnvironments);
    const isOutdated =
      found.hiddenTables.join() !== hiddenTables.join() ||
      found.policies !== policies ||
      found.hasLog !== hasLog ||
      JSON.stringify(found.lists) !== JSON.stringify(lists) ||
      (isIncomplete && (await readRights(this.#client)) !== this.#rights);
    if (!isOutdated) await this.#plan('full');
    return { triggers: found.triggers, isOutdated };
  }

  /**
   * The start position of a reader: everything that the snapshot shows counts as delivered. A crash cannot undo
   * what `durable` covers. Waits up to half a second for the flush of the write-ahead log. It may not come, while a
   * transaction has written and not ended and no other one commits: then `durable` is what the last checkpoint covers.
   */
  async begin(): Promise<{ coverage: Coverage; durable: Coverage }> {
    const { coverage, insertLsn } = await this.#position();
    if (insertLsn === null) {
      // A replica's snapshot does not list transactions in flight, so the coverage lists the visible ones.
      const { rows } = await this.#client.query<[string]>({
        text: 'SELECT DISTINCT xid::text FROM flagcast.event_log WHERE xid >= $1',
        values: [coverage.xmin.toString()],
        rowMode: 'array',
      });
      const xids = rows.map(([xid]) => BigInt(xid)).filter((xid) => xid < coverage.xmax);
      const visible = { ...coverage, xids: xids.toSorted(ascending) };
      return { coverage: visible, durable: visible };
    }
    if (await isFlushed(this.#client, insertLsn)) return { coverage, durable: coverage };
    return { coverage, durable: await this.#lastCheckpoint(coverage.xmin) };
  }

  /**
   * Reads at most one page of the event log within these bounds: one statement, so one snapshot. The result of a cheaper
   * statement that turns out not to be enough is dropped. `searchesFirst`: probably there is nothing to read.
   */
  async readLog(bounds: ReadBounds, limit: number, mode: ReadMode, searchesFirst = false): Promise<LogRead> {
    const { lows, highs, partial } = bounds;
    if (searchesFirst && partial === null) {
      const found = await this.#ask('search', searchStatement(this.#tellsHistory), [lows, highs]);
      if (!hasRows(found)) return this.#toRead(found, mode);
    }
    const values = [lows, highs, partial?.xid.toString() ?? null, partial?.afterSeq.toString() ?? '0'];
    const read = async (by: ReadMode): Promise<(string | null)[][]> =>
      await this.#ask(`${limit}_${by}`, this.#readStatement(limit, by), values);
    const triesShort = mode === 'full' && this.#fullReadsLeft === 0;
    const rows = await read(triesShort ? 'short' : mode);
    if (triesShort && isIncomplete(rows)) {
      this.#fullReadsLeft = fullReads;
      return this.#toRead(await read('full'), 'full');
    }
    if (!triesShort && hasRows(rows)) this.#fullReadsLeft = Math.max(0, this.#fullReadsLeft - 1);
    return this.#toRead(rows, mode);
  }

  /**
   * Plans the statement of reads in this mode before an event waits for that. That of `full`, which few need, takes a fifth
   * of the time of a start: it is planned with the first poll.
   */
  async #plan(mode: ReadMode): Promise<void> {
    const name = `${pageRows}_${mode}`;
    if (this.#readStatements.has(name) || this.source.reason !== 'event_log' || !this.#keepsStatements)
      return;
    await this.#ask(name, this.#readStatement(pageRows, mode), [[], [], null, '0']);
  }

  async #ask(name: string, text: string, values: readonly unknown[]): Promise<(string | null)[][]> {
    const { rows } = await this.#client.query<(string | null)[]>({
      ...(this.#keepsStatements ? { name: `flagcast_read_${name}` } : {}),
      text,
      values: [...values],
      rowMode: 'array',
    });
    return rows;
  }

  #toRead(rows: readonly (string | null)[][], mode: ReadMode): LogRead {
    const [first = []] = rows;
    const [database, timeline = null] = this.#tellsHistory ? first.slice(-2) : [];
    const position = toSnapshotPosition(first);
    return {
      position,
      isQuiet: isQuiet(position, first),
      deletedXid: deletedXidOf(first),
      rows: toLogRows(rows, this.source, mode),
      history: typeof database === 'string' ? { database, timeline } : null,
    };
  }

  /** Composed once: it takes as long as a third of a read. */
  #readStatement(limit: number, mode: ReadMode): string {
    const key = `${limit}_${mode}`;
    let statement = this.#readStatements.get(key);
    if (statement === undefined) {
      statement = readStatement(this.source, { limit, mode, tellsHistory: this.#tellsHistory });
      this.#readStatements.set(key, statement);
    }
    return statement;
  }

  /**
   * Reads a source without transaction ids, looking back to `from`. `since` is how far the next read has to look back:
   * by the overlap before the oldest transaction that is open now.
   */
  async readOverlap(
    overlapMs: number,
    { from, openRequests }: { from: string | null; openRequests: readonly string[] },
  ): Promise<{ since: string; rows: (string | null)[][] }> {
    const { rows: times } = await this.#client.query<[string]>({
      text: sinceStatement,
      values: [overlapMs],
      rowMode: 'array',
    });
    const since = times[0]?.[0] ?? '';
    const { rows } = await this.#client.query<(string | null)[]>({
      text: overlapStatement(this.source.relation, this.source),
      values: [from ?? since, openRequests],
      rowMode: 'array',
    });
    return { since, rows };
  }

  /** Ends the session after the pending statement. */
  async end(): Promise<void> {
    this.isListening = false;
    await this.#client.end().catch(() => undefined);
  }

  /** Ends the session without waiting for PostgreSQL. */
  discard(): void {
    this.#client.discard();
  }

  async #position(): Promise<SnapshotPosition> {
    const { rows } = await this.#client.query<(string | null)[]>({
      text: `SELECT ${positionColumns}`,
      rowMode: 'array',
    });
    return toSnapshotPosition(rows[0] ?? []);
  }

  /** Recovery starts at the last checkpoint, so a crash cannot undo transactions that ended before it. */
  async #lastCheckpoint(xmin: bigint): Promise<Coverage> {
    const { rows } = await this.#client.query<[string, string]>({
      text: `SELECT split_part(next_xid, ':', 1), split_part(next_xid, ':', 2) FROM pg_control_checkpoint()`,
      rowMode: 'array',
    });
    const [epoch = '0', id = '0'] = rows[0] ?? [];
    const next = (BigInt(epoch) << 32n) + BigInt(id);
    const end = next < xmin ? next : xmin;
    return { xmin: end, xmax: end, listed: 'open', xids: [] };
  }
}

/**
 * How many rows a read requests. After an error that a row can cause, or that a smaller page avoids, the next read
 * requests fewer: at last one, and then that one without its state. So a row that cannot be read costs its event the
 * state, and delays nothing else for long.
 */
export class PageSize {
  limit = pageRows;
  mode: ReadMode = 'full';

  /** False if a smaller page would not help. */
  reduce(error: unknown): boolean {
    // Or query canceled.
    const canAvoid = isOfData(error) || errorCode(error) === '57014';
    if (!canAvoid || this.mode === 'safe') return false;
    if (this.limit > 1) this.limit = Math.max(1, Math.floor(this.limit / 8));
    else this.mode = 'safe';
    return true;
  }

  /** A page was read. */
  grow(): void {
    this.mode = 'full';
    this.limit = Math.min(pageRows, this.limit * 2);
  }
}

/** Starts a new log if the transaction ids in it are those of another cluster. */
async function adoptLog(client: Session, open: () => Promise<Session>): Promise<void> {
  const { rows } = await client.query<[string, string]>({
    text: `SELECT pg_is_in_recovery()::text, EXISTS (
      SELECT FROM flagcast.log_state s JOIN pg_control_system() c ON c.system_identifier::text = s.system_identifier
    )::text`,
    rowMode: 'array',
  });
  const [isReplica, isOwn] = rows[0] ?? [];
  if (isOwn === 'true') return;
  const reason =
    'the event log was written in another cluster (restored from a dump, upgraded or replicated)';
  if (isReplica === 'true') {
    throw new EventSourceError(`${reason}: let a server read the primary once, which starts a new log`);
  }
  const session = await open();
  try {
    await inTransaction(session, async () => await session.query('SELECT flagcast.adopt_event_log()'));
  } catch (error) {
    if (errorCode(error) !== '42501') throw error;
    throw new EventSourceError(
      `${reason}, and this role may not start a new log: run flagcast install with --role and the name of this role`,
    );
  } finally {
    session.discard();
  }
}
