import { isoUtc, requestedDiff, requestedEntity, requestEntities, shownJson } from 'flagcast/support';
import { isTooLarge, stateDiff, tooLarge } from './sql-expressions.js';
import { type AuditScan, firstTime, inSearchedTime } from './audit-scan.js';

const maxScannedSteps = 2_000;
/** The limits of what a page shows: entities of a step, bytes of JSON, characters of a reason. */
const maxShownEntities = 200;
const maxPageBytes = 1_048_576;
const maxReasonLength = 4_096;

/** The page keys down to which the audit log and the steps of requests were read; null if to the end. */
export interface ScanEnds {
  readonly audit_end: string | null;
  readonly step_end: string | null;
}

export interface AuditRow extends ScanEnds {
  /** The page key, the same for all entities of a step; null in the only row of an empty page. */
  readonly key: string | null;
  /** The rows before it already have as many bytes as a page may have. */
  readonly is_beyond: boolean;
  /** The entry as `AuditStatementOptions` say; null for a row beyond, and for a request that names no entity. */
  readonly entry: string | Buffer | null;
}

export interface AuditStatementOptions {
  readonly scan: AuditScan;
  /** Whether flagcast.request_steps can be read: by whom and when a request was cancelled. */
  readonly hasSteps: boolean;
  /** Whether audit_log has an index that begins with feature_id, by which the names of deleted flags are found. */
  readonly hasFeatureIndex: boolean;
  /** `object`: AuditEntry of `/api/openapi.json` as JSON. `texts`: the values of its members, as a list of texts. */
  readonly form: 'object' | 'texts';
  /** Returns entries as bytes, for texts of a SQL_ASCII database that are not UTF-8. */
  readonly asBytes: boolean;
}

const auditAction = `CASE a.action WHEN 'create' THEN 'created' WHEN 'update' THEN 'updated' WHEN 'delete' THEN 'deleted'
  ELSE a.action::text END`;
const auditUsername = `coalesce(nullif(a.username, ''), a.actor)::text`;

const pageKey = (row: string): string =>
  `concat_ws('_', ${isoUtc(`${row}.at`)}, ${row}.rank, ${row}.audit_id, ${row}.change_id)`;

/** Whether the step has a matching entity. A scalar subquery: a join would look up the features of all requests. */
const hasEntity = (changeId: string): string => `(($8::text IS NULL AND $11::uuid IS NULL) OR (
    SELECT true FROM ${requestEntities} v
    WHERE v.pending_change_id = ${changeId}
      AND ($8::text IS NULL OR v.entity = $8::text)
      AND ($11::uuid IS NULL OR v.feature_id = $11::uuid)
    LIMIT 1
  ))`;

/** SQL for a value of a decided request `c` by its status. */
const ofDecision = (approved: string, rejected: string, other: string): string =>
  `CASE c.status WHEN 'approved' THEN ${approved} WHEN 'rejected' THEN ${rejected} ELSE ${other} END`;
/** The steps to a status of which the host records neither user nor time, for JOIN. */
const decisionSteps = `(
      SELECT s.* FROM flagcast.request_steps s WHERE s.action NOT IN ('pending', 'updated', 'approved', 'rejected')
    )`;
const noSteps = `(SELECT NULL AS pending_change_id, NULL AS action, NULL::timestamptz AS created_at, NULL AS actor, NULL::bigint AS xid)`;

/** Whether no newer step of the request has led to the same status: it was reopened in between. */
const isNewestStep = (hasSteps: boolean): string =>
  hasSteps
    ? `(s.xid IS NULL OR NOT EXISTS (SELECT FROM flagcast.request_steps newer
        WHERE newer.pending_change_id = s.change_id::text AND newer.action = s.action AND newer.xid > s.xid))`
    : 'true';

const noFeature = '00000000-0000-0000-0000-000000000000';
const source = `CASE WHEN p.rank = 0 THEN 'audit' ELSE 'pending' END`;
const own = (...names: readonly string[]) => names.map((name) => [name, `p.${name}`] as const);

/** The members of an entry and their SQL, in the order of the columns of a CSV file. */
const entryMembers: readonly (readonly [name: string, sql: string])[] = [
  ...own('created_at', 'requested_at'),
  ['project', 'project.name::text'],
  ['environment', 'e.key::text'],
  ...own('username', 'action', 'entity'),
  ['feature_key', 'coalesce(f.key, gone.key)'],
  ['feature_name', 'coalesce(f.name, gone.name)'],
  // The zero UUID stands for no feature.
  ['feature_deleted', `f.id IS NULL AND coalesce(p.feature_id, '${noFeature}') <> '${noFeature}'`],
  ...own('reason'),
  [
    'diff',
    `CASE WHEN p.truncated OR p.rank = 2 THEN '[]' WHEN p.rank = 0 THEN ${stateDiff('p.old_value', 'p.new_value')}
      ELSE ${requestedDiff('p.requested')} END`,
  ],
  ...own('old_value', 'new_value', 'truncated'),
  ['source', source],
  ['audit_id', 'p.audit_id::text'],
  ['pending_change_id', 'p.change_id'],
  ...own('request_id', 'feature_id', 'entity_id', 'project_id'),
  ['environment_id', 'p.environment_id::text'],
  [
    'id',
    `format('%s:%s:%s:%s:%s', ${source}, coalesce(p.audit_id::text, p.change_id::text), p.entity, p.entity_id, p.action)`,
  ],
];

export const entryColumns: readonly string[] = entryMembers.map(([name]) => name);

const entryIn = {
  object: `json_build_object(${entryMembers.map(([name, sql]) => `'${name}', ${sql}`).join(', ')})`,
  texts: `json_build_array(${entryMembers.map(([, sql]) => `(${sql})::text`).join(', ')})`,
} as const;

/** The rows of the log that match, as `audit`, and where the scan ended. */
const auditRows = ({ rows, end }: AuditScan, select: string, order = ''): string => `audit AS MATERIALIZED (
  SELECT ${select}
  FROM ${rows} a
  WHERE a.project_id = ANY ($1::uuid[]) AND a.environment_id = ANY ($2::bigint[])
    AND ($4::timestamptz IS NULL OR a.created_at < $4::timestamptz OR $5::int > 0 OR a.id < $6::bigint)
    AND ($8::text IS NULL OR a.entity = $8::text)
    AND ($9::text IS NULL OR ${auditAction} = $9::text)
    AND ($10::text IS NULL OR ${auditUsername} = $10::text)
    AND ($11::uuid IS NULL OR a.feature_id = $11::uuid)
  ${order}
), scan_end AS MATERIALIZED (
  SELECT ${end} AS at
)`;

/** The steps of requests that match and are not older than what was read of the log, without a look at their entities. */
const stepCandidates = ({
  scan,
  hasSteps,
}: Pick<AuditStatementOptions, 'scan' | 'hasSteps'>): string => `candidates AS MATERIALIZED (
  SELECT s.at, s.rank, NULL::bigint AS audit_id, s.change_id, s.action, s.username, s.has_time, s.xid
  FROM (
    SELECT c.id AS change_id, c.project_id, c.environment_id, 1 AS rank, 'pending' AS action,
      c.created_at AS at, c.requested_by::text AS username, true AS has_time,
      NULL::bigint AS xid
    FROM public.pending_changes c
    UNION ALL
    SELECT c.id, c.project_id, c.environment_id, 2, c.status::text,
      greatest(c.created_at, ${ofDecision('c.approved_at', 'c.rejected_at', 'step.created_at')}),
      ${ofDecision('c.approved_by', 'c.rejected_by', 'step.actor')}::text,
      ${ofDecision('c.approved_at', 'c.rejected_at', 'step.created_at')} IS NOT NULL, step.xid
    FROM public.pending_changes c
    LEFT JOIN ${hasSteps ? decisionSteps : noSteps} step
      ON step.pending_change_id = c.id::text AND step.action = c.status
    WHERE c.status <> 'pending'
  ) s
  WHERE s.project_id = ANY ($1::uuid[]) AND s.environment_id = ANY ($2::bigint[])
    AND ${inSearchedTime('s.at')}
    AND s.at >= (SELECT CASE WHEN count(*) = $3::int THEN min(audit.at) ELSE ${firstTime} END FROM audit)
    AND s.at ${scan.endRank === 'exclusive' ? '>' : '>='} coalesce((SELECT scan_end.at FROM scan_end), '-infinity')
    AND ($4::timestamptz IS NULL OR s.at < $4::timestamptz OR s.rank < $5::int
      OR (s.rank = $5::int AND s.change_id < $7::uuid))
    AND ($9::text IS NULL OR s.action = $9::text)
    AND ($10::text IS NULL OR s.username = $10::text)
  ORDER BY s.at DESC, s.rank DESC, s.change_id DESC
  LIMIT ${maxScannedSteps}
)`;

const scanEnds = ({ endRank }: AuditScan, isCut: string): string => `
  ${isoUtc('scan_end.at')} || '${endRank === 'exclusive' ? '_3' : '_0_0'}' AS audit_end,
  CASE WHEN (SELECT count(*) FROM candidates) = ${maxScannedSteps} AND ${isCut}
    THEN (SELECT ${pageKey('s')} FROM candidates s ORDER BY s.at, s.rank, s.change_id LIMIT 1) END AS step_end`;

/** How many rows of a flag are looked through for its deletion. */
const maxRowsOfDeleted = 20;

/**
 * The names of the deleted flags on a page: each is looked up once, in the log's entry of its deletion. It is among the
 * newest rows of the flag: a range instead of an equality lets PostgreSQL read the index backwards.
 */
const deletedFeatures = (hasFeatureIndex: boolean): string => `gone AS MATERIALIZED (
  SELECT deleted.feature_id, known.key, known.name
  FROM (
    SELECT DISTINCT sized.feature_id FROM sized
    WHERE ${hasFeatureIndex} AND NOT EXISTS (SELECT FROM public.features f WHERE f.id = sized.feature_id)
  ) deleted
  CROSS JOIN LATERAL (
    SELECT a.old_value::jsonb ->> 'key' AS key, a.old_value::jsonb ->> 'name' AS name
    FROM (
      SELECT a.entity, a.action, a.old_value FROM public.audit_log a
      WHERE a.feature_id >= deleted.feature_id AND a.feature_id <= deleted.feature_id
      ORDER BY a.feature_id DESC LIMIT ${maxRowsOfDeleted}
    ) a
    WHERE a.entity = 'feature' AND a.action = 'delete' AND NOT ${isTooLarge('a.old_value')} LIMIT 1
  ) known
)`;

/**
 * Reads both lists from new to old, each up to one page, and the steps of requests only as far as the scan of the audit
 * log came. No index has the times of decisions; but if the log fills the page, nothing older than its last entry is
 * needed, and only the steps on the page have their entities looked up.
 *
 * Within one moment, entries of the audit log come before steps, and a request before its decision, as in the events. A
 * decision without a recorded time follows its request.
 *
 * $1 and $2 the projects and environments, $3 limit, $4 to $7 `before`: time, rank, audit id, request; $8 entity, $9
 * action, $10 user name, $11 feature, $12 since, $13 until.
 */
// oxlint-disable-next-line max-lines-per-function -- one SQL statement
export const auditStatement = ({
  scan,
  hasSteps,
  hasFeatureIndex,
  form,
  asBytes,
}: AuditStatementOptions): string => `
WITH ${auditRows(
  scan,
  `a.created_at AS at, 0 AS rank, a.id AS audit_id, NULL::uuid AS change_id, NULL::text AS action,
    ${auditUsername} AS username, true AS has_time, NULL::bigint AS xid`,
  'ORDER BY a.created_at DESC, a.id DESC LIMIT $3::int',
)}, ${stepCandidates({ scan, hasSteps })}, steps AS MATERIALIZED (
  SELECT s.* FROM candidates s WHERE ${hasEntity('s.change_id')} AND ${isNewestStep(hasSteps)}
  ORDER BY s.at DESC, s.rank DESC, s.change_id DESC
  LIMIT $3::int
), page AS (
  SELECT * FROM audit UNION ALL SELECT * FROM steps
  ORDER BY at DESC, rank DESC, audit_id DESC, change_id DESC
  LIMIT $3::int
), content AS MATERIALIZED (
  SELECT
    page.at, page.rank, page.audit_id, page.change_id, page.username,
    ${pageKey('page')} AS key,
    CASE WHEN page.has_time THEN ${isoUtc('page.at')} END AS created_at,
    ${isoUtc('c.created_at')} AS requested_at,
    coalesce(a.project_id, c.project_id) AS project_id,
    coalesce(a.environment_id, c.environment_id) AS environment_id,
    coalesce(page.action, ${auditAction}) AS action,
    coalesce(a.entity::text, v.entity) AS entity,
    coalesce(a.entity_id, a.feature_id, v.entity_id) AS entity_id,
    coalesce(a.feature_id, v.feature_id) AS feature_id,
    left(CASE WHEN page.rank = 1 AND NOT large.change THEN c.change #>> '{meta,reason}'
      WHEN page.rank = 2 AND c.status = 'rejected' THEN c.rejection_reason END, ${maxReasonLength}) AS reason,
    a.request_id, state.old_value, state.new_value, state.requested,
    large.old_value OR large.new_value OR (page.rank = 1 AND large.change) AS truncated,
    coalesce(octet_length(state.old_value::text), 0) + coalesce(octet_length(state.new_value::text), 0)
      + coalesce(octet_length(state.requested::text), 0) AS bytes
  FROM page
  LEFT JOIN public.audit_log a ON a.id = page.audit_id
  LEFT JOIN public.pending_changes c ON c.id = page.change_id
  LEFT JOIN LATERAL (
    SELECT e.entity, e.entity_id, e.feature_id
    FROM ${requestEntities} e
    WHERE e.pending_change_id = page.change_id
      AND ($8::text IS NULL OR e.entity = $8::text)
      AND ($11::uuid IS NULL OR e.feature_id = $11::uuid)
    LIMIT ${maxShownEntities}
  ) v ON true
  CROSS JOIN LATERAL (
    SELECT ${isTooLarge('a.old_value')} AS old_value, ${isTooLarge('a.new_value')} AS new_value,
      ${isTooLarge('c.change')} AS change OFFSET 0
  ) large
  CROSS JOIN LATERAL (
    SELECT CASE WHEN large.old_value THEN ${tooLarge} ELSE ${shownJson('a.old_value::jsonb')} END AS old_value,
      CASE WHEN large.new_value THEN ${tooLarge} ELSE ${shownJson('a.new_value::jsonb')} END AS new_value,
      CASE WHEN page.rank = 1 AND NOT large.change
        THEN ${requestedEntity(shownJson('c.change::jsonb'), 'v.entity', 'v.entity_id')} END AS requested
    OFFSET 0
  ) state
), sized AS (
  SELECT content.*, sum(bytes) OVER (
      ORDER BY at DESC, rank DESC, audit_id DESC, change_id DESC, entity, entity_id ROWS UNBOUNDED PRECEDING
    ) - bytes >= ${maxPageBytes} AS is_beyond
  FROM content
), ${deletedFeatures(hasFeatureIndex)}
SELECT ${scanEnds(scan, '(SELECT count(*) FROM steps) < $3::int')},
  p.key, coalesce(p.is_beyond, false) AS is_beyond,
  CASE WHEN NOT p.is_beyond AND p.entity IS NOT NULL AND p.entity_id IS NOT NULL
    THEN ${asBytes ? `convert_to(${entryIn[form]}::text, 'SQL_ASCII')` : `${entryIn[form]}::text`} END AS entry
FROM scan_end
LEFT JOIN sized p ON true
LEFT JOIN public.features f ON f.id = p.feature_id
LEFT JOIN gone ON gone.feature_id = p.feature_id
LEFT JOIN public.projects project ON project.id = p.project_id
LEFT JOIN public.environments e ON e.id = p.environment_id
ORDER BY p.at DESC, p.rank DESC, p.audit_id DESC, p.change_id DESC, p.entity, p.entity_id`;

/** The number of entries in each of $14 parts of the time from $12 to $13; other parameters as above, $3 is -1. */
export const histogramStatement = (options: Pick<AuditStatementOptions, 'scan' | 'hasSteps'>): string => `
WITH ${auditRows(options.scan, 'a.created_at AS at')}, ${stepCandidates(options)}
SELECT ${scanEnds(options.scan, 'true')}, ARRAY(
  SELECT coalesce(counted.entries, 0)
  FROM generate_series(1, $14::int) AS part (number)
  LEFT JOIN (
    SELECT width_bucket(entry.at, part.starts) AS number, count(*)::int AS entries
    FROM (
      SELECT audit.at FROM audit
      UNION ALL
      SELECT s.at FROM candidates s WHERE ${hasEntity('s.change_id')} AND ${isNewestStep(options.hasSteps)}
    ) entry, (
      SELECT array_agg($12::timestamptz + (n - 1) * ($13::timestamptz - $12::timestamptz) / $14::int ORDER BY n) AS starts
      FROM generate_series(1, $14::int) AS n
    ) part
    GROUP BY 1
  ) counted USING (number)
  ORDER BY part.number
) AS counts
FROM scan_end`;
