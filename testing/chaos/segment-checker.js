/** @import { Segment } from './segment.js' */
/** @import { CommittedEvent, History } from './history.js' */

/**
 * The order of two commits is unknown if their times are closer than this, in milliseconds: PostgreSQL takes the commit
 * time shortly before the commit becomes visible.
 */
const commitSkewMs = 1_000;
/** A large transaction that is read in pages may delay other events for this long, in milliseconds. */
const pagedReadMs = 60_000;
/**
 * A user may receive events for this long after a right was revoked, in milliseconds: the servers recheck rights every
 * 3 s, and a fault stops them for up to 8 s.
 */
const revokeDelayMs = 15_000;

/**
 * - `lost`: committed, but not received
 * - `repeated`: received twice in a segment
 * - `invented`: received, but not committed
 * - `disordered`: received after an event of a later transaction that was both written and committed later
 * - `foreign`: of a channel that the client's user must not see
 *
 * @typedef {'lost' | 'repeated' | 'invented' | 'disordered' | 'foreign'} AnomalyKind
 */

/**
 * `event`: null for an invented event. `key`: identifies the event in the segment.
 *
 * @typedef {{ readonly kind: AnomalyKind, readonly segment: Segment, readonly event: CommittedEvent | null, readonly key: string }} Anomaly
 */

/**
 * A membership that was revoked at `fromMs` and restored at `untilMs`, in milliseconds since the epoch.
 *
 * @typedef {{ readonly userId: string, readonly projectId: string, readonly fromMs: number, readonly untilMs: number }} Revocation
 */

/**
 * Compares what a client received with what was committed.
 *
 * @param {Segment} segment
 * @param {History} history
 * @param {readonly Revocation[]} revocations
 * @param {number} [quiescedAtMs] events committed later may still be missing; default: none may
 * @returns {Anomaly[]}
 */
export function checkSegment(segment, history, revocations, quiescedAtMs = Infinity) {
  /** @type {Anomaly[]} */
  const anomalies = [];
  /**
   * @param {AnomalyKind} kind
   * @param {CommittedEvent | null} event
   * @param {string} key
   */
  const found = (kind, event, key) => anomalies.push({ kind, segment, event, key });
  const revoked = revocations.filter(
    ({ userId, projectId }) => userId === segment.userId && projectId === segment.channel.projectId,
  );
  /** @type {Set<CommittedEvent>} */
  const received = new Set();
  /** @type {CommittedEvent[]} */
  const inOrder = [];
  let latestMs = -Infinity;
  for (const { key, atMs } of segment.received) {
    const candidates = candidatesFor(segment, history, key);
    const event = candidates.find((candidate) => !received.has(candidate)) ?? candidates[0] ?? null;
    if (event === null) {
      found('invented', null, key);
      continue;
    }
    if (event.environmentId !== segment.channel.environmentId) found('foreign', event, key);
    if (received.has(event)) {
      found('repeated', event, key);
      continue;
    }
    if (isRevoked(event, atMs, revoked)) found('foreign', event, key);
    if (
      latestMs > event.committedMs + commitSkewMs &&
      isLate(event, inOrder) &&
      !history.wasPaging(atMs, pagedReadMs)
    )
      found('disordered', event, key);
    if (decidedBefore(event, inOrder)) found('disordered', event, key);
    received.add(event);
    inOrder.push(event);
    latestMs = Math.max(latestMs, event.committedMs);
  }
  for (const event of history.of(segment.channel)) {
    if (received.has(event) || event.committedMs <= segment.fromMs) continue;
    // A segment that has ended had to contain the events up to its last one.
    const dueMs = segment.untilMs === null ? quiescedAtMs : latestMs - commitSkewMs;
    if (event.committedMs < dueMs) found('lost', event, event.id);
  }
  return anomalies;
}

/**
 * @param {Segment} segment
 * @param {History} history
 * @param {string} key
 */
function candidatesFor({ keyedBy, channel, fromMs }, history, key) {
  if (keyedBy === 'plain') {
    const all = history.byPlainKey(channel, key);
    // Several events can have the same key. A connection receives only later ones; those committed just before it
    // opened may be received or not.
    const since = all.filter(({ committedMs }) => committedMs > fromMs);
    const justBefore = all.filter(
      ({ committedMs }) => committedMs <= fromMs && committedMs > fromMs - commitSkewMs,
    );
    return since.length + justBefore.length > 0 ? [...since, ...justBefore] : all;
  }
  const event = history.byId.get(key);
  return event === undefined ? [] : [event];
}

/**
 * @param {CommittedEvent} event
 * @param {number} atMs
 * @param {readonly Revocation[]} revoked
 */
function isRevoked({ committedMs }, atMs, revoked) {
  return revoked.some(({ fromMs, untilMs }) => committedMs > fromMs + revokeDelayMs && atMs < untilMs);
}

/**
 * Whether `event` was received after an event of a later transaction that was both written and committed later. A read
 * returns all committed events, in pages ordered by transaction and within a page by row, so it cannot return the later
 * event first.
 *
 * @param {CommittedEvent} event
 * @param {readonly CommittedEvent[]} before
 */
function isLate({ id, xid, committedMs }, before) {
  return before.some(
    (other) =>
      other.xid > xid && Number(other.id) > Number(id) && other.committedMs > committedMs + commitSkewMs,
  );
}

/**
 * @param {CommittedEvent} event
 * @param {readonly CommittedEvent[]} before
 */
function decidedBefore({ changeId, action, entityId }, before) {
  if (changeId === null || action !== 'pending') return false;
  return before.some((other) => other.changeId === changeId && other.entityId === entityId);
}
