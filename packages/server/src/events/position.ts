import type { FlagEvent } from './event.js';

/**
 * A place in the database's own history. Whoever has been given everything up to it has missed
 * nothing but rows with `xid >= watermark`, `created_at > floor` and an xid that is not in `seen`.
 *
 * Both ids survive a crash of the database: it never again hands out an id below them.
 *
 * Where the view does not tell transaction ids, events are listed by a hash, the watermark is 0, and the
 * floor alone says what is too old to be missed.
 */
export interface Position {
  /** Names the history that the ids belong to: the cluster, the database and the timeline. */
  readonly history: string;
  /** Every transaction below this id has ended, and its rows have been delivered. */
  readonly watermark: bigint;
  /** Of two positions the one with the larger horizon is the later one. */
  readonly horizon: bigint;
  /** No row that was still to come has an older `created_at`. RFC 3339, UTC, microseconds. */
  readonly floor: string;
  /** The marks, from the watermark on, of events that have been delivered all the same. */
  readonly seen: readonly bigint[];
  /** Whether the view tells no transaction ids. */
  readonly byTime: boolean;
}

/** Tells which events somebody at the position, to whom all before a later one have come, has not been given. */
export function missedAt(position: Position): (event: FlagEvent) => boolean {
  const seen = new Set(position.seen);
  return ({ mark, createdAt }) =>
    mark >= position.watermark && !seen.has(mark) && (!position.byTime || createdAt > position.floor);
}

/** More than this many are left out: then their events may repeat, and a client knows an event by its id. */
const maxSeen = 400;
/** As much as goes into one line of a header everywhere: a stream is resumed by Last-Event-ID. */
const maxCursorLength = 7_680;

/** Only what cannot be taken back by a crash goes out in a cursor. */
export function durableSeen(seen: Iterable<bigint>, horizon: bigint): bigint[] {
  const durable = [...seen].filter((xid) => xid < horizon);
  return durable.sort(byAge).slice(0, maxSeen);
}

/**
 * The same for a snapshot's cursor, of which `seen` are the transactions that count most first: it
 * holds as many as a cursor can. Whoever was told to take a snapshot because too many events seemed to
 * be missed would be told so again and again, if those that the snapshot shows seemed to be missed too.
 */
export function positionOfSnapshot(from: Position, horizon: bigint, seen: readonly bigint[]): Position {
  const durable = from.byTime ? seen : seen.filter((xid) => xid < horizon);
  for (let count = durable.length; ; count = Math.floor(count * 0.9)) {
    const position = { ...from, horizon, seen: durable.slice(0, count).sort(byAge) };
    // Two characters each at the least.
    if (count * 2 < maxCursorLength && encodeCursor(position).length <= maxCursorLength) return position;
  }
}

function byAge(a: bigint, b: bigint): number {
  return a < b ? -1 : 1;
}

/**
 * A position as a cursor: opaque to clients, the same on every server, and short. Ids are written in
 * base 36, those after the watermark as distances from the one before.
 */
export function encodeCursor(position: Position): string {
  const { history, watermark, horizon, floor, seen, byTime } = position;
  let before = watermark;
  const distances = seen.map((xid) => {
    const distance = xid - before;
    before = xid;
    return distance.toString(36);
  });
  const fields = [
    byTime ? versionByTime : version,
    history,
    watermark.toString(36),
    (horizon - watermark).toString(36),
    floor,
    distances.join('.'),
  ];
  return Buffer.from(fields.join('|')).toString('base64url');
}

const cursors = new WeakMap<Position, string>();

/** The position's cursor, made once however many peers get it. */
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
  const [found, history = '', watermarkText = '', horizonText = '', floor = '', seenText = ''] = fields;
  if (fields.length !== 6 || (found !== version && found !== versionByTime)) return null;
  if (!/^[\w-]{1,64}$/.test(history) || !isTimestamp(floor)) return null;
  const watermark = parseId(watermarkText);
  const ahead = parseId(horizonText);
  if (watermark === null || ahead === null) return null;
  const seen: bigint[] = [];
  let before = watermark;
  for (const text of seenText === '' ? [] : seenText.split('.')) {
    const distance = parseId(text);
    if (distance === null || distance < 0n) return null;
    before += distance;
    seen.push(before);
  }
  if (watermark + ahead > maxId || before > maxId) return null;
  return { history, watermark, horizon: watermark + ahead, floor, seen, byTime: found === versionByTime };
}

const version = '1';
const versionByTime = '1t';
const maxId = 2n ** 63n - 1n;
/** PostgreSQL has no year 0, and no floor is as old as this. */
const oldestFloorMs = Date.UTC(1000, 0);
const timestampPattern = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$/;

/** Of a day and a second that there are: JavaScript takes the 31st of February for the 3rd of March. */
function isTimestamp(text: string): boolean {
  if (!timestampPattern.test(text)) return false;
  const timeMs = Date.parse(text);
  return timeMs > oldestFloorMs && new Date(timeMs).toISOString().slice(0, 19) === text.slice(0, 19);
}

function parseId(text: string): bigint | null {
  if (!/^-?[0-9a-z]{1,13}$/.test(text)) return null;
  let value = 0n;
  const negative = text.startsWith('-');
  for (const digit of negative ? text.slice(1) : text) value = value * 36n + BigInt(parseInt(digit, 36));
  // A horizon may lie below the watermark only before the first durable read.
  return negative ? -value : value;
}
