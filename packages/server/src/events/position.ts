/**
 * Which transactions are delivered. All rows of a transaction become visible at the same time, so its id stands for all
 * of them. After a complete read in a snapshot these are all below `xmin`, and between `xmin` and `xmax` all but those
 * that were in flight.
 */
export interface Coverage {
  /** Every transaction below this id is delivered. */
  readonly xmin: bigint;
  /** No transaction from this id on is delivered. It never decreases within a history. */
  readonly xmax: bigint;
  /**
   * Whether `xids` lists the transactions in between that are not delivered (`open`) or those that are (`delivered`:
   * on a replica, whose snapshots do not list transactions in flight).
   */
  readonly listed: 'open' | 'delivered';
  /** In ascending order, each at least `xmin` and below `xmax`. */
  readonly xids: readonly bigint[];
}

/** A coverage with its history. Its encoded form is a cursor. */
export interface Position extends Coverage {
  /** Identifies the cluster, the database, the timeline and the source that the ids belong to. */
  readonly history: string;
}

/** PostgreSQL's largest bigint. */
export const maxId = 2n ** 63n - 1n;

/** Whether the transaction is delivered. */
export function covers(coverage: Coverage, xid: bigint): boolean {
  if (xid < coverage.xmin) return true;
  if (xid >= coverage.xmax) return false;
  return includes(coverage.xids, xid) === (coverage.listed === 'delivered');
}

/** Binary search: a coverage may list thousands of ids and is checked for each event. */
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

/** Covers what at least one of the two covers. Both belong to one history. */
export function unionOf(a: Coverage, b: Coverage): Coverage {
  const [earlier, later] = a.xmax < b.xmax ? [a, b] : [b, a];
  // The replica was promoted.
  if (earlier.listed !== later.listed) return later;
  const { xmax, listed } = later;
  const xmin = earlier.xmin > later.xmin ? earlier.xmin : later.xmin;
  const both = [...new Set([...earlier.xids, ...later.xids])]
    .filter((xid) => xid >= xmin)
    .toSorted(ascending);
  if (listed === 'delivered') return { xmin, xmax, listed, xids: both };
  return { xmin, xmax, listed, xids: both.filter((xid) => !covers(earlier, xid) && !covers(later, xid)) };
}

/** Inclusive, ascending ranges of transaction ids, as parameters of type bigint[]. */
export interface XidRanges {
  readonly lows: readonly string[];
  readonly highs: readonly string[];
}

/** The transactions that are neither covered nor in `leftOut`. */
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

/** The ascending ranges without the ids in `sorted`. */
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

export function ascending(a: bigint, b: bigint): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

/**
 * The coverage of a complete read in a snapshot, from the text of `pg_current_snapshot()`: `xmin:xmax:xip,xip`. On a
 * replica, PostgreSQL leaves the list empty.
 */
export function coverageOfSnapshot(text: string, isReplica: boolean): Coverage {
  const [xmin = '0', xmax = '0', xip = ''] = text.split(':');
  const bounds = { xmin: BigInt(xmin), xmax: BigInt(xmax) };
  if (isReplica) return { ...bounds, listed: 'delivered', xids: [] };
  const open = xip === '' ? [] : xip.split(',').map(BigInt).toSorted(ascending);
  return { ...bounds, listed: 'open', xids: open };
}

/** How many transactions a cursor lists. All from the next one on count as not delivered. */
const maxListed = 1_000;
/** Fits into a request header of any server: event streams resume with Last-Event-ID. */
const maxCursorLength = 7_680;
const version = '2';
const listedCodes = { open: 'o', delivered: 'd' } as const;

/** The cursor of a position: short, and the same on every server. */
export function encodeCursor(position: Position): string {
  return Buffer.from(textOf(shortened(position))).toString('base64url');
}

/** The text of a position, which no other one has. Ids are in base 36, listed ones as differences. */
export function textOf({ history, xmin, xmax, listed, xids }: Position): string {
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
  return fields.join('|');
}

/** Covers less than the position if that lists too many transactions; then events may repeat with the same id. */
function shortened(position: Position): Position {
  const { listed, xids } = position;
  const cut = xids[maxListed];
  if (cut === undefined) return position;
  const kept = xids.slice(0, maxListed);
  return listed === 'open' ? { ...position, xmax: cut, xids: kept } : { ...position, xids: kept };
}

const cursors = new WeakMap<Position, string>();

/** Encodes each position once for all connections. */
export function cursorOf(position: Position): string {
  let cursor = cursors.get(position);
  if (cursor === undefined) {
    cursor = encodeCursor(position);
    cursors.set(position, cursor);
  }
  return cursor;
}

/** The position of a cursor that a client sent; null if it is invalid. */
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
