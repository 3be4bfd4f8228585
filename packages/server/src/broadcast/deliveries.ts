import type { Dialect } from '../events/dialect.js';
import type { Position } from '../events/position.js';
import type { ChannelBatch } from './replay-buffer.js';

/** Consecutive batches of one channel, oldest first, that each subscriber receives in one write. */
export class DeliveryBatch {
  readonly batches: readonly [ChannelBatch, ...ChannelBatch[]];
  /** The sequences of the first and the last batch. */
  readonly first: number;
  readonly last: number;
  /** The position after all of them. */
  readonly position: Position;
  /** Null before the first: most have one batch, in a channel with few subscribers. */
  #encodings: Map<Dialect, Buffer> | null = null;

  constructor(batches: readonly [ChannelBatch, ...ChannelBatch[]]) {
    const newest = batches.at(-1) ?? batches[0];
    this.batches = batches;
    this.first = batches[0].sequence;
    this.last = newest.sequence;
    this.position = newest.position;
  }

  /** The batches after sequence `after`, encoded. `after` is less than `last`. */
  encodedAfter(after: number, dialect: Dialect): Buffer {
    // A batch keeps its own bytes.
    if (this.batches.length === 1) return this.batches[0].encoded(dialect);
    if (after >= this.first) return encode(this.batches, after, dialect);
    let bytes = this.#encodings?.get(dialect);
    if (bytes === undefined) {
      bytes = encode(this.batches, after, dialect);
      this.#encodings ??= new Map<Dialect, Buffer>();
      this.#encodings.set(dialect, bytes);
    }
    return bytes;
  }
}

function encode(batches: readonly ChannelBatch[], after: number, dialect: Dialect): Buffer {
  const newer = batches.filter(({ sequence }) => sequence > after);
  const [first] = newer;
  if (first !== undefined && newer.length === 1) return first.encoded(dialect);
  return Buffer.concat(newer.map((batch) => batch.encoded(dialect)));
}

/** A receiver of a channel's batches. */
export interface DeliveryTarget {
  /** Called in order; some batches may have been received in another way. Must not throw or block. */
  deliver(batch: DeliveryBatch): void;
}

/** Runs `work`, which writes to many sockets, and returns when all of that was submitted. */
export type Cork = (work: () => void) => void;

/** A batch that not all subscribers of its channels have received. */
interface PendingBatch {
  /** On the clock of performance.now(). */
  readonly startedAtMs: number;
  readonly onDone: (deliveries: number) => void;
  channelsLeft: number;
  deliveries: number;
}

/** One channel's part of a batch. */
interface Part {
  readonly batch: ChannelBatch;
  readonly pending: PendingBatch;
}

/** Parts of one channel that are being delivered together. */
interface DeliveryJob {
  readonly batch: DeliveryBatch;
  readonly parts: readonly Part[];
  readonly targets: Iterator<DeliveryTarget>;
  /** How many targets have received it. */
  count: number;
}

/** How many targets of one channel receive a batch before the next channel has its turn: about half a millisecond. */
const targetsPerTurn = 64;
/** After this time, in milliseconds, other work comes first: new connections, the next read, pongs. */
const sliceMs = 2;

/**
 * Delivers batches to the subscribers of their channels in slices, so that a channel with thousands of subscribers
 * delays neither small channels nor other work. Batches that arrive for a channel during a delivery are delivered
 * together afterwards.
 */
export class Deliveries {
  /** By channel, in the order of their turns: jobs without a turn so far, and jobs that take several. */
  readonly #fresh = new Map<string, DeliveryJob>();
  readonly #long = new Map<string, DeliveryJob>();
  /** By channel, behind the job that is being delivered. */
  readonly #waiting = new Map<string, Part[]>();
  readonly #pending = new Set<PendingBatch>();
  readonly #targetsOf: (channel: string) => ReadonlySet<DeliveryTarget>;
  readonly #cork: Cork;
  #immediate: NodeJS.Immediate | null = null;

  constructor(targetsOf: (channel: string) => ReadonlySet<DeliveryTarget>, cork: Cork) {
    this.#targetsOf = targetsOf;
    this.#cork = cork;
  }

  /** How long the oldest pending batch has been pending, in milliseconds; 0 if there is none. */
  get lagMs(): number {
    const [oldest] = this.#pending;
    return oldest === undefined ? 0 : performance.now() - oldest.startedAtMs;
  }

  get isIdle(): boolean {
    return this.#pending.size === 0;
  }

  /** Whether not all subscribers of the channel have received all of its batches. */
  isDelivering(channel: string): boolean {
    return this.#fresh.has(channel) || this.#long.has(channel);
  }

  /** Starts to deliver a batch. `onDone` gets the number of events times their receivers. */
  add(channels: ReadonlyMap<string, ChannelBatch>, onDone: (deliveries: number) => void): void {
    const pending = { startedAtMs: performance.now(), onDone, channelsLeft: channels.size, deliveries: 0 };
    this.#pending.add(pending);
    for (const [channel, batch] of channels) {
      const waiting = this.#waiting.get(channel);
      if (waiting !== undefined) waiting.push({ batch, pending });
      else if (this.isDelivering(channel)) this.#waiting.set(channel, [{ batch, pending }]);
      else this.#begin(channel, [{ batch, pending }]);
    }
    this.#work();
  }

  /** Delivers everything now. */
  finish(): void {
    this.#workUntil(Infinity);
  }

  /** Drops everything that is not delivered. */
  clear(): void {
    for (const jobs of [this.#fresh, this.#long, this.#waiting, this.#pending]) jobs.clear();
  }

  #begin(channel: string, parts: readonly [Part, ...Part[]]): void {
    const [first, ...others] = parts;
    const batch = new DeliveryBatch([first.batch, ...others.map((part) => part.batch)]);
    this.#fresh.set(channel, { batch, parts, targets: this.#targetsOf(channel).values(), count: 0 });
  }

  /** Works for one slice, and continues in later turns of the event loop. */
  #work(): void {
    if (this.#workUntil(performance.now() + sliceMs)) return;
    this.#immediate ??= setImmediate(() => {
      this.#immediate = null;
      this.#work();
    });
  }

  /** Returns true if nothing is left. */
  #workUntil(deadlineMs: number): boolean {
    const finished: DeliveryJob[] = [];
    this.#cork(() => this.#takeTurns(deadlineMs, finished));
    for (const { parts, count } of finished) {
      for (const { batch, pending } of parts) this.#partDone(pending, count * batch.events.length);
    }
    return this.#fresh.size + this.#long.size === 0;
  }

  #takeTurns(deadlineMs: number, finished: DeliveryJob[]): void {
    // One of each kind at a time: a small channel does not wait for a large one, nor a large one for many small ones.
    for (let isFirst = true; this.#fresh.size + this.#long.size > 0; isFirst = false) {
      if (!isFirst && performance.now() >= deadlineMs) return;
      for (const jobs of [this.#fresh, this.#long]) {
        const [next] = jobs;
        if (next === undefined) continue;
        const [channel, job] = next;
        jobs.delete(channel);
        if (takeTurn(job)) {
          finished.push(job);
          this.#beginWaiting(channel);
        } else {
          // At the end of the map: its next turn comes after those of all others.
          this.#long.set(channel, job);
        }
      }
    }
  }

  #beginWaiting(channel: string): void {
    const [first, ...others] = this.#waiting.get(channel) ?? [];
    this.#waiting.delete(channel);
    if (first !== undefined) this.#begin(channel, [first, ...others]);
  }

  #partDone(pending: PendingBatch, deliveries: number): void {
    pending.deliveries += deliveries;
    pending.channelsLeft -= 1;
    if (pending.channelsLeft > 0) return;
    this.#pending.delete(pending);
    pending.onDone(pending.deliveries);
  }
}

/** Returns true if all targets have the batch. The iterator skips those that leave; new ones replay it themselves. */
function takeTurn(job: DeliveryJob): boolean {
  for (let turn = 0; turn < targetsPerTurn; turn += 1) {
    const next = job.targets.next();
    if (next.done === true) return true;
    next.value.deliver(job.batch);
    job.count += 1;
  }
  return false;
}
