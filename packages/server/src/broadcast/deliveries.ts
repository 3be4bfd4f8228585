import type { Dialect } from '../events/dialect.js';
import type { Position } from '../events/position.js';
import type { ChannelBatch } from './replay-buffer.js';

/** Batches of one channel that are handed on together, oldest first: to each peer in one write. */
export class DeliveryBatch {
  readonly batches: readonly [ChannelBatch, ...ChannelBatch[]];
  /** The numbers of the first and the last one. */
  readonly first: number;
  readonly last: number;
  readonly #encodings = new Map<Dialect, Buffer>();

  constructor(batches: readonly [ChannelBatch, ...ChannelBatch[]]) {
    this.batches = batches;
    this.first = batches[0].sequence;
    this.last = this.#newest.sequence;
  }

  /** Where whoever has been given all of it, and all before it, stands. */
  get position(): Position {
    return this.#newest.position;
  }

  /** What is newer than batch number `after`, as the bytes that go out in `dialect`; null: nothing is. */
  encodedAfter(after: number, dialect: Dialect): Buffer | null {
    if (after >= this.last) return null;
    if (after >= this.first) {
      const newer = this.batches.filter(({ sequence }) => sequence > after);
      return Buffer.concat(newer.map((batch) => batch.encoded(dialect)));
    }
    let bytes = this.#encodings.get(dialect);
    if (bytes === undefined) {
      const [only, ...others] = this.batches;
      bytes =
        others.length === 0
          ? only.encoded(dialect)
          : Buffer.concat(this.batches.map((batch) => batch.encoded(dialect)));
      this.#encodings.set(dialect, bytes);
    }
    return bytes;
  }

  get #newest(): ChannelBatch {
    return this.batches.at(-1) ?? this.batches[0];
  }
}

/** Whoever gets the runs of a channel. */
export interface DeliveryTarget {
  /** Called in order; a run may hold batches that it was given in another way. Must not throw or block. */
  deliver(run: DeliveryBatch): void;
}

/** A run on its way to the channel's receivers. */
interface DeliveryJob {
  readonly run: DeliveryBatch;
  readonly receivers: Iterator<DeliveryTarget>;
  /** To be called once all have been given it, with how many those were. */
  readonly done: (receivers: number) => void;
  count: number;
}

/** Calls the function, in which many receivers are given something; all of that has gone out when it returns. */
export type Cork = (work: () => void) => void;

interface Waiting {
  readonly batch: ChannelBatch;
  readonly done: (receivers: number) => void;
}

/** So many receivers of one channel get a run before the next channel has its turn: about half a millisecond. */
const receiversPerTurn = 64;
/** After so many milliseconds other work of the process comes first: new connections, the next read, pongs. */
const sliceMs = 2;

/**
 * Hands batches to the receivers of their channels, a slice at a time: a channel of thousands holds up
 * neither a small one nor anything else. What comes for a channel while a run is on its way there goes out
 * together afterwards.
 */
export class Deliveries {
  /** By channel, in the order of their turns: those that have not had one yet, and those that take several. */
  readonly #fresh = new Map<string, DeliveryJob>();
  readonly #long = new Map<string, DeliveryJob>();
  readonly #waiting = new Map<string, Waiting[]>();
  readonly #receiversOf: (channel: string) => ReadonlySet<DeliveryTarget>;
  readonly #cork: Cork;
  #immediate: NodeJS.Immediate | null = null;

  /** `receiversOf` tells who a channel's receivers are when a run begins. */
  constructor(receiversOf: (channel: string) => ReadonlySet<DeliveryTarget>, cork: Cork) {
    this.#receiversOf = receiversOf;
    this.#cork = cork;
  }

  /** Adds a batch for the channel's receivers; `work` begins with it. */
  add(channel: string, batch: ChannelBatch, done: (receivers: number) => void): void {
    const waiting = this.#waiting.get(channel);
    if (waiting !== undefined) waiting.push({ batch, done });
    else if (this.isUnderWay(channel)) this.#waiting.set(channel, [{ batch, done }]);
    else this.#begin(channel, new DeliveryBatch([batch]), done);
  }

  /** Whether the channel has batches that not all of its receivers have been given yet. */
  isUnderWay(channel: string): boolean {
    return this.#fresh.has(channel) || this.#long.has(channel);
  }

  /** Works for a slice, and goes on in later turns of the event loop. */
  work(): void {
    if (this.#workUntil(performance.now() + sliceMs)) return;
    this.#immediate ??= setImmediate(() => {
      this.#immediate = null;
      this.work();
    });
  }

  /** Hands everything over now. */
  finish(): void {
    this.#workUntil(Infinity);
  }

  /** Nobody is to get what is under way. */
  clear(): void {
    this.#fresh.clear();
    this.#long.clear();
    this.#waiting.clear();
  }

  /** True: there is nothing left to do. */
  #workUntil(deadlineMs: number): boolean {
    const finished: DeliveryJob[] = [];
    this.#cork(() => this.#takeTurns(deadlineMs, finished));
    for (const { done, count } of finished) done(count);
    return this.#fresh.size + this.#long.size === 0;
  }

  #takeTurns(deadlineMs: number, finished: DeliveryJob[]): void {
    // One of each at a time: a small channel need not wait for a large one, nor a large one for many small ones.
    for (let isFirst = true; this.#fresh.size + this.#long.size > 0; isFirst = false) {
      if (!isFirst && performance.now() >= deadlineMs) return;
      for (const passes of [this.#fresh, this.#long]) {
        const [next] = passes;
        if (next === undefined) continue;
        const [channel, pass] = next;
        passes.delete(channel);
        // Set anew it has its next turn after all others.
        if (!takeTurn(pass)) {
          this.#long.set(channel, pass);
          continue;
        }
        finished.push(pass);
        this.#next(channel);
      }
    }
  }

  #next(channel: string): void {
    const [first, ...others] = this.#waiting.get(channel) ?? [];
    if (first === undefined) return;
    this.#waiting.delete(channel);
    this.#begin(
      channel,
      new DeliveryBatch([first.batch, ...others.map(({ batch }) => batch)]),
      (receivers) => {
        for (const { done } of [first, ...others]) done(receivers);
      },
    );
  }

  #begin(channel: string, run: DeliveryBatch, done: DeliveryJob['done']): void {
    this.#fresh.set(channel, { run, receivers: this.#receiversOf(channel).values(), done, count: 0 });
  }
}

/** True: all have been given the run. Who leaves meanwhile is skipped; who comes has been given it already. */
function takeTurn(pass: DeliveryJob): boolean {
  for (let turn = 0; turn < receiversPerTurn; turn += 1) {
    const next = pass.receivers.next();
    if (next.done === true) return true;
    next.value.deliver(pass.run);
    pass.count += 1;
  }
  return false;
}
