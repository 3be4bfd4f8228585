import { approvalsFeed, type Batch, channelKey, type ControlEntry, type FlagEvent } from '../events/event.js';
import type { Position } from '../events/position.js';
import type { BroadcastBatch, Lifecycle } from '../lifecycle.js';
import { BroadcastProgress } from './broadcast-progress.js';
import { type Cork, Deliveries, type DeliveryTarget } from './deliveries.js';
import { type ChannelBatch, ReplayBuffer } from './replay-buffer.js';

/** A receiver of one channel. */
export interface Subscriber extends DeliveryTarget {
  /** How long it has not been reading, in milliseconds; null while it reads. */
  readonly behindForMs: number | null;
  changed(change: ChannelChange): void;
}

/** What happens to a channel besides its events. */
export type ChannelChange =
  /** The database went back in time: delivered events may no longer be true. */
  | { readonly type: 'history_lost' }
  /** Its environment has a new key. */
  | { readonly type: 'renamed'; readonly environmentKey: string }
  /** Its environment or project no longer exists. */
  | { readonly type: 'ended'; readonly reason: ChannelEnd };

/** Why a channel has ended: error codes of the protocol. */
export type ChannelEnd = 'environment_deleted' | 'project_archived' | 'project_deleted';

export interface BroadcasterOptions {
  lifecycle: Lifecycle;
  /** How many recent events are kept for slow clients and clients that resume. Default 10,000. */
  replayBufferEvents?: number | undefined;
  /** Requests a batch as soon as possible, even an empty one. */
  requestBatch: () => void;
  /** Writes to many subscribers together. Default: each write is separate. */
  cork?: Cork | undefined;
  /** A channel has its first subscriber, or has lost its last one. */
  onWatched?: ((channel: string, isWatched: boolean) => void) | undefined;
}

const noSubscribers: ReadonlySet<Subscriber> = new Set();
/** How long a large transaction waits for a slow subscriber, in milliseconds. */
const slowSubscriberMs = 1_000;

/** Passes the events of each batch to the subscribers of their channels. Knows no sockets and no SQL. */
export class Broadcaster {
  readonly #lifecycle: Lifecycle;
  readonly #onWatched: (channel: string, isWatched: boolean) => void;
  /** By channel. */
  readonly #subscribers = new Map<string, Set<Subscriber>>();
  readonly #deliveries: Deliveries;
  readonly buffer: ReplayBuffer;
  readonly progress: BroadcastProgress;
  /** Channels with events since `hasRoom` was last true. */
  readonly #recentChannels = new Set<string>();
  /** Counts the losses of the history: what was found before one may lack what came before the next batch. */
  historyLosses = 0;
  /** Counts renamed and ended channels: a channel that was looked up before a change may no longer exist. */
  channelChanges = 0;
  /** Counts the changes of rights: what was looked up before a change may no longer be true. */
  rightsChanges = 0;

  constructor({ lifecycle, replayBufferEvents, requestBatch, cork, onWatched }: BroadcasterOptions) {
    this.#lifecycle = lifecycle;
    this.#onWatched = onWatched ?? (() => undefined);
    this.buffer = new ReplayBuffer(replayBufferEvents ?? 10_000);
    this.progress = new BroadcastProgress(requestBatch);
    const corked = cork ?? ((work) => work());
    this.#deliveries = new Deliveries((channel) => this.#subscribersOf(channel), corked);
  }

  /** The sequence of the newest batch. */
  get sequence(): number {
    return this.buffer.sequence;
  }

  /** The position of a client that has received everything; null before the first batch. */
  get position(): Position | null {
    return this.progress.position;
  }

  /** How long the oldest batch that not all subscribers have received has been on its way, in milliseconds; else 0. */
  get lagMs(): number {
    return this.#deliveries.lagMs;
  }

  /** The number of subscribers of each channel that has any. The approvals feed is no channel. */
  *channelSubscribers(): Iterable<number> {
    for (const [channel, { size }] of this.#subscribers) if (channel !== approvalsFeed) yield size;
  }

  get approvalsSubscribers(): number {
    return this.#subscribersOf(approvalsFeed).size;
  }

  subscribe(channel: string, subscriber: Subscriber): void {
    const subscribers = this.#subscribers.get(channel);
    if (subscribers !== undefined) subscribers.add(subscriber);
    else {
      this.#subscribers.set(channel, new Set([subscriber]));
      this.#onWatched(channel, true);
    }
  }

  unsubscribe(channel: string, subscriber: Subscriber): void {
    const subscribers = this.#subscribers.get(channel);
    if (subscribers?.delete(subscriber) !== true || subscribers.size > 0) return;
    this.#subscribers.delete(channel);
    this.#onWatched(channel, false);
  }

  broadcast(batch: Batch): void {
    if (this.progress.position === null) this.buffer.reset(batch.snapshotXmax);
    this.progress.advance(batch);
    const channels = this.buffer.append(batch);
    if (channels.size > 0) this.#deliver(batch, channels);
    // After the events of the same batch, which were written earlier.
    for (const control of batch.controls) this.#apply(control);
  }

  /** The history has ended: everyone starts again with the next batch. */
  forget(): void {
    this.historyLosses += 1;
    this.progress.reset();
    this.buffer.reset(0n);
    this.#deliveries.clear();
    for (const channel of [...this.#subscribers.keys()]) this.#change(channel, { type: 'history_lost' });
  }

  /** Whether not all subscribers of the channel have received all of its batches. */
  isDelivering(channel: string): boolean {
    return this.#deliveries.isDelivering(channel);
  }

  /** Delivers everything now. */
  finishDeliveries(): void {
    this.#deliveries.finish();
  }

  /**
   * Whether the next page of a large transaction may be read: everything is delivered, and no subscriber of recent
   * events has fallen behind within the last second. One that has been behind for longer is not waited for.
   */
  hasRoom(): boolean {
    if (!this.#deliveries.isIdle) return false;
    for (const channel of this.#recentChannels) {
      for (const { behindForMs } of this.#subscribersOf(channel)) {
        if (behindForMs !== null && behindForMs < slowSubscriberMs) return false;
      }
    }
    this.#recentChannels.clear();
    return true;
  }

  #subscribersOf(channel: string): ReadonlySet<Subscriber> {
    return this.#subscribers.get(channel) ?? noSubscribers;
  }

  #deliver(batch: Batch, channels: ReadonlyMap<string, ChannelBatch>): void {
    for (const channel of channels.keys()) this.#recentChannels.add(channel);
    const { events, seenAtMs, readMs = null } = batch;
    this.#deliveries.add(channels, (deliveries) => {
      this.#lifecycle.emit('batch:broadcast', {
        events: events.length,
        channels: channels.size - (channels.has(approvalsFeed) ? 1 : 0),
        deliveries,
        readMs,
        seenAtMs,
        sentAtMs: Date.now(),
        committed: committedOf(events),
      });
    });
  }

  #apply(control: ControlEntry): void {
    if (control.type === 'rights_changed') {
      this.rightsChanges += 1;
      this.#lifecycle.emit('rights:changed');
      return;
    }
    this.channelChanges += 1;
    this.finishDeliveries();
    const { type, projectId } = control;
    const environmentId = 'environmentId' in control ? control.environmentId : null;
    this.#lifecycle.emit('channels:changed', { projectId, environmentId });
    if (type === 'project_archived' || type === 'project_deleted') {
      const prefix = channelKey(projectId, '');
      const channels = [...this.#subscribers.keys()].filter((channel) => channel.startsWith(prefix));
      for (const channel of channels) this.#change(channel, { type: 'ended', reason: type });
      return;
    }
    const change: ChannelChange =
      type === 'environment_deleted'
        ? { type: 'ended', reason: type }
        : { type: 'renamed', environmentKey: control.environmentKey };
    this.#change(channelKey(projectId, control.environmentId), change);
  }

  #change(channel: string, change: ChannelChange): void {
    for (const subscriber of [...this.#subscribersOf(channel)]) subscriber.changed(change);
  }
}

/** The first and the last commit of the events. Their times are texts of one format, which sort like the times. */
function committedOf(events: readonly FlagEvent[]): BroadcastBatch['committed'] {
  const times = events.flatMap(({ committedAt }) => committedAt ?? []).toSorted();
  const [first, last] = [times[0], times.at(-1)];
  if (first === undefined || last === undefined) return null;
  return { firstAtMs: Date.parse(first), lastAtMs: Date.parse(last) };
}
