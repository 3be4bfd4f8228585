import type { Channel } from '../auth/authorization.js';
import { JsonText } from '../json-text.js';
import type { Queries } from '../postgres/session-pool.js';
import {
  type AuditIndex,
  type AuditRow,
  type AuditScan,
  auditStatement,
  maxScannedRows,
  scanByTime,
  scanFeature,
  scanNewest,
  scanOneTime,
} from './audit-statement.js';
import { type AuditPage, isRealTime, microsecondTime } from './schemas.js';

/**
 * The position in a channel's history after which a page starts. As texts, keys sort like the history: by time, then by
 * rank (2 decisions, 1 requests, 0 entries of the audit log; 3 is before all of them).
 */
interface PageKey {
  /** RFC 3339, microseconds in UTC. */
  readonly at: string;
  readonly rank: number;
  /** The number of the entry of the audit log, 0 after the last one of the moment; null for a step of a request. */
  readonly auditId: string | null;
  /** The id of the request; null for an entry of the audit log. */
  readonly changeId: string | null;
}

const maxBigint = 2n ** 63n - 1n;
const pageKeyPattern = new RegExp(
  String.raw`^(?<at>${microsecondTime})_(?<rank>0_(?<auditId>\d{1,19})|[12]_(?<changeId>[\da-f]{8}(-[\da-f]{4}){3}-[\da-f]{12})|3)$`,
);

/** Parses the `next` of a page; null for any other text, which must not reach the database. */
export function parsePageKey(text: string): PageKey | null {
  const { at, rank, auditId = null, changeId = null } = pageKeyPattern.exec(text)?.groups ?? {};
  if (at === undefined || rank === undefined || !isRealTime(at)) return null;
  if (auditId !== null && BigInt(auditId) > maxBigint) return null;
  return { at, rank: Number(rank.charAt(0)), auditId, changeId };
}

/** The parameters of `GET /api/audit`. */
interface AuditQuery {
  readonly before?: string | undefined;
  readonly limit: number;
  readonly entity?: string | undefined;
  readonly action?: string | undefined;
  readonly username?: string | undefined;
  readonly feature_id?: string | undefined;
  readonly since?: string | undefined;
  readonly until?: string | undefined;
}

/** Its entries are JSON of the database. */
type AuditPageJson = Omit<AuditPage, 'entries'> & { readonly entries: JsonText[] };

/**
 * A page of a channel's history, newest first: the audit log, and the steps of requests. Pages follow each other by time
 * and id, so new entries shift none of them. A page reads a bounded number of rows, so it can be empty and not the last.
 */
export async function searchAudit(
  pool: Queries,
  channel: Channel,
  query: AuditQuery,
): Promise<AuditPageJson> {
  const { byTime, byFeature } = await findIndexes(pool);
  if (byFeature !== null && (await hasFewRows(pool, query.feature_id))) {
    return { ...(await readPage(pool, scanFeature, channel, query)), index: byFeature };
  }
  if (byTime === null) {
    // Older rows cannot be searched.
    const page = await readPage(pool, scanNewest, channel, query);
    return { ...page, next: page.searched_until === null ? page.next : null, index: null };
  }
  const page = await readPage(pool, scanByTime(byTime), channel, query);
  // One transaction wrote more rows than a page reads: the page ends where it began.
  const isStuck = query.before !== undefined && page.next === `${parsePageKey(query.before)?.at}_3`;
  if (!isStuck) return { ...page, index: byTime.name };
  return { ...(await readPage(pool, scanOneTime(byTime), channel, query)), index: byTime.name };
}

/** The indexes of the host's audit_log: one with the rows in the order of created_at, and one that begins with feature_id. */
async function findIndexes(
  pool: Queries,
): Promise<{ readonly byTime: AuditIndex | null; readonly byFeature: string | null }> {
  // An index over an expression has no column; a partial one lacks rows.
  const { rows } = await pool.query<{ name: string; columns: readonly (string | null)[] }>(
    `SELECT i.relname::text AS name, array_agg(a.attname::text ORDER BY k.position) AS columns
     FROM pg_index x
     JOIN pg_class i ON i.oid = x.indexrelid
     JOIN pg_am am ON am.oid = i.relam AND am.amname = 'btree'
     CROSS JOIN LATERAL unnest(x.indkey::int2[]) WITH ORDINALITY AS k (attnum, position)
     LEFT JOIN pg_attribute a ON a.attrelid = x.indrelid AND a.attnum = k.attnum
     WHERE x.indrelid = to_regclass('public.audit_log') AND x.indisvalid AND x.indpred IS NULL
       AND k.position <= x.indnkeyatts
     GROUP BY i.relname ORDER BY i.relname`,
  );
  const byTime = rows
    .flatMap(({ name, columns }) => {
      const length = columns.indexOf('created_at');
      const channelColumns = columns.slice(0, length).filter(isChannelColumn);
      return length !== -1 && channelColumns.length === length ? [{ name, channelColumns }] : [];
    })
    // More columns of the channel mean fewer rows of other channels.
    .sort((one, other) => other.channelColumns.length - one.channelColumns.length);
  return {
    byTime: byTime[0] ?? null,
    byFeature: rows.find(({ columns }) => columns[0] === 'feature_id')?.name ?? null,
  };
}

function isChannelColumn(column: string | null): column is AuditIndex['channelColumns'][number] {
  return column === 'project_id' || column === 'environment_id';
}

/** Whether one page can read all rows of the feature. */
async function hasFewRows(pool: Queries, featureId: string | undefined): Promise<boolean> {
  if (featureId === undefined) return false;
  const { rows } = await pool.query<{ count: number }>(
    `SELECT count(*)::int AS count FROM (
       SELECT FROM public.audit_log a WHERE a.feature_id = $1::uuid LIMIT ${maxScannedRows + 1}
     ) a`,
    [featureId],
  );
  return (rows[0]?.count ?? 0) <= maxScannedRows;
}

async function readPage(
  pool: Queries,
  scan: AuditScan,
  channel: Channel,
  query: AuditQuery,
): Promise<Omit<AuditPageJson, 'index'>> {
  const { until } = query;
  const before = parsePageKey(query.before ?? '');
  // After the last entry of a moment all entries are older than the moment.
  const isPastMoment = before?.auditId === '0';
  const { rows } = await pool.query<AuditRow>(auditStatement(scan), [
    channel.projectId,
    channel.environmentId,
    query.limit + 1,
    before?.at ?? null,
    before?.rank ?? null,
    before?.auditId ?? null,
    before?.changeId ?? null,
    query.entity ?? null,
    query.action ?? null,
    query.username ?? null,
    query.feature_id ?? null,
    query.since ?? null,
    isPastMoment && (until === undefined || until > before.at) ? before.at : (until ?? null),
  ]);
  // Both lists were read completely down to the newer one of their ends.
  const [audit = null, step = null] = [rows[0]?.audit_end, rows[0]?.step_end];
  const end = audit === null || (step !== null && step > audit) ? step : audit;
  const moments = new Map<string, JsonText[]>();
  let isCut = false;
  for (const { key, is_beyond: isBeyond, entry } of rows) {
    if (key === null || (end !== null && key < end)) continue;
    const entries = moments.get(key);
    isCut = moments.size === query.limit || (isBeyond && moments.size > 0 && entries === undefined);
    if (isCut && entries === undefined) break;
    moments.set(key, [...(entries ?? []), ...(entry === null ? [] : [new JsonText(entry)])]);
  }
  const entries = [...moments.values()].flat();
  if (isCut) return { entries, next: [...moments.keys()].at(-1) ?? null, searched_until: null };
  return { entries, next: end, searched_until: end?.split('_', 1)[0] ?? null };
}
