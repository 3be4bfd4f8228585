import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { approvalsFeed, type Batch, type FlagEvent } from '../../src/events/event.js';
import { covers, cursorOf, decodeCursor, type Position } from '../../src/events/position.js';
import { ReplayBuffer } from '../../src/broadcast/replay-buffer.js';

const channels = ['project/1', 'project/2'];
const keys = [...channels, approvalsFeed];

interface WrittenEvent {
  /** `project/1` or `project/2` */
  readonly channel: string;
  readonly isStep: boolean;
  /** After how many further batches its transaction ends. */
  readonly delay: number;
}

interface Step {
  readonly written: readonly WrittenEvent[];
  /** The keys whose events another reader did not pass on. */
  readonly skipped: readonly string[];
  /** Whether the history is lost before it. */
  readonly isReset: boolean;
}

const written = fc.record({
  channel: fc.constantFrom(...channels),
  isStep: fc.boolean(),
  delay: fc.nat({ max: 2 }),
});
const step: fc.Arbitrary<Step> = fc.record({
  written: fc.array(written, { maxLength: 4 }),
  skipped: fc.oneof({ weight: 4, arbitrary: fc.constant([]) }, fc.subarray(keys)),
  isReset: fc.nat({ max: 9 }).map((number) => number === 0),
});

/** What was delivered: the whole of it, without limits. */
class Delivered {
  readonly positions: Position[] = [at(1n, [])];
  readonly batches: Batch[] = [];
  #nextXid = 1n;
  #open: { event: FlagEvent; batch: number }[] = [];

  add({ written: events, skipped }: Step): Batch {
    const number = this.batches.length;
    for (const { channel, isStep, delay } of events) {
      this.#open.push({ event: eventOf(this.#nextXid, channel, isStep), batch: number + delay });
      this.#nextXid += 1n;
    }
    const ended = this.#open.filter(({ batch }) => batch <= number).map(({ event }) => event);
    this.#open = this.#open.filter(({ batch }) => batch > number);
    const position = at(
      this.#nextXid,
      this.#open.map(({ event }) => event.xid),
    );
    this.positions.push(position);
    const passedOn = ended.filter((event) => keysOf(event).some((key) => !skipped.includes(key)));
    const batch = batchOf(position, passedOn, skipped);
    this.batches.push(batch);
    return batch;
  }
}

describe('the replay buffer', () => {
  it('G5: returns exactly what a position lacks, or null, after any batches, skipped channels and limits', () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 9 }), fc.nat({ max: 6 }), (steps, maxEvents) => {
        const buffer = new ReplayBuffer(maxEvents);
        const delivered = new Delivered();
        /** The batches that were appended, those that the buffer has to have, and the xmax that it begins after. */
        let numbered: Batch[] = [];
        let kept: Batch[] = [];
        let startXmax = 0n;
        let [sequence, resetSequence] = [0, 0];
        for (const each of steps) {
          if (each.isReset) {
            startXmax = delivered.positions.at(-1)?.xmax ?? 0n;
            buffer.reset(startXmax);
            [numbered, kept, resetSequence] = [[], [], sequence];
          }
          const batch = delivered.add(each);
          const { events, skipped = [] } = batch;
          const appended = buffer.append(batch);
          if (events.length + skipped.length > 0) {
            sequence += 1;
            numbered.push(batch);
          }
          expect(buffer.sequence).toBe(sequence);
          if (events.length > 0) kept.push(batch);
          while (kept.length > 1 && countOf(kept) > maxEvents) startXmax = kept.shift()?.snapshotXmax ?? 0n;

          for (const key of keys) {
            expect(appended.get(key)?.events ?? []).toEqual(eventsIn(batch, key));
            const firstKept = kept.flatMap((one) => eventsIn(one, key));
            const skips = numbered.filter((one) => one.skipped?.includes(key) === true);
            for (const position of delivered.positions) {
              const missed = firstKept.filter(({ xid }) => !covers(position, xid));
              const reaches = [startXmax, ...skips.map(({ snapshotXmax }) => snapshotXmax)].every(
                (xmax) => position.xmax > xmax,
              );
              expect(buffer.since(position, key)?.events ?? null).toEqual(
                reaches ? missed.map((event) => withNewestStates(event, firstKept)) : null,
              );
            }
            const isGone = (one: Batch): boolean =>
              one.skipped?.includes(key) === true || (eventsIn(one, key).length > 0 && !kept.includes(one));
            const gone = numbered.findLastIndex(isGone);
            expect(buffer.evicted(key)).toBe(resetSequence + gone + 1);
            for (let after = resetSequence; after <= sequence; after += 1) {
              const expected = numbered
                .slice(after - resetSequence)
                .flatMap((one) => (eventsIn(one, key).length > 0 ? [eventsIn(one, key)] : []));
              const found = buffer.after(after, key)?.map((one) => {
                expect(decodeCursor(one.cursor)).toEqual(one.position);
                return one.events;
              });
              expect(found ?? null).toEqual(gone < after - resetSequence ? expected : null);
            }
          }
        }
      }),
    );
  });

  it('G5: shares no replay between positions whose cursors are equal because they list too many transactions', () => {
    const xids = Array.from({ length: 1_500 }, (_, index) => 1_000n + 2n * BigInt(index));
    const [earlier, later] = [at(4_000n, xids), at(5_000n, xids)];
    expect(cursorOf(earlier)).toBe(cursorOf(later));
    const buffer = new ReplayBuffer(10);
    buffer.append(batchOf(later, [eventOf(4_500n, 'project/1', false)], []));
    expect(buffer.since(later, 'project/1')?.events).toHaveLength(0);
    expect(buffer.since(earlier, 'project/1')?.events).toHaveLength(1);
  });
});

/** A position before `xmax`, at which these transactions were open. */
function at(xmax: bigint, xids: readonly bigint[]): Position {
  return { history: 'h', xmin: xids[0] ?? xmax, xmax, listed: 'open', xids };
}

/** An event of one of two features, and with a step of one of two requests, with their states. */
function eventOf(xid: bigint, channel: string, isStep: boolean): FlagEvent {
  const [projectId = '', environmentId = ''] = channel.split('/');
  return {
    ...{ id: `${xid}`, xid, source: isStep ? 'pending' : 'audit', rowId: `${xid}`, projectId, environmentId },
    ...{ environmentKey: 'prod', entity: 'feature', entityId: 'feature', action: 'updated' },
    ...{ createdAt: '2026-01-01T00:00:00.000000Z', actor: null, committedAt: null },
    ...(xid % 3n === 0n
      ? { featureId: null, featureJson: null }
      : { featureId: `f${xid % 3n}`, featureJson: `"${xid}"` }),
    featureUnreadable: false,
    pendingChangeId: isStep ? `r${xid % 2n}` : null,
    pendingChangeJson: isStep ? `"r${xid}"` : undefined,
    pendingChangeUnreadable: false,
  };
}

function batchOf(position: Position, events: readonly FlagEvent[], skipped: readonly string[]): Batch {
  return {
    ...{ events, skipped, controls: [], seenAtMs: 0, beganAtMs: 0, snapshotXmax: position.xmax },
    ...{ isComplete: true, connection: 1, position },
    read: { coverage: position, durable: position, partial: [], durablePartial: [] },
  };
}

function keysOf({ projectId, environmentId, source }: FlagEvent): string[] {
  return [`${projectId}/${environmentId}`, ...(source === 'pending' ? [approvalsFeed] : [])];
}

/** The events of a batch for the subscribers of this key. */
function eventsIn({ events, skipped = [] }: Batch, key: string): FlagEvent[] {
  return skipped.includes(key) ? [] : events.filter((event) => keysOf(event).includes(key));
}

function countOf(batches: readonly Batch[]): number {
  return batches.reduce((sum, { events }) => sum + events.length, 0);
}

/** The event with the states of the last event of its feature in its environment, and of its request. */
function withNewestStates(event: FlagEvent, known: readonly FlagEvent[]): FlagEvent {
  const ofFeature = known.findLast(
    (other) => other.featureId === event.featureId && other.environmentId === event.environmentId,
  );
  const ofRequest = known.findLast((other) => other.pendingChangeId === event.pendingChangeId);
  return {
    ...event,
    ...(event.featureId !== null && { featureJson: ofFeature?.featureJson }),
    ...(event.pendingChangeId !== null && { pendingChangeJson: ofRequest?.pendingChangeJson }),
  };
}
