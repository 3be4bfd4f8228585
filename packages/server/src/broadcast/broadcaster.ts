import { type Batch, byChannel, channelKey, type ControlEntry, type FlagEvent } from '../events/event.js';
import { type Coverage, covers, encodeCursor, type Position } from '../events/position.js';
import { SharedEvents } from '../events/shared-events.js';
import type { BroadcastBatch, Lifecycle } from '../lifecycle.js';
import { Deliveries, type DeliveryTarget, type Cork } from './deliveries.js';
import { ChannelBatch, ReplayBuffer } from './replay-buffer.js';

/** What the broadcaster knows of a peer: that it wants the batches of one channel. */
export interface Subscriber extends DeliveryTarget {
  /** For how long it has had to drain before it gets more, in milliseconds; null while it has not. */
  readonly behindForMs: number | null;
  /** The database went back in time: what was delivered may not be true any more. */
  historyLost(): void;
  /** The environment of the channel has another key now. */
  channelRenamed(environmentKey: string): void;
  /** The channel has ended: its environment or project is gone. */
  channelEnded(reason: ChannelEnd): void;
}

/** Why a channel has ended; error codes of the protocol. */
export type ChannelEnd = 'environment_deleted' | 'project_archived' | 'project_deleted';

export interface BroadcasterOptions {
  lifecycle: Lifecycle;
  /** How many recent events are kept for peers that fell behind or come back. Default 10,000. */
  replayBufferEvents?: number | undefined;
  /** Asks for a batch as soon as possible, be it an empty one. */
  requestBatch: () => void;
  /** What is handed to many goes out together. Default: each at once. */
  cork?: Cork | undefined;
  /** Somebody watches the channel, which nobody did; or nobody does any more. Default: nothing. */
  onWatched?: ((channel: string, isWatched: boolean) => void) | undefined;
}

const noSubscribers: ReadonlySet<Subscriber> = new Set();
/** How long a batch that was asked for may take, in milliseconds. */
const batchTimeoutMs = 5_000;
/** How long a large transaction waits for a subscriber to drain, in milliseconds. */
const drainPatienceMs = 1_000;
/** How many answers are kept, between two batches, for those who come back from the same position. */
const maxAnswers = 64;

/**
 * Who wants what: `(project_id, environment_id) -> subscribers`. Knows no socket and no SQL.
 */
export class Broadcaster {
  readonly #lifecycle: Lifecycle;
  readonly #replayBufferEvents: number;
  readonly #subscribers = new Map<string, Set<Subscriber>>();
  readonly #deliveries: Deliveries;
  /** The batches that not all have been handed yet, oldest first: since when, on the clock of performance.now(). */
  readonly #underWay = new Map<number, number>();
  #ring: ReplayBuffer;
  #sequence = 0;
  #position: Position | null = null;
  #coverage: Coverage | null = null;
  #channelChanges = 0;
  readonly #requestBatch: () => void;
  readonly #onWatched: (channel: string, isWatched: boolean) => void;
  /** The channels that had events since there was room. */
  readonly #recentChannels = new Set<string>();
  readonly #awaitingBatch = new Set<(batch: Batch) => void>();
  readonly #answers = new Map<string, SharedEvents | null>();

  constructor(options: BroadcasterOptions) {
    this.#lifecycle = options.lifecycle;
    this.#requestBatch = options.requestBatch;
    this.#onWatched = options.onWatched ?? (() => undefined);
    this.#replayBufferEvents = options.replayBufferEvents ?? 10_000;
    this.#deliveries = new Deliveries(
      (channel) => this.#subscribers.get(channel) ?? noSubscribers,
      options.cork ?? ((work) => work()),
    );
    this.#ring = new ReplayBuffer(this.#replayBufferEvents, 0n);
  }

  /** The number of the newest batch. */
  get sequence(): number {
    return this.#sequence;
  }

  /** Where who has been given everything so far stands; null before the first read. */
  get position(): Position | null {
    return this.#position;
  }

  /** How many channels have been renamed or have ended: a channel that was looked up before may not exist now. */
  get channelChanges(): number {
    return this.#channelChanges;
  }

  /** Waits for the first read of the database, which is the beginning of all news; false when it does not answer. */
  async begun(): Promise<boolean> {
    if (this.#position === null) await this.#nextBatch();
    return this.#position !== null;
  }

  /** From now on the subscriber gets every batch of the channel. */
  subscribe(channel: string, subscriber: Subscriber): void {
    let subscribers = this.#subscribers.get(channel);
    if (subscribers === undefined) {
      subscribers = new Set();
      this.#subscribers.set(channel, subscribers);
      this.#onWatched(channel, true);
    }
    subscribers.add(subscriber);
  }

  /** Nothing more of the channel; also when the subscriber had left already. */
  unsubscribe(channel: string, subscriber: Subscriber): void {
    const subscribers = this.#subscribers.get(channel);
    if (subscribers?.delete(subscriber) !== true || subscribers.size > 0) return;
    this.#subscribers.delete(channel);
    this.#onWatched(channel, false);
  }

  /** The channel's batches after batch number `sequence`; null when some are no longer kept. */
  missedSince(sequence: number, channel: string): ChannelBatch[] | null {
    return this.#ring.after(sequence, channel);
  }

  /** Whether the channel has batches that not all of its subscribers have been given yet. */
  isDelivering(channel: string): boolean {
    return this.#deliveries.isUnderWay(channel);
  }

  /** For how long the oldest batch that not all have been handed yet has been under way, in milliseconds; 0 where there is none. */
  get lagMs(): number {
    const [sinceMs] = this.#underWay.values();
    return sinceMs === undefined ? 0 : performance.now() - sinceMs;
  }

  /** How many subscribers each channel has that has any. */
  *subscriberCounts(): Iterable<number> {
    for (const subscribers of this.#subscribers.values()) yield subscribers.size;
  }

  /**
   * Whether there is room for another page of a large transaction: no delivery is under way, and no subscriber of
   * recent events has just begun to drain. One that does not drain within a second is not waited for.
   */
  hasRoom(): boolean {
    if (this.#underWay.size > 0) return false;
    for (const channel of this.#recentChannels) {
      for (const subscriber of this.#subscribers.get(channel) ?? noSubscribers) {
        const { behindForMs } = subscriber;
        if (behindForMs !== null && behindForMs < drainPatienceMs) return false;
      }
    }
    this.#recentChannels.clear();
    return true;
  }

  /** Hands over at once what is still under way. */
  finishDeliveries(): void {
    this.#deliveries.finish();
  }

  /** The lowest number that `missedSince` still answers for. */
  oldestSequence(channel: string): number {
    return this.#ring.evicted(channel);
  }

  /**
   * Waits until everything that the position's owner has been given has been handed on here as well, so
   * that nothing of it can come again: it was given by another server, or by a snapshot. `behind`: the
   * database itself has not got as far, it has lost transactions. `unavailable`: it does not answer.
   */
  async reach(position: Position): Promise<'reached' | 'behind' | 'unavailable'> {
    const askedAtMs = performance.now();
    while (this.#isAhead(position)) {
      const batch = await this.#nextBatch();
      if (batch === null) return 'unavailable';
      if (batch.beganAtMs < askedAtMs) continue;
      if (position.xmax > batch.snapshotXmax) return 'behind';
      // A replica does not tell what is in flight: a complete read is as far as it gets.
      if (batch.isComplete) return 'reached';
    }
    return 'reached';
  }

  /**
   * The channel's events that somebody at the position, which must have been reached, has not been
   * given; null when the ring cannot tell.
   */
  eventsSince(position: Position, channel: string): SharedEvents | null {
    const question = JSON.stringify([channel, encodeCursor(position)]);
    let answer = this.#answers.get(question);
    if (answer === undefined) {
      const events = this.#ring.since(position, channel);
      answer = events === null ? null : new SharedEvents(events, Date.now());
      if (this.#answers.size < maxAnswers) this.#answers.set(question, answer);
    }
    return answer;
  }

  broadcast(batch: Batch): void {
    if (this.#position === null) {
      this.#ring = new ReplayBuffer(this.#replayBufferEvents, batch.snapshotXmax);
      this.#answers.clear();
    }
    this.#position = batch.position;
    this.#coverage = batch.read.coverage;
    const { skipped = [] } = batch;
    if (batch.events.length > 0 || skipped.length > 0) this.#distribute(batch, skipped);
    // After the events that came with them, which were written before.
    for (const control of batch.controls) this.#carryOut(control);
    const awaiting = [...this.#awaitingBatch];
    this.#awaitingBatch.clear();
    for (const arrived of awaiting) arrived(batch);
  }

  #carryOut(control: ControlEntry): void {
    if (control.type === 'rights_changed') {
      this.#lifecycle.emit('rights:changed');
      return;
    }
    this.#channelChanges += 1;
    this.#lifecycle.emit('channels:changed');
    this.finishDeliveries();
    const { type, projectId } = control;
    if (type === 'project_archived' || type === 'project_deleted') {
      const prefix = channelKey(projectId, '');
      for (const channel of [...this.#subscribers.keys()]) {
        if (channel.startsWith(prefix)) this.#end(channel, type);
      }
    } else if (type === 'environment_deleted') {
      this.#end(channelKey(projectId, control.environmentId), type);
    } else {
      const channel = channelKey(projectId, control.environmentId);
      for (const subscriber of [...(this.#subscribers.get(channel) ?? [])]) {
        subscriber.channelRenamed(control.environmentKey);
      }
    }
  }

  #end(channel: string, reason: ChannelEnd): void {
    for (const subscriber of [...(this.#subscribers.get(channel) ?? [])]) subscriber.channelEnded(reason);
  }

  #distribute(batch: Batch, skipped: readonly string[]): void {
    this.#sequence += 1;
    this.#answers.clear();
    for (const channel of skipped) this.#ring.skip(channel, this.#sequence, batch.snapshotXmax);
    if (batch.events.length === 0) return;
    const channels = new Map<string, ChannelBatch>();
    for (const [key, events] of byChannel(batch.events)) {
      channels.set(key, new ChannelBatch(this.#sequence, events, batch));
    }
    for (const channel of channels.keys()) this.#recentChannels.add(channel);
    this.#ring.append({
      sequence: this.#sequence,
      eventCount: batch.events.length,
      snapshotXmax: batch.snapshotXmax,
      channels,
    });
    const { seenAtMs, readMs = null } = batch;
    let deliveries = 0;
    let channelsLeft = channels.size;
    const sequence = this.#sequence;
    this.#underWay.set(sequence, performance.now());
    for (const [key, channelBatch] of channels) {
      this.#deliveries.add(key, channelBatch, (subscribers) => {
        deliveries += subscribers * channelBatch.events.length;
        channelsLeft -= 1;
        if (channelsLeft > 0) return;
        this.#underWay.delete(sequence);
        this.#lifecycle.emit('batch:broadcast', {
          events: batch.events.length,
          channels: channels.size,
          deliveries,
          readMs,
          seenAtMs,
          sentAtMs: Date.now(),
          committed: committedOf(batch.events),
        });
      });
    }
    this.#deliveries.work();
  }

  /** What was handed on belongs to a history that has ended: everybody begins anew with the next batch. */
  forget(): void {
    this.#position = null;
    this.#coverage = null;
    this.#ring = new ReplayBuffer(this.#replayBufferEvents, 0n);
    this.#answers.clear();
    this.#deliveries.clear();
    this.#underWay.clear();
    for (const subscribers of [...this.#subscribers.values()]) {
      for (const subscriber of [...subscribers]) subscriber.historyLost();
    }
  }

  /** Whether batches that are still to come may hold what the position's owner has been given. When in doubt, yes. */
  #isAhead(position: Position): boolean {
    const own = this.#coverage;
    if (own === null || position.xmax > own.xmax) return true;
    if (own.listed === 'open') return own.xids.some((xid) => covers(position, xid));
    if (position.xmin > own.xmin) return true;
    return position.listed === 'open' || position.xids.some((xid) => !covers(own, xid));
  }

  /** Null when none came in time. */
  async #nextBatch(): Promise<Batch | null> {
    this.#requestBatch();
    return await new Promise((resolve) => {
      const arrived = (batch: Batch): void => {
        clearTimeout(timer);
        resolve(batch);
      };
      const timer = setTimeout(() => {
        this.#awaitingBatch.delete(arrived);
        resolve(null);
      }, batchTimeoutMs);
      // Who waits must not keep the process alive.
      timer.unref();
      this.#awaitingBatch.add(arrived);
    });
  }
}

/** The first and the last commit among the events; their times are texts of one form, whose order is that of the times. */
function committedOf(events: readonly FlagEvent[]): BroadcastBatch['committed'] {
  let first: string | null = null;
  let last: string | null = null;
  for (const { committedAt } of events) {
    if (committedAt === null) continue;
    if (first === null || committedAt < first) first = committedAt;
    if (last === null || committedAt > last) last = committedAt;
  }
  return first === null || last === null
    ? null
    : { firstAtMs: Date.parse(first), lastAtMs: Date.parse(last) };
}
