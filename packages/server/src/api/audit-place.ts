/** A place in a channel's history: after it, downwards, comes what is older. */
export interface AuditPlace {
  /** RFC 3339, microseconds in UTC. */
  readonly at: string;
  /** What comes first of one moment, downwards: 2 decisions on requests, 1 requests, 0 the audit log. 3: before all of it. */
  readonly rank: number;
  /** The number of the audit log's entry, 0 after the last one of the moment; null at a request. */
  readonly auditId: string | null;
  /** The request's id; null at an entry of the audit log. */
  readonly changeId: string | null;
}

const maxBigint = 2n ** 63n - 1n;
const time = String.raw`(?<at>(?!0000)\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z)`;
const form = new RegExp(
  String.raw`^${time}_(?<rank>0_(?<auditId>\d{1,19})|[12]_(?<changeId>[\da-f]{8}(-[\da-f]{4}){3}-[\da-f]{12})|3)$`,
);

/** Reads what a page gave as `next`; null for anything else, which no query must see. */
export function parseAuditPlace(text: string): AuditPlace | null {
  const { at, rank, auditId = null, changeId = null } = form.exec(text)?.groups ?? {};
  if (at === undefined || rank === undefined || !isTime(at)) return null;
  if (auditId !== null && BigInt(auditId) > maxBigint) return null;
  return { at, rank: Number(rank.charAt(0)), auditId, changeId };
}

/** Whether what stands at the place is older than the other place. */
export function isBelow(place: AuditPlace, other: AuditPlace): boolean {
  if (place.at !== other.at) return place.at < other.at;
  if (place.rank !== other.rank) return place.rank < other.rank;
  if (place.changeId !== null && other.changeId !== null) return place.changeId < other.changeId;
  return BigInt(place.auditId ?? 0) < BigInt(other.auditId ?? 0);
}

/** Whether there is such a day and such an hour: a Date takes February 30th for a day in March. */
function isTime(text: string): boolean {
  const date = new Date(text);
  return !Number.isNaN(date.getTime()) && date.toISOString().slice(0, 19) === text.slice(0, 19);
}
