import { randomUUID } from 'node:crypto';
import type { Batch, Lifecycle, RelayContext, RelayedReader, RelayedRead } from 'flagcast/relay-support';
import type { EventLog } from './event-log.js';
import { Follower, type LeaderHeartbeat, type LogPlace } from './follower.js';
import { decodeRequest, decodeCommit } from './messages.js';
import { Publisher } from './publisher.js';
import { PooledLockError, ReaderLock } from './reader-lock.js';

export interface MembershipOptions {
  readonly log: EventLog;
  /** Names the history: whoever reads it has the lock of this name. */
  readonly id: string;
  readonly openSession: RelayContext['openSession'];
  readonly source: Pick<RelayedReader, 'canFollow' | 'requestBatch' | 'pause' | 'resume' | 'follow'>;
  readonly wanted: ReadonlySet<string>;
  readonly lifecycle: Lifecycle;
  /** What is wrong with the triggers that write the event log, as this server read it last; null where nothing is. */
  readonly triggerProblem: () => string | null;
  /** What was handed on last. */
  readonly newest: () => Batch;
  readonly askedAtMs: (question: string) => number | null;
  /** NATS does not work as it should: the relayNode has to end. */
  readonly onFailed: (error: unknown) => void;
}

export interface MembershipEnd {
  readonly reason: string;
  /** Whether the others are told. */
  readonly leaves: boolean;
  /** The server ends, and reads no more. */
  readonly isLast?: boolean;
}

/** `direct`: the database is read here, for this server alone; `leading`: for all of them. */
type Mode = 'direct' | 'following' | 'leading';

const tickMs = 200;
/** Who follows takes the reader for gone after so many milliseconds without a word of it; it says one every 500 ms. */
const silenceMs = 1_500;
/** Who reads for itself anyhow need not wait so long. */
const directSilenceMs = 700;
/** So that not all try to be the reader at once. */
const jitterMs = 250;
/** How long somebody who was quicker may take to be heard before the database is read here. */
const graceMs = 300;
/** Between two attempts to become the reader, half of it by chance. */
const retryMs = 2_000;
/** How long the log is left alone after it could not be followed, doubled each time, and what it grows to. */
const holdOffMs = 1_000;
const maxHoldOffMs = 30_000;

/**
 * One server among those that share a log: reads the database for all, follows the one that does, or reads for
 * itself while there is none. Loses nothing in between: following begins after a read of its own that covers
 * all that the log has, and its own reading goes on from where it followed to.
 */
export class RelayNode {
  readonly #options: MembershipOptions;
  #mode: Mode = 'direct';
  #follower: Follower;
  #publisher: Publisher | null = null;
  #lock: ReaderLock | null = null;
  /** All up to here is in a read of our own that begins after `atMs`. */
  #anchor: (LogPlace & { readonly atMs: number }) | null = null;
  /** The xmax of the last read of our own before following, while the log is not known to have all that it brought. */
  #ownXmax: bigint | null = null;
  /** These and those that follow are on the clock of performance.now(). */
  #heardAtMs = performance.now();
  #retryAtMs = 0;
  #directDueAtMs: number | null = null;
  #directSinceMs = performance.now();
  #followFromMs = 0;
  #holdOffMs = holdOffMs;
  readonly #jitterMs = Math.random() * jitterMs;
  #isElecting = false;
  #hasToldPooled = false;
  #isEnded = false;
  #timer: NodeJS.Timeout | null = null;
  #leaveAsks: (() => void) | null = null;

  constructor(options: MembershipOptions) {
    this.#options = options;
    this.#follower = this.#newFollower();
  }

  get isFollowing(): boolean {
    return this.#mode === 'following';
  }

  /** The newest commit that was handed on; null unless another server is followed. */
  get applied(): number | null {
    return this.#follower.applied;
  }

  /** Begins to hear the others. Rejects when NATS does not answer. */
  async start(): Promise<void> {
    await this.#follower.listen();
    if (this.#isEnded) return;
    this.#heardAtMs = performance.now();
    this.#timer = setInterval(() => this.#tick(), tickMs);
  }

  watch(channel: string, isWanted: boolean): void {
    if (isWanted) this.#follower.watch(channel);
    else this.#follower.unwatch(channel);
  }

  /** To be told of every batch that was handed on. */
  handedOn(batch: Batch): void {
    if (this.#publisher !== null) this.#publisher.add(batch);
    else this.#followIfCovered(batch);
  }

  /** The database does not answer here. */
  readFailed(): void {
    this.#resign('the database cannot be read', { leaves: true });
  }

  /** Leaves the others; from then on the database is read here, unless the server ends. */
  async end({ reason, leaves, isLast = false }: MembershipEnd): Promise<void> {
    if (this.#isEnded) return;
    const lock = this.#lock;
    this.#resign(reason, { leaves });
    if (!isLast) this.#readDirectly(reason, null);
    this.#isEnded = true;
    if (this.#timer !== null) clearInterval(this.#timer);
    this.#follower.end();
    await lock?.release();
  }

  #newFollower(): Follower {
    const { log, wanted, lifecycle, source, askedAtMs } = this.#options;
    return new Follower({
      log,
      wanted,
      lifecycle,
      askedAtMs,
      onRead: (read) => {
        if (this.#ownXmax !== null && covers(read, this.#ownXmax)) this.#ownXmax = null;
        source.follow(read);
      },
      onHeard: (heard) => this.#heard(heard),
      onBreak: (reason, newest) => this.#readDirectly(reason, newest),
    });
  }

  #heard({ log, commit, xmax, leaves, readAgoMs, triggerProblem }: LeaderHeartbeat): void {
    const nowMs = performance.now();
    this.#directDueAtMs = null;
    if (leaves) {
      // Somebody else is to read, soon, and not all at once.
      this.#heardAtMs = nowMs - silenceMs;
      this.#retryAtMs = 0;
      return;
    }
    this.#heardAtMs = nowMs;
    this.#options.lifecycle.emit('relay:heard', { readAgoMs });
    if (this.#mode === 'following' && triggerProblem !== undefined) {
      this.#options.lifecycle.emit('reader:triggers', { problem: triggerProblem });
    }
    if (this.#mode !== 'direct' || this.#anchor !== null || nowMs < this.#followFromMs) return;
    this.#anchor = { log, commit, xmax, atMs: nowMs };
    this.#options.source.requestBatch();
  }

  #followIfCovered(batch: Batch): void {
    const anchor = this.#anchor;
    const { source, lifecycle } = this.#options;
    if (this.#mode !== 'direct' || anchor === null || this.#isElecting || this.#isEnded) return;
    // In the middle of a large transaction the log may be further in it than this server.
    if (batch.beganAtMs < anchor.atMs || !batch.isComplete || !source.canFollow) return;
    if (batch.snapshotXmax < anchor.xmax) {
      // The database went back, and the log is of what is gone: whoever goes on with it notices soon.
      this.#anchor = null;
      this.#followFromMs = performance.now() + this.#holdOffMs;
      return;
    }
    this.#mode = 'following';
    this.#anchor = null;
    this.#ownXmax = batch.snapshotXmax;
    source.pause();
    this.#follower.begin(anchor);
    lifecycle.emit('relay:following', { directMs: performance.now() - this.#directSinceMs });
  }

  #readDirectly(reason: string, newest: LogPlace | null): void {
    if (this.#mode !== 'following') return;
    const nowMs = performance.now();
    this.#mode = 'direct';
    this.#follower.halt();
    this.#anchor = newest === null ? null : { ...newest, atMs: nowMs };
    if (newest === null) {
      // A log that breaks again and again is not worth two readings each time.
      const lastedMs = nowMs - this.#directSinceMs;
      this.#holdOffMs = lastedMs > maxHoldOffMs ? holdOffMs : Math.min(this.#holdOffMs * 2, maxHoldOffMs);
      this.#followFromMs = nowMs + this.#holdOffMs;
    }
    this.#directSinceMs = nowMs;
    this.#options.lifecycle.emit('relay:direct', { reason });
    this.#options.source.resume();
  }

  #tick(): void {
    if (this.#mode === 'leading' || this.#isElecting) return;
    const nowMs = performance.now();
    const patienceMs = (this.#mode === 'following' ? silenceMs : directSilenceMs) + this.#jitterMs;
    if (nowMs - this.#heardAtMs < patienceMs) return;
    if (this.#directDueAtMs !== null && nowMs >= this.#directDueAtMs) {
      this.#directDueAtMs = null;
      this.#readDirectly('nothing is heard of the server that reads', null);
    }
    if (nowMs >= this.#retryAtMs) void this.#elect();
  }

  /** Tries to become the reader. */
  async #elect(): Promise<void> {
    const { id, openSession, lifecycle } = this.#options;
    this.#isElecting = true;
    this.#retryAtMs = performance.now() + retryMs / 2 + (Math.random() * retryMs) / 2;
    try {
      const lock = await ReaderLock.take(openSession, id, () => {
        this.#resign('the connection that holds the lock was lost', { leaves: true });
      });
      if (this.#isEnded) await lock?.release();
      else if (lock === null) this.#directDueAtMs ??= performance.now() + graceMs;
      else await this.#lead(lock);
    } catch (error) {
      if (this.#isEnded) return;
      if (error instanceof PooledLockError && !this.#hasToldPooled) {
        this.#hasToldPooled = true;
        const fix = 'set FLAGCAST_LISTEN_URL to a connection string that leads straight to the primary';
        lifecycle.emit('relay:refused', { message: error.message, fix });
      }
      this.#readDirectly('nothing is heard of the server that reads', null);
    } finally {
      this.#isElecting = false;
    }
  }

  /** Has the lock; is the reader when its first commit is in the log. */
  async #lead(lock: ReaderLock): Promise<void> {
    this.#lock = lock;
    try {
      await this.#open();
    } finally {
      if (this.#mode !== 'leading' && this.#lock === lock) {
        this.#publisher?.end({ leaves: false });
        this.#publisher = null;
        this.#lock = null;
        await lock.release();
      }
    }
  }

  async #open(): Promise<void> {
    const { log, lifecycle, source, newest } = this.#options;
    const applied = this.isFollowing ? await this.#follower.catchUp() : null;
    const last = await log.lastCommit();
    const before = last === null ? null : decodeCommit(last.data);
    if (this.#isEnded || this.#lock === null) return;
    // What was read here before it was followed may be in no log: the others would take it for told.
    const continues = before !== null && applied === last?.sequence && this.#ownXmax === null;
    const publisher = new Publisher({
      log,
      // What came before may be of a database that has gone back since.
      logName: continues ? before.log : randomUUID(),
      reader: randomUUID(),
      newest: newest(),
      previous: last?.sequence ?? 0,
      unbrokenSince: continues ? before.unbrokenSince : null,
      triggerProblem: () => this.#options.triggerProblem(),
      lifecycle,
      onFailed: (error) => {
        this.#resign(error instanceof Error ? error.message : String(error), { leaves: false });
      },
    });
    this.#publisher = publisher;
    await publisher.open();
    if (this.#publisher !== publisher) return;
    this.#mode = 'leading';
    this.#anchor = null;
    this.#follower.end();
    this.#leaveAsks = log.onSaid('ask', (data) => this.#asked(data));
    lifecycle.emit('relay:elected', { continues });
    source.resume();
  }

  #asked(data: Uint8Array): void {
    try {
      this.#publisher?.asked(decodeRequest(data));
    } catch {
      // Whoever asked what cannot be understood gets a read all the same.
    }
    this.#options.source.requestBatch();
  }

  /** Is the reader no more, and goes on reading for itself. */
  #resign(reason: string, { leaves }: { leaves: boolean }): void {
    if (this.#publisher === null || this.#isEnded) return;
    this.#publisher.end({ leaves });
    this.#publisher = null;
    this.#leaveAsks?.();
    this.#leaveAsks = null;
    const lock = this.#lock;
    this.#lock = null;
    void lock?.release();
    if (this.#mode !== 'leading') return;
    const nowMs = performance.now();
    this.#mode = 'direct';
    this.#directSinceMs = nowMs;
    this.#heardAtMs = nowMs;
    // Others first: they may be better off.
    this.#retryAtMs = nowMs + retryMs;
    this.#options.lifecycle.emit('relay:leadership-lost', { reason });
    this.#follower = this.#newFollower();
    this.#follower.listen().catch((error: unknown) => {
      if (!this.#isEnded) this.#options.onFailed(error);
    });
  }
}

/**
 * Whether the snapshot of a read that was followed shows all that one of our own had shown. Of a later one the xmax
 * is greater, or the same while no transaction began; then it shows all below that if none of those is running.
 */
function covers({ read, snapshotXmax }: RelayedRead, ownXmax: bigint): boolean {
  const { xmin } = read.coverage;
  return snapshotXmax > ownXmax || (snapshotXmax === ownXmax && xmin === snapshotXmax);
}
