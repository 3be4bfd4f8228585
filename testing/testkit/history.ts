import type pg from 'pg';
import { isFeed, type TestChannel, type ChannelIds } from './channel.ts';
import { readRequestVersions, type RequestVersion } from './contents.ts';
import { plainKey } from './segment.ts';

/** Maximum number of rows that a read of the server returns. */
const pageRows = 500;

/** A row of the event log. */
export interface CommittedEvent {
  /** Its `seq`. */
  readonly id: string;
  /** The transaction that wrote it. */
  readonly xid: number;
  readonly plainKey: string;
  readonly projectId: string;
  readonly environmentId: string;
  readonly entityId: string;
  readonly action: string;
  /** The request of which it is a step; null for other events. */
  readonly changeId: string | null;
  /** Commit time, in milliseconds since the epoch. */
  readonly committedMs: number;
}

/** The committed events, which the checker compares with what each client received. */
export class History {
  readonly byId = new Map<string, CommittedEvent>();
  /** By environment and plain key, in the order of their commits. */
  readonly #byPlainKey = new Map<string, CommittedEvent[]>();
  /** By environment, in the order of their commits. */
  readonly #byEnvironment = new Map<string, CommittedEvent[]>();
  /** Steps of requests by project, in the order of their commits. */
  readonly #stepsByProject = new Map<string, CommittedEvent[]>();
  readonly #versions: ReadonlyMap<string, readonly RequestVersion[]>;
  /** The commit of the first transaction that does not fit into one page, in milliseconds since the epoch. */
  readonly #firstLargeMs: number;
  /** The lowest id of each transaction. */
  readonly #firstIds = new Map<number, number>();

  constructor(
    events: readonly CommittedEvent[],
    versions: ReadonlyMap<string, readonly RequestVersion[]> = new Map(),
  ) {
    this.#versions = versions;
    const rows = new Map<number, number>();
    let firstLargeMs = Infinity;
    for (const event of [...events].sort((one, other) => one.committedMs - other.committedMs)) {
      this.byId.set(event.id, event);
      const { id, xid, committedMs } = event;
      rows.set(xid, (rows.get(xid) ?? 0) + 1);
      if (rows.get(xid) === pageRows) firstLargeMs = Math.min(firstLargeMs, committedMs);
      this.#firstIds.set(xid, Math.min(Number(id), this.#firstIds.get(xid) ?? Infinity));
      append(this.#byPlainKey, `${event.environmentId} ${event.plainKey}`, event);
      append(this.#byEnvironment, event.environmentId, event);
      if (event.changeId !== null) append(this.#stepsByProject, event.projectId, event);
    }
    this.#firstLargeMs = firstLargeMs;
  }

  /**
   * Whether an event that was received at `atMs` may come after later ones. A page can end within a transaction, whose
   * remaining rows are then read in later pages, with later events, however long that takes. So its first row is never
   * late, nor is any before there was more than one page to read.
   */
  mayBeLate({ id, xid }: CommittedEvent, atMs: number): boolean {
    return this.#firstLargeMs <= atMs && Number(id) > (this.#firstIds.get(xid) ?? 0);
  }

  of(channel: TestChannel): readonly CommittedEvent[] {
    return isFeed(channel)
      ? channel.projectIds.flatMap((projectId) => this.#stepsByProject.get(projectId) ?? [])
      : (this.#byEnvironment.get(channel.environmentId) ?? []);
  }

  /** Whether the request had these contents after the step, or has got them later. */
  hadContents({ id, changeId }: CommittedEvent, contents: string): boolean {
    const versions = this.#versions.get(changeId ?? '') ?? [];
    return versions.some((version) => version.afterSeq >= Number(id) && version.contents === contents);
  }

  /** Events that look the same in the plain dialect. */
  byPlainKey({ environmentId }: ChannelIds, key: string): readonly CommittedEvent[] {
    return this.#byPlainKey.get(`${environmentId} ${key}`) ?? [];
  }
}

function append<Value>(lists: Map<string, Value[]>, key: string, value: Value): void {
  const list = lists.get(key);
  if (list === undefined) lists.set(key, [value]);
  else list.push(value);
}

/** SQL that formats a timestamptz as the server does. */
export const isoUtc = (expression: string): string =>
  `to_char(${expression} AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')`;

/** Reads the event log, the rows that retention has deleted from it, and the versions of requests (see seedDatabase). */
export async function readHistory(client: pg.Client): Promise<History> {
  const { rows } = await client.query<{
    id: string;
    xid: number;
    project_id: string;
    environment_id: string;
    entity_id: string;
    action: string;
    change_id: string | null;
    timestamp: string;
    committed_ms: number;
  }>(`
    SELECT l.seq::text AS id, l.xid::float8 AS xid, l.project_id, l.environment_id, l.entity_id, l.action,
      l.pending_change_id AS change_id, ${isoUtc('l.created_at')} AS timestamp,
      extract(epoch FROM pg_xact_commit_timestamp((l.xid & 4294967295)::text::xid))::float8 * 1000 AS committed_ms
    FROM (SELECT * FROM flagcast.event_log UNION ALL SELECT * FROM testkit.deleted_events) l
    WHERE l.source <> 'control'`);
  return new History(
    rows.map((row) => ({
      id: row.id,
      xid: row.xid,
      plainKey: plainKey(row),
      projectId: row.project_id,
      environmentId: row.environment_id,
      entityId: row.entity_id,
      action: row.action,
      changeId: row.change_id,
      committedMs: row.committed_ms,
    })),
    await readRequestVersions(client),
  );
}
