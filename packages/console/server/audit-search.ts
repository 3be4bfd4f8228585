import { canReadSteps, JsonText, isUndecodable, type Channel, type Queries } from 'flagcast/support';
import {
  type AuditIndex,
  type AuditScan,
  maxCountedRows,
  maxScannedRows,
  scanByTime,
  scanFeature,
  scanNewest,
  scanOneTime,
} from './audit-scan.js';
import {
  type AuditRow,
  type AuditStatementOptions,
  auditStatement,
  histogramStatement,
  type ScanEnds,
} from './audit-statement.js';
import { type AuditHistogram, type AuditPage, isRealTime, isUuid, microsecondTime } from './schemas.js';

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

/** Which entries are wanted. What is absent does not limit them. */
export interface AuditFilter {
  readonly entity?: string | undefined;
  readonly action?: string | undefined;
  readonly username?: string | undefined;
  readonly feature_id?: string | undefined;
  readonly since?: string | undefined;
  readonly until?: string | undefined;
}

interface AuditQuery extends AuditFilter {
  readonly before?: string | undefined;
  readonly limit: number;
}

/** Its entries are JSON of the database. */
export type AuditPageJson = Omit<AuditPage, 'entries'> & { readonly entries: JsonText[] };

export type Channels = readonly Pick<Channel, 'projectId' | 'environmentId'>[];

/** How to read the log of this database. */
interface Access extends Pick<AuditStatementOptions, 'hasSteps' | 'hasFeatureIndex'> {
  readonly byTime: AuditIndex | null;
  /** The index of the feature, if it has few rows. */
  readonly byFeature: string | null;
}

/**
 * A page of the history of the channels, newest first: the audit log, and the steps of requests. Pages follow each other
 * by time and id, so new entries shift none of them. A page reads a bounded number of rows, so it can be empty and not the
 * last.
 */
export async function searchAudit(
  pool: Queries,
  channels: Channels,
  query: AuditQuery,
  form: AuditStatementOptions['form'] = 'object',
): Promise<AuditPageJson> {
  const access = await findAccess(pool, channels, query);
  const { byTime, byFeature } = access;
  const read = async (scan: AuditScan) =>
    await readPage(pool, { ...access, scan, form }, channels, query).catch((error: unknown) => {
      // No text of the database can be equal to the filter.
      if (isUndecodable(error)) return { entries: [], next: null, searched_until: null };
      throw error;
    });
  if (byFeature !== null) return { ...(await read(scanFeature)), index: byFeature };
  if (byTime === null) {
    // Older rows cannot be searched.
    const page = await read(scanNewest);
    return { ...page, next: page.searched_until === null ? page.next : null, index: null };
  }
  const page = await read(scanByTime(byTime));
  // One transaction wrote more rows than a page reads: the page ends where it began.
  const isStuck = query.before !== undefined && page.next === `${parsePageKey(query.before)?.at}_3`;
  return { ...(isStuck ? await read(scanOneTime(byTime)) : page), index: byTime.name };
}

/** The number of entries in each of `buckets` parts of the time from `since` to `until`. Bounded like a page. */
export async function countAudit(
  pool: Queries,
  channels: Channels,
  query: AuditFilter & { readonly buckets: number },
): Promise<AuditHistogram> {
  const access = await findAccess(pool, channels, query);
  const scan =
    access.byFeature !== null
      ? scanFeature
      : access.byTime === null
        ? scanNewest
        : scanByTime(access.byTime, maxCountedRows);
  const { rows } = await pool
    .query<ScanEnds & { counts: number[] }>(histogramStatement({ ...access, scan }), [
      ...parametersOf(channels, { ...query, limit: -1 }),
      query.buckets,
    ])
    .catch((error: unknown) => {
      if (isUndecodable(error)) return { rows: [] };
      throw error;
    });
  return {
    counts: rows[0]?.counts ?? Array.from({ length: query.buckets }, () => 0),
    searched_until: endOf(rows[0])?.split('_', 1)[0] ?? null,
  };
}

/** Looks up the indexes of the host's audit_log: one with the rows in the order of created_at, and one that begins with feature_id. */
async function findAccess(
  pool: Queries,
  channels: Channels,
  { feature_id: featureId }: AuditFilter,
): Promise<Access> {
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
      // An index that begins with a column of the channel has the rows of several channels in another order.
      const isOrdered = length === 0 || (channels.length === 1 && channelColumns.length === length);
      return length !== -1 && isOrdered ? [{ name, channelColumns }] : [];
    })
    // More columns of the channel mean fewer rows of other channels.
    .sort((one, other) => other.channelColumns.length - one.channelColumns.length);
  const byFeature = rows.find(({ columns }) => columns[0] === 'feature_id')?.name ?? null;
  return {
    byTime: byTime[0] ?? null,
    byFeature: byFeature !== null && (await hasFewRows(pool, featureId)) ? byFeature : null,
    hasFeatureIndex: byFeature !== null,
    hasSteps: await canReadSteps(pool),
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

/** The parameters of the statements. */
function parametersOf(channels: Channels, query: AuditQuery): unknown[] {
  const { until } = query;
  const before = parsePageKey(query.before ?? '');
  // After the last entry of a moment all entries are older than the moment.
  const isPastMoment = before?.auditId === '0';
  // Ids of a foreign schema may be other texts.
  const known = channels.filter(
    ({ projectId, environmentId }) => isUuid(projectId) && /^\d+$/.test(environmentId),
  );
  return [
    known.map(({ projectId }) => projectId),
    known.map(({ environmentId }) => environmentId),
    query.limit,
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
  ];
}

/** Both lists were read completely down to the newer one of their ends. */
function endOf(ends: ScanEnds | undefined): string | null {
  const [audit = null, step = null] = [ends?.audit_end, ends?.step_end];
  return audit === null || (step !== null && step > audit) ? step : audit;
}

async function readPage(
  pool: Queries,
  options: Omit<AuditStatementOptions, 'asBytes'>,
  channels: Channels,
  query: AuditQuery,
): Promise<Omit<AuditPageJson, 'index'>> {
  const parameters = parametersOf(channels, { ...query, limit: query.limit + 1 });
  const { rows } = await pool
    .query<AuditRow>(auditStatement({ ...options, asBytes: false }), parameters)
    .catch(async (error: unknown) => {
      if (!isUndecodable(error)) throw error;
      return await pool.query<AuditRow>(auditStatement({ ...options, asBytes: true }), parameters);
    });
  const end = endOf(rows[0]);
  const moments = new Map<string, JsonText[]>();
  let isCut = false;
  for (const { key, is_beyond: isBeyond, entry } of rows) {
    if (key === null || (end !== null && key < end)) continue;
    const entries = moments.get(key);
    isCut = moments.size === query.limit || (isBeyond && moments.size > 0 && entries === undefined);
    if (isCut && entries === undefined) break;
    // Bytes that are not UTF-8 become replacement characters.
    moments.set(key, [...(entries ?? []), ...(entry === null ? [] : [new JsonText(entry.toString())])]);
  }
  const entries = [...moments.values()].flat();
  if (isCut) return { entries, next: [...moments.keys()].at(-1) ?? null, searched_until: null };
  return { entries, next: end, searched_until: end?.split('_', 1)[0] ?? null };
}
