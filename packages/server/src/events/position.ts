/**
 * Which transactions have been delivered. All rows of a transaction become visible at once, so its id decides
 * for all of them.
 *
 * Of a snapshot that was read completely it says: below `xmin` all are delivered, from `xmax` on none, and in
 * between all but those that were in flight.
 */
export interface Coverage {
  /** Every transaction below this id is delivered. */
  readonly xmin: bigint;
  /** No transaction from this id on is delivered. Of two coverages of one history the later has the larger one. */
  readonly xmax: bigint;
  /**
   * Which of the transactions in between `xids` lists: `open` those that are not delivered, `delivered` those
   * that are. A replica's snapshots do not show which transactions are in flight, so there they are `delivered`.
   */
  readonly listed: 'open' | 'delivered';
  /** In ascending order, each at least `xmin` and below `xmax`. */
  readonly xids: readonly bigint[];
}

/** A place in the history of a database. Written out it is a cursor. It holds no times. */
export interface Position extends Coverage {
  /** Names the history that the ids belong to: the cluster, the database, the timeline and what is read. */
  readonly history: string;
}

/** The largest bigint of PostgreSQL. */
export const maxId = 2n ** 63n - 1n;

/** Whether the transaction is delivered. */
export function covers(coverage: Coverage, xid: bigint): boolean {
  if (xid < coverage.xmin) return true;
  if (xid >= coverage.xmax) return false;
  return includes(coverage.xids, xid) === (coverage.listed === 'delivered');
}

/** Binary search: a coverage may list thousands, and is asked about each event. */
function includes(sorted: readonly bigint[], xid: bigint): boolean {
  let low = 0;
  let high = sorted.length - 1;
  while (low <= high) {
    const middle = (low + high) >> 1;
    const found = sorted[middle] ?? 0n;
    if (found === xid) return true;
    if (found < xid) low = middle + 1;
    else high = middle - 1;
  }
  return false;
}

/** Covers what one of the two covers, which are of one history. */
export function unionOf(a: Coverage, b: Coverage): Coverage {
  const [earlier, later] = a.xmax < b.xmax ? [a, b] : [b, a];
  // A promoted replica.
  if (earlier.listed !== later.listed) return later;
  const { xmax, listed } = later;
  const xmin = earlier.xmin > later.xmin ? earlier.xmin : later.xmin;
  const both = [...new Set([...earlier.xids, ...later.xids])]
    .filter((xid) => xid >= xmin)
    .toSorted(ascending);
  if (listed === 'delivered') return { xmin, xmax, listed, xids: both };
  return { xmin, xmax, listed, xids: both.filter((xid) => !covers(earlier, xid) && !covers(later, xid)) };
}

/** Inclusive ranges of transaction ids, ascending, as bigint[] parameters take them. */
export interface XidRanges {
  readonly lows: readonly string[];
  readonly highs: readonly string[];
}

/** The transactions that are not delivered, without those that are `left out`. */
export function uncoveredRanges(coverage: Coverage, leftOut: Iterable<bigint> = []): XidRanges {
  const { xmin, xmax, listed, xids } = coverage;
  let ranges: [bigint, bigint][] =
    listed === 'open'
      ? [...xids.map((xid): [bigint, bigint] => [xid, xid]), [xmax, maxId]]
      : without([[xmin, maxId]], xids);
  ranges = without(ranges, [...leftOut].toSorted(ascending));
  const merged: [bigint, bigint][] = [];
  for (const range of ranges) {
    const last = merged.at(-1);
    if (last !== undefined && last[1] + 1n === range[0]) last[1] = range[1];
    else merged.push(range);
  }
  return { lows: merged.map(([low]) => low.toString()), highs: merged.map(([, high]) => high.toString()) };
}

/** `sorted` cut out of the ranges, which are ascending. */
function without(ranges: readonly [bigint, bigint][], sorted: readonly bigint[]): [bigint, bigint][] {
  const left: [bigint, bigint][] = [];
  let next = 0;
  for (const [low, high] of ranges) {
    let from = low;
    while (next < sorted.length && (sorted[next] ?? 0n) < from) next += 1;
    for (; next < sorted.length && (sorted[next] ?? 0n) <= high; next += 1) {
      const cut = sorted[next] ?? 0n;
      if (cut > from) left.push([from, cut - 1n]);
      from = cut + 1n;
    }
    if (from <= high) left.push([from, high]);
  }
  return left;
}

/** For sorting transaction ids. */
export function ascending(a: bigint, b: bigint): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

/**
 * What a complete read in a snapshot covers, from the text of `pg_current_snapshot()`: `xmin:xmax:xip,xip`. On a
 * replica the list is empty whatever is in flight (PostgreSQL keeps it elsewhere), so nothing of it is taken there.
 */
export function coverageOfSnapshot(text: string, isReplica: boolean): Coverage {
  const [xmin = '0', xmax = '0', xip = ''] = text.split(':');
  const bounds = { xmin: BigInt(xmin), xmax: BigInt(xmax) };
  if (isReplica) return { ...bounds, listed: 'delivered', xids: [] };
  const open = xip === '' ? [] : xip.split(',').map(BigInt).toSorted(ascending);
  return { ...bounds, listed: 'open', xids: open };
}

/** A cursor lists at most this many transactions; from the next one on everything counts as not delivered. */
const maxListed = 1_000;
/** What fits into one line of a header everywhere: a stream is resumed by Last-Event-ID. */
const maxCursorLength = 7_680;
const version = '2';
const listedCodes = { open: 'o', delivered: 'd' } as const;

/**
 * A position as a cursor: opaque to clients, the same on every server, and short. Ids are written in base 36,
 * those that are listed as distances from the one before.
 */
export function encodeCursor(position: Position): string {
  const { history, xmin, xmax, listed, xids } = shortened(position);
  let before = xmin;
  const distances = xids.map((xid) => {
    const distance = xid - before;
    before = xid;
    return distance.toString(36);
  });
  const fields = [
    version,
    history,
    xmin.toString(36),
    (xmax - xmin).toString(36),
    listedCodes[listed],
    distances.join('.'),
  ];
  return Buffer.from(fields.join('|')).toString('base64url');
}

/** Claims less than the position where that lists too many: then events may repeat, under the same id. */
function shortened(position: Position): Position {
  const { listed, xids } = position;
  const cut = xids[maxListed];
  if (cut === undefined) return position;
  const kept = xids.slice(0, maxListed);
  return listed === 'open' ? { ...position, xmax: cut, xids: kept } : { ...position, xids: kept };
}

const cursors = new WeakMap<Position, string>();

/** The position's cursor, encoded once for all connections. */
export function cursorOf(position: Position): string {
  let cursor = cursors.get(position);
  if (cursor === undefined) {
    cursor = encodeCursor(position);
    cursors.set(position, cursor);
  }
  return cursor;
}

/** The position in a cursor that a client sent; null when it is not one. */
export function decodeCursor(cursor: string): Position | null {
  if (cursor.length > maxCursorLength || !/^[\w-]+$/.test(cursor)) return null;
  const fields = Buffer.from(cursor, 'base64url').toString('utf8').split('|');
  const [found, history = '', xminText = '', aheadText = '', code = '', listText = ''] = fields;
  if (fields.length !== 6 || found !== version || !/^[\w-]{1,64}$/.test(history)) return null;
  const listed = code === 'o' ? 'open' : code === 'd' ? 'delivered' : null;
  const xmin = parseId(xminText);
  const ahead = parseId(aheadText);
  if (listed === null || xmin === null || ahead === null) return null;
  const xmax = xmin + ahead;
  const xids: bigint[] = [];
  let before = xmin;
  for (const [index, text] of (listText === '' ? [] : listText.split('.')).entries()) {
    const distance = parseId(text);
    if (distance === null || (index > 0 && distance === 0n)) return null;
    before += distance;
    xids.push(before);
  }
  if (xmax > maxId || before > xmax || xids.length > maxListed) return null;
  return { history, xmin, xmax, listed, xids };
}

function parseId(text: string): bigint | null {
  if (!/^[0-9a-z]{1,13}$/.test(text)) return null;
  let value = 0n;
  for (const digit of text) value = value * 36n + BigInt(parseInt(digit, 36));
  return value;
}
