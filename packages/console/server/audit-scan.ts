/** The limits of a page: rows of audit_log, in all and without an index by time. */
export const maxScannedRows = 20_000;
/** As many are counted at once: their values are not read. */
export const maxCountedRows = 50_000;
const maxScannedWithoutIndex = 5_000;

/** RFC 3339 cannot express times outside of these. */
export const firstTime = `'0001-01-01T00:00:00Z'::timestamptz`;
const lastTime = `'9999-12-31T00:00:00Z'::timestamptz`;

/** SQL for the times that a page covers: from `before` or `until` down to `since`. */
export const inSearchedTime = (time: string): string => `${time} <= coalesce($4::timestamptz, ${lastTime})
    AND ${time} < coalesce($13::timestamptz, ${lastTime})
    AND ${time} >= coalesce($12::timestamptz, ${firstTime})`;

/** An index of audit_log with the rows in the order of created_at. */
export interface AuditIndex {
  readonly name: string;
  /** The columns before created_at. All rows that a search reads have the same values in them. */
  readonly channelColumns: readonly ('project_id' | 'environment_id')[];
}

/** SQL for the rows of audit_log that a page reads, with the parameters of `auditStatement`. */
export interface AuditScan {
  /** The rows, for FROM. */
  readonly rows: string;
  /** The time down to which all rows were read; null if none was left out. It can use `audit`, the entries of the page. */
  readonly end: string;
  /** `exclusive` leaves the rows of that time for the next page. */
  readonly endRank: 'exclusive' | 'inclusive';
}

const columns =
  'a.id, a.created_at, a.project_id, a.environment_id, a.entity, a.action, a.username, a.actor, a.feature_id';

/** The index has one value of them, so its order is that of created_at. */
const inChannel = ({ channelColumns }: AuditIndex): string =>
  channelColumns
    .map(
      (column) => `a.${column} = ${column === 'project_id' ? '($1::uuid[])[1]' : '($2::bigint[])[1]'} AND `,
    )
    .join('');

/**
 * The next rows in the order of the index, without sorting. The limit may cut the rows of one moment apart, so the
 * moment of the first unread row is left for the next page, unless the page was full before.
 */
export function scanByTime(index: AuditIndex, maxRows = maxScannedRows): AuditScan {
  const inScan = `${inChannel(index)}${inSearchedTime('a.created_at')}`;
  return {
    rows: `(
    SELECT ${columns} FROM public.audit_log a WHERE ${inScan}
    ORDER BY a.created_at DESC LIMIT ${maxRows}
  )`,
    end: `(
    SELECT a.created_at FROM public.audit_log a
    WHERE ${inScan}
      AND a.created_at >= coalesce((SELECT CASE WHEN count(*) = $3::int THEN min(audit.at) END FROM audit), ${firstTime})
    ORDER BY a.created_at DESC OFFSET ${maxRows} LIMIT 1
  )`,
    endRank: 'exclusive',
  };
}

/** All rows of the moment `before`: one transaction wrote more rows than a page reads. */
export function scanOneTime(index: AuditIndex): AuditScan {
  return {
    rows: `(SELECT ${columns} FROM public.audit_log a WHERE ${inChannel(index)}a.created_at = $4::timestamptz)`,
    end: '$4::timestamptz',
    endRank: 'inclusive',
  };
}

/** The rows of one feature, if there are at most `maxScannedRows`. */
export const scanFeature: AuditScan = {
  rows: `(
    SELECT ${columns} FROM public.audit_log a
    WHERE a.feature_id = $11::uuid AND ${inSearchedTime('a.created_at')} OFFSET 0
  )`,
  end: 'NULL::timestamptz',
  endRank: 'inclusive',
};

const newestRows = `SELECT ${columns} FROM public.audit_log a ORDER BY a.id DESC`;

/** The newest rows by id: without an index by time, finding older ones would read the whole table. */
export const scanNewest: AuditScan = {
  rows: `(
    SELECT * FROM (${newestRows} LIMIT ${maxScannedWithoutIndex}) a WHERE ${inSearchedTime('a.created_at')}
  )`,
  end: `(
    SELECT CASE WHEN count(*) > ${maxScannedWithoutIndex} THEN least(greatest(min(a.created_at), ${firstTime}), ${lastTime}) END
    FROM (${newestRows} LIMIT ${maxScannedWithoutIndex + 1}) a
  )`,
  endRank: 'inclusive',
};
