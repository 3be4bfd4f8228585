import type { Anomaly, Revocation } from '../testkit/segment-checker.ts';
import type { Segment } from '../testkit/segment.ts';
import type { Outcome } from './checker.ts';

/** Notes this long before and after the commit of the event and its arrival are listed, in milliseconds. */
const aroundMs = { before: 2_000, after: 3_000 };
/** Faults and entries of the client's log are listed for longer, in milliseconds. */
const faultsMs = { before: 15_000, after: 15_000 };
/** Maximum number of notes of a server; the nearest in time are listed. */
const maxServerLines = 60;
/** Maximum number of events that the client received before; the last ones are listed. */
const maxReceipts = 30;

export interface InjectedFault {
  readonly atMs: number;
  readonly endMs: number;
  readonly kind: string;
  readonly detail: string;
}

/**
 * Lists what happened around the event of an anomaly, one line each: its commit, the servers' reads and sends, the log
 * of the client, and the faults.
 */
export function timelineOf(
  { event, segment, key }: Anomaly,
  { startedAtMs, clients, system, faults }: Outcome,
): string[] {
  const receipts = segment.received.filter((one) => keysOf(event, key).includes(one.key));
  const moments = [event?.committedMs, receipts[0]?.atMs].filter((atMs) => atMs !== undefined);
  const near =
    ({ before, after }: { readonly before: number; readonly after: number }) =>
    (atMs: number): boolean =>
      moments.some((moment) => atMs >= moment - before && atMs <= moment + after);
  const lines: (readonly [atMs: number, text: string])[] = [
    [segment.fromMs, `${segment.client}: the segment starts`],
  ];
  if (segment.untilMs !== null) lines.push([segment.untilMs, `${segment.client}: the segment ends`]);
  if (event !== null) {
    const what = `the event ${event.id} (${event.action}) of project ${event.projectId}`;
    lines.push([event.committedMs, `${what} is committed`]);
  }
  // An event can be disordered only after those before it; a lost one is missing between the last ones.
  const [receipt] = receipts;
  const end = receipt === undefined ? segment.received.length : segment.received.indexOf(receipt);
  for (const { atMs, key: other } of segment.received.slice(0, end).slice(-maxReceipts))
    lines.push([atMs, `${segment.client} receives the event ${other}`]);
  for (const { atMs } of receipts) lines.push([atMs, `${segment.client} receives it`]);
  const others = clients.flatMap(({ segments }) => segments).filter((other) => other !== segment);
  const firstMs = firstReceipt(others, segment, keysOf(event, key));
  if (firstMs !== null) lines.push([firstMs, 'the first of the other clients receives it']);
  const own = clients.find(({ name }) => name === segment.client)?.log ?? [];
  const isNear = near(aroundMs);
  const mayMatter = near(faultsMs);
  const endedMs = segment.untilMs ?? Infinity;
  for (const [atMs, text] of own) {
    if (mayMatter(atMs) || Math.abs(atMs - endedMs) <= aroundMs.before) {
      lines.push([atMs, `${segment.client}: ${text}`]);
    }
  }
  for (const revocation of system.revocations) {
    if (revocation.userId === segment.userId) lines.push(...linesOf(revocation));
  }
  for (const { atMs, endMs, kind, detail } of faults) {
    if (mayMatter(atMs) || mayMatter(endMs)) lines.push([atMs, `fault: ${kind}, ${detail}`]);
  }
  const distanceMs = (atMs: number): number => Math.min(...moments.map((moment) => Math.abs(moment - atMs)));
  const notes = system.servers.flatMap(({ name, notes: all }) =>
    all
      .filter(([atMs, text]) => isNear(atMs) && !isOfOtherUser(text, segment.userId))
      .sort(([one], [other]) => distanceMs(one) - distanceMs(other))
      .slice(0, maxServerLines)
      .map(([atMs, text]) => [atMs, `${name}: ${text}`] as const),
  );
  return [...lines, ...notes]
    .sort(([one], [other]) => one - other)
    .map(([atMs, text]) => `${((atMs - startedAtMs) / 1_000).toFixed(3).padStart(9)} s  ${text}`);
}

/** When the right was revoked and restored. The right of an approver may be missing from the start, and one until the end. */
function linesOf({ projectId, ...times }: Revocation): (readonly [atMs: number, text: string])[] {
  const { requestedMs, fromMs, untilMs, restoredMs } = times;
  const right = `the right to view project ${projectId}`;
  return (
    [
      [requestedMs, `${right} is being revoked`],
      [fromMs, `${right} is revoked`],
      [untilMs, `${right} is being restored`],
      [restoredMs, `${right} is restored`],
    ] as const
  ).filter(([atMs]) => Number.isFinite(atMs));
}

function isOfOtherUser(note: string, userId: string): boolean {
  return note.startsWith('connection_') && !note.includes(`userId: '${userId}'`);
}

/** The keys of the event in both dialects. */
function keysOf(event: Anomaly['event'], key: string): string[] {
  return event === null ? [key] : [event.id, event.plainKey];
}

function firstReceipt(others: readonly Segment[], segment: Segment, keys: readonly string[]): number | null {
  let firstMs: number | null = null;
  for (const { channel, received } of others) {
    if (channel !== segment.channel) continue;
    const receipt = received.find(({ key }) => keys.includes(key));
    if (receipt !== undefined) firstMs = Math.min(receipt.atMs, firstMs ?? Infinity);
  }
  return firstMs;
}
