import { isoUtc } from '../host/time-text.js';
import type { AuditIndex } from './audit-index.js';

/** How many rows of audit_log a page looks at; where no index has them by time, the newest ones and no others. */
export const maxScannedRows = 20_000;
const maxScannedWithoutIndex = 5_000;

/** Outside of these no time can be written as RFC 3339 has it. */
export const firstTime = `'0001-01-01T00:00:00Z'::timestamptz`;
const lastTime = `'9999-12-31T00:00:00Z'::timestamptz`;

/** SQL for the times that a search covers: from where it goes on, or `until`, down to `since`. */
export const inSearchedTime = (time: string): string => `${time} <= coalesce($4::timestamptz, ${lastTime})
    AND ${time} < coalesce($13::timestamptz, ${lastTime})
    AND ${time} >= coalesce($12::timestamptz, ${firstTime})`;

/**
 * Which rows of audit_log a page looks at, as parts of the statement. The parameters are those of the page; the part
 * `floor` can use `audit`, the rows of the page.
 */
export interface AuditScan {
  /** The rows, `a`. */
  readonly rows: string;
  /** Down to which time all rows were looked at; null where nothing was left out. */
  readonly floor: string;
  /** What `rows` does at that time: `exclusive` leaves its rows for the next page. */
  readonly floorRank: 'exclusive' | 'inclusive';
}

const columns =
  'a.id, a.created_at, a.project_id, a.environment_id, a.entity, a.action, a.username, a.actor, a.feature_id';

const inChannel = ({ channelColumns }: AuditIndex): string =>
  channelColumns
    .map((column) =>
      column === 'project_id' ? 'a.project_id = $1::uuid AND ' : 'a.environment_id = $2::bigint AND ',
    )
    .join('');

/**
 * The next rows by time, in the order of the index: no more are read, and none is sorted. Rows of one time may be cut
 * apart, so the time of the first row that was not read is left for the next page, unless the page was full before.
 */
export function scanByTime(index: AuditIndex): AuditScan {
  return {
    rows: `(
    SELECT ${columns} FROM public.audit_log a WHERE ${inChannel(index)}${inSearchedTime('a.created_at')}
    ORDER BY a.created_at DESC LIMIT ${maxScannedRows}
  )`,
    floor: `(
    SELECT a.created_at FROM public.audit_log a
    WHERE ${inChannel(index)}${inSearchedTime('a.created_at')}
      AND a.created_at >= coalesce((SELECT CASE WHEN count(*) = $3::int THEN min(audit.at) END FROM audit), ${firstTime})
    ORDER BY a.created_at DESC OFFSET ${maxScannedRows} LIMIT 1
  )`,
    floorRank: 'exclusive',
  };
}

/** All rows of the time at which the search goes on: more than a page looks at, written by one transaction. */
export function scanOneTime(index: AuditIndex): AuditScan {
  return {
    rows: `(SELECT ${columns} FROM public.audit_log a WHERE ${inChannel(index)}a.created_at = $4::timestamptz)`,
    floor: '$4::timestamptz',
    floorRank: 'inclusive',
  };
}

/** The rows of one feature, when there are no more than a page looks at. */
export const scanFeature: AuditScan = {
  rows: `(
    SELECT ${columns} FROM public.audit_log a
    WHERE a.feature_id = $11::uuid AND ${inSearchedTime('a.created_at')} OFFSET 0
  )`,
  floor: 'NULL::timestamptz',
  floorRank: 'inclusive',
};

/** Whether `scanFeature` does: $1 the feature. */
export const countFeatureRows = `SELECT count(*)::int AS rows FROM (
  SELECT FROM public.audit_log a WHERE a.feature_id = $1::uuid LIMIT ${maxScannedRows + 1}
) a`;

const newestRows = `SELECT ${columns} FROM public.audit_log a ORDER BY a.id DESC`;

/** The newest rows by id, and no others: older ones cannot be found without reading the table. */
export const scanNewest: AuditScan = {
  rows: `(
    SELECT * FROM (${newestRows} LIMIT ${maxScannedWithoutIndex}) a WHERE ${inSearchedTime('a.created_at')}
  )`,
  floor: `(
    SELECT CASE WHEN count(*) > ${maxScannedWithoutIndex} THEN min(a.created_at) END
    FROM (${newestRows} LIMIT ${maxScannedWithoutIndex + 1}) a
  )`,
  floorRank: 'inclusive',
};

/** SQL for the place in the history down to which a scan has looked, as `AuditPlace` has it. */
export const floorPlace = ({ floorRank }: AuditScan, floor: string): string =>
  `${isoUtc(floor)} || '${floorRank === 'exclusive' ? '_3' : '_0_0'}'`;
