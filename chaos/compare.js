/** @import { Segment } from './segment.js' */
/** @import { CommittedEvent, Ledger } from './ledger.js' */

/**
 * Commit times are written a moment before the commit can be seen: of two that are closer than this nobody
 * can say which one a read saw first. In milliseconds.
 */
const commitSkewMs = 1_000;
/** A large transaction may delay the rest of a small one for this long, in milliseconds. */
const pagesWithinMs = 60_000;
/** How long events may go on after a right was taken away, in milliseconds: the servers look every 3 s, and may be stopped for 8 s. */
const revokedWithinMs = 15_000;

/**
 * - `lost`: committed, and never told
 * - `repeated`: told twice in a segment
 * - `invented`: never committed
 * - `disordered`: told after an event of a later transaction that was both written and committed later
 * - `foreign`: of a channel that the client's user might not see
 *
 * @typedef {'lost' | 'repeated' | 'invented' | 'disordered' | 'foreign'} Fault
 */

/**
 * `event` is null, and `key` tells what came, where it was invented.
 *
 * @typedef {{ readonly fault: Fault, readonly segment: Segment, readonly event: CommittedEvent | null, readonly key: string }} Breach
 */

/**
 * A right that was taken away, and when it was given back, in milliseconds since the epoch.
 *
 * @typedef {{ readonly userId: string, readonly projectId: string, readonly fromMs: number, readonly untilMs: number }} Revocation
 */

/**
 * What a client was told, compared with what was committed.
 *
 * @param {Segment} segment
 * @param {Ledger} ledger
 * @param {readonly Revocation[]} revocations
 * @param {number} [settledMs] what was committed later than this a client may not have been told yet; default never
 * @returns {Breach[]}
 */
export function compare(segment, ledger, revocations, settledMs = Infinity) {
  /** @type {Breach[]} */
  const breaches = [];
  /**
   * @param {Fault} fault
   * @param {CommittedEvent | null} event
   * @param {string} key
   */
  const found = (fault, event, key) => breaches.push({ fault, segment, event, key });
  const revoked = revocations.filter(
    ({ userId, projectId }) => userId === segment.userId && projectId === segment.channel.projectId,
  );
  /** @type {Set<CommittedEvent>} */
  const told = new Set();
  /** @type {CommittedEvent[]} */
  const inOrder = [];
  let latestMs = -Infinity;
  for (const { key, atMs } of segment.received) {
    const candidates = candidatesFor(segment, ledger, key);
    const event = candidates.find((candidate) => !told.has(candidate)) ?? candidates[0] ?? null;
    if (event === null) {
      found('invented', null, key);
      continue;
    }
    if (event.environmentId !== segment.channel.environmentId) found('foreign', event, key);
    if (told.has(event)) {
      found('repeated', event, key);
      continue;
    }
    if (isRevoked(event, atMs, revoked)) found('foreign', event, key);
    if (
      latestMs > event.committedMs + commitSkewMs &&
      isLate(event, inOrder) &&
      !ledger.readsPages(atMs, pagesWithinMs)
    )
      found('disordered', event, key);
    if (decidedBefore(event, inOrder)) found('disordered', event, key);
    told.add(event);
    inOrder.push(event);
    latestMs = Math.max(latestMs, event.committedMs);
  }
  for (const event of ledger.of(segment.channel)) {
    if (told.has(event) || event.committedMs <= segment.fromMs) continue;
    // Of a segment that has ended, what came last tells how far it had got.
    const dueMs = segment.untilMs === null ? settledMs : latestMs - commitSkewMs;
    if (event.committedMs < dueMs) found('lost', event, event.id);
  }
  return breaches;
}

/**
 * @param {Segment} segment
 * @param {Ledger} ledger
 * @param {string} key
 */
function candidatesFor({ named, channel, fromMs }, ledger, key) {
  if (named === 'plain') {
    const all = ledger.byPlainKey(channel, key);
    // Two events can have the same key. Those from before the connection are not told of. One of the moment in which
    // the client connected may have been or not.
    const since = all.filter(({ committedMs }) => committedMs > fromMs);
    const justBefore = all.filter(
      ({ committedMs }) => committedMs <= fromMs && committedMs > fromMs - commitSkewMs,
    );
    return since.length + justBefore.length > 0 ? [...since, ...justBefore] : all;
  }
  const event = ledger.byId.get(key);
  return event === undefined ? [] : [event];
}

/**
 * @param {CommittedEvent} event
 * @param {number} atMs
 * @param {readonly Revocation[]} revoked
 */
function isRevoked({ committedMs }, atMs, revoked) {
  return revoked.some(({ fromMs, untilMs }) => committedMs > fromMs + revokedWithinMs && atMs < untilMs);
}

/**
 * Whether it comes after one of a later transaction that was written later and committed later. A read returns
 * everything that is committed, page by page in the order of transactions, within a page in the order of rows. So no
 * read returns that one first.
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
