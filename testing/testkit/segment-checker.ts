import { isFeed } from './channel.ts';
import type { CommittedEvent, History } from './history.ts';
import type { Segment } from './segment.ts';

/**
 * The order of two commits is unknown if their times are closer than this, in milliseconds: PostgreSQL takes the commit
 * time shortly before the commit becomes visible.
 */
const commitSkewMs = 1_000;
/**
 * A user may receive events for this long after a right was revoked, in milliseconds: the servers of chaos recheck rights
 * every 3 s, and a fault stops them for up to 8 s.
 */
const revokeDelayMs = 15_000;
/** The rights of a snapshot of the approvals feed can be so much older than the start of its segment, in milliseconds. */
const snapshotMs = 30_000;

/**
 * - `lost`: committed, but not received
 * - `repeated`: received twice in a segment
 * - `invented`: received, but not committed
 * - `disordered`: received after an event of a later transaction that was both written and committed later, although no
 *   page of the reader can have ended before it in its transaction. One from before the segment may be sent again after a
 *   resume: a cursor excludes what a crash could undo, also if the snapshot shows it (rule 4 of Order in PROTOCOL.md)
 * - `foreign`: of a channel that the client's user must not see
 * - `contents`: a step with contents that the request did not have then or later
 */
type AnomalyKind = 'lost' | 'repeated' | 'invented' | 'disordered' | 'foreign' | 'contents';

export interface Anomaly {
  readonly kind: AnomalyKind;
  readonly segment: Segment;
  /** Null for an invented event. */
  readonly event: CommittedEvent | null;
  /** Identifies the event in the segment. */
  readonly key: string;
}

/**
 * A membership that was missing from `fromMs` until `untilMs`, in milliseconds since the epoch. It may also have been
 * missing from `requestedMs` and until `restoredMs`: a change of rights may have to wait for a lock.
 */
export interface Revocation {
  readonly userId: string;
  readonly projectId: string;
  requestedMs: number;
  fromMs: number;
  untilMs: number;
  restoredMs: number;
}

/**
 * Compares what a client received with what was committed. Events committed after `quiescedAtMs` may still be missing;
 * by default none may.
 */
export function checkSegment(
  segment: Segment,
  history: History,
  revocations: readonly Revocation[],
  quiescedAtMs = Infinity,
): Anomaly[] {
  const anomalies: Anomaly[] = [];
  const found = (kind: AnomalyKind, event: CommittedEvent | null, key: string): void => {
    anomalies.push({ kind, segment, event, key });
  };
  const revoked = revocations.filter(({ userId }) => userId === segment.userId);
  const received = new Set<CommittedEvent>();
  const inOrder: CommittedEvent[] = [];
  /** The highest id of the received steps, by request and entity. */
  const latestSteps = new Map<string, number>();
  /** The highest received id of each transaction. */
  const latestIds = new Map<number, number>();
  let latestMs = -Infinity;
  for (const { key, atMs, contents } of segment.received) {
    const candidates = candidatesFor(segment, history, key);
    const event = candidates.find((candidate) => !received.has(candidate)) ?? candidates[0];
    if (event === undefined) {
      found('invented', null, key);
      continue;
    }
    if (!isOf(segment, event)) found('foreign', event, key);
    if (received.has(event)) {
      found('repeated', event, key);
      continue;
    }
    if (isRevoked(event, atMs, revoked)) found('foreign', event, key);
    const isRepeatable = event.committedMs <= segment.fromMs;
    const isDisordered =
      latestMs > event.committedMs + commitSkewMs &&
      isLate(event, inOrder) &&
      !history.mayBeLate(event, atMs);
    // The steps of a request are written one after the other.
    const step = `${event.changeId} ${event.entityId}`;
    const latestStep = latestSteps.get(step) ?? 0;
    const isAfterLaterStep = event.changeId !== null && latestStep > Number(event.id);
    if (!isRepeatable && (isDisordered || isAfterLaterStep)) found('disordered', event, key);
    if (contents !== undefined && !history.hadContents(event, contents)) found('contents', event, key);
    received.add(event);
    inOrder.push(event);
    latestSteps.set(step, Math.max(latestStep, Number(event.id)));
    latestIds.set(event.xid, Math.max(latestIds.get(event.xid) ?? 0, Number(event.id)));
    latestMs = Math.max(latestMs, event.committedMs);
  }
  for (const event of history.of(segment.channel)) {
    if (received.has(event) || event.committedMs <= segment.fromMs) continue;
    // A segment that has ended had to contain the events up to its last one, except later pages of a transaction.
    const { untilMs } = segment;
    const isAhead = untilMs !== null && history.mayBeLate(event, untilMs);
    if (isAhead && Number(event.id) > (latestIds.get(event.xid) ?? 0)) continue;
    const dueMs = untilMs === null ? quiescedAtMs : latestMs - commitSkewMs;
    if (event.committedMs < dueMs && !mayBeHidden(event, segment, revoked)) found('lost', event, event.id);
  }
  return anomalies;
}

function candidatesFor(
  { keyedBy, channel, fromMs }: Segment,
  history: History,
  key: string,
): readonly CommittedEvent[] {
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

function isOf({ channel }: Segment, { projectId, environmentId, changeId }: CommittedEvent): boolean {
  return isFeed(channel)
    ? changeId !== null && channel.projectIds.includes(projectId)
    : environmentId === channel.environmentId;
}

function isRevoked(
  { projectId, committedMs }: CommittedEvent,
  atMs: number,
  revoked: readonly Revocation[],
): boolean {
  return revoked.some(
    (one) => one.projectId === projectId && committedMs > one.fromMs + revokeDelayMs && atMs < one.untilMs,
  );
}

/**
 * Whether the feed may lack the event: its project was not in the feed when the segment began. Other rights end the
 * segment, unless the client does not notice because it has them only while it is away.
 */
function mayBeHidden(
  { projectId }: CommittedEvent,
  { channel, fromMs }: Segment,
  revoked: readonly Revocation[],
): boolean {
  if (!isFeed(channel)) return false;
  return revoked.some(
    (one) =>
      one.projectId === projectId && one.requestedMs <= fromMs && one.restoredMs >= fromMs - snapshotMs,
  );
}

/**
 * Whether `event` was received after an event of a later transaction that was both written and committed later. A read
 * returns all committed events, in pages ordered by transaction and within a page by row, so it cannot return the later
 * event first.
 */
function isLate({ id, xid, committedMs }: CommittedEvent, before: readonly CommittedEvent[]): boolean {
  return before.some(
    (other) =>
      other.xid > xid && Number(other.id) > Number(id) && other.committedMs > committedMs + commitSkewMs,
  );
}
