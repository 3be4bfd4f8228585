import { randomUUID } from 'node:crypto';
import {
  type Batch,
  type Lifecycle,
  type RelayContext,
  type RelayedRead,
  type RelayedReader,
  toError,
} from 'flagcast/support';
import type { EventLog } from './event-log.js';
import { Follower, type LeaderHeartbeat, type LogPlace } from './follower.js';
import { decodeCommit, decodeRequest } from './messages.js';
import { Publisher } from './publisher.js';
import { PooledLockError, ReaderLock } from './reader-lock.js';

export interface RelayNodeOptions {
  readonly log: EventLog;
  /** Identifies the history; its lock has this name. */
  readonly id: string;
  readonly openSession: RelayContext['openSession'];
  readonly reader: Pick<RelayedReader, 'canFollow' | 'requestBatch' | 'pause' | 'resume' | 'follow'>;
  readonly watched: ReadonlySet<string>;
  readonly lifecycle: Lifecycle;
  /** What is wrong with the triggers, as this server read it last; null if nothing is. */
  readonly triggerProblem: () => string | null;
  /** The newest batch that was delivered on this server. */
  readonly newest: () => Batch;
  /** NATS does not work as expected: the node has to end. */
  readonly onFailed: (error: unknown) => void;
}

/** `direct`: this server reads the database for itself. Times are on the clock of performance.now(). */
interface Direct {
  readonly mode: 'direct';
  readonly follower: Follower;
  readonly sinceMs: number;
  /** The log can be followed from here after a complete read of this server that starts after `atMs`. */
  anchor: (LogPlace & { readonly atMs: number }) | null;
  /** Not before this time. */
  followFromMs: number;
}

interface Following {
  readonly mode: 'following';
  readonly follower: Follower;
  /** The xmax of this server's last read; null once the log is known to have everything that it returned. */
  ownXmax: bigint | null;
}

/** `leading`: this server reads for all. */
interface Leading extends Candidacy {
  readonly mode: 'leading';
  readonly publisher: Publisher;
  readonly unsubscribe: () => void;
}

/** The lock is held. The server leads as soon as its first commit is in the log. */
interface Candidacy {
  readonly lock: ReaderLock;
  publisher: Publisher | null;
}

const tickMs = 200;
/** How long the log is not followed after it could not be, because each change costs reads on both sides. */
const holdOffMs = 2_000;
const noHeartbeat = 'the leader sends no heartbeats';

/**
 * One of the servers that share a log: leads, follows the leader, or reads for itself while there is no leader.
 * Nothing is lost in between: it follows only after a read of its own that covers the log, and its own reads continue
 * from where it followed to.
 *
 * ```
 * direct -- a read of its own covers the log --> following -- no heartbeats, or a gap --> direct
 * direct, following -- has the lock, and its first commit is in the log --> leading -- lock, NATS or database lost --> direct
 * ```
 */
export class RelayNode {
  readonly #options: RelayNodeOptions;
  readonly #leader = new LeaderTimeout();
  #state: Direct | Following | Leading;
  #candidacy: Candidacy | null = null;
  #isElecting = false;
  #hasReportedPooler = false;
  #timer: NodeJS.Timeout | null = null;
  #isEnded = false;

  constructor(options: RelayNodeOptions) {
    this.#options = options;
    this.#state = this.#direct(this.#newFollower());
  }

  get isFollowing(): boolean {
    return this.#state.mode === 'following';
  }

  /** The newest commit that was delivered; null unless the log has everything that was delivered on this server. */
  get applied(): number | null {
    const state = this.#state;
    return state.mode === 'following' && state.ownXmax === null ? state.follower.applied : null;
  }

  /** Rejects if NATS does not respond. */
  async start(): Promise<void> {
    await this.#follower?.listen();
    if (this.#isEnded) return;
    this.#leader.heartbeat();
    this.#timer = setInterval(() => this.#tick(), tickMs);
  }

  watch(channel: string, isWatched: boolean): void {
    if (isWatched) this.#follower?.watch(channel);
    else this.#follower?.unwatch(channel);
  }

  /** The batch was delivered on this server. */
  delivered(batch: Batch): void {
    const publisher = this.#state.mode === 'leading' ? this.#state.publisher : this.#candidacy?.publisher;
    if (publisher) publisher.add(batch);
    else this.#followIfCovered(batch);
  }

  /** Requests a read from the leader; only while following. */
  requestRead(): void {
    this.#follower?.requestRead();
  }

  /** This server cannot read the database. */
  readFailed(): void {
    this.#stepDown('the database cannot be read', { leaves: true });
  }

  /** Leaves the other servers, and reads the database for itself unless the server stops (`isLast`). */
  async end({ reason, leaves, isLast }: { reason: string; leaves: boolean; isLast: boolean }): Promise<void> {
    if (this.#isEnded) return;
    if (!isLast) this.#readDirectly(reason, null);
    this.#isEnded = true;
    if (this.#timer !== null) clearInterval(this.#timer);
    this.#follower?.end();
    const { lifecycle } = this.#options;
    if (this.#state.mode === 'leading') lifecycle.emit('relay:leadership-lost', { reason });
    await this.#release({ leaves });
  }

  get #follower(): Follower | null {
    return this.#state.mode === 'leading' ? null : this.#state.follower;
  }

  #direct(follower: Follower, followFromMs = 0): Direct {
    return { mode: 'direct', follower, sinceMs: performance.now(), anchor: null, followFromMs };
  }

  #newFollower(): Follower {
    const { log, watched, lifecycle, reader } = this.#options;
    return new Follower({
      log,
      watched,
      lifecycle,
      onRead: (read) => {
        const state = this.#state;
        if (state.mode === 'following' && state.ownXmax !== null && hasAll(read, state.ownXmax)) {
          state.ownXmax = null;
        }
        reader.follow(read);
      },
      onHeartbeat: (heartbeat) => this.#receiveHeartbeat(heartbeat),
      onGap: (reason, resumeAt) => this.#readDirectly(reason, resumeAt),
    });
  }

  #receiveHeartbeat({ log, commit, xmax, leaves, readAgoMs, triggerProblem }: LeaderHeartbeat): void {
    if (leaves) {
      this.#leader.left();
      return;
    }
    this.#leader.heartbeat();
    const { lifecycle, reader } = this.#options;
    lifecycle.emit('relay:heartbeat', { readAgoMs });
    const state = this.#state;
    if (state.mode === 'following' && triggerProblem !== undefined) {
      lifecycle.emit('reader:triggers', { problem: triggerProblem });
    }
    const nowMs = performance.now();
    if (state.mode !== 'direct' || state.anchor !== null || nowMs < state.followFromMs) return;
    state.anchor = { log, commit, xmax, atMs: nowMs };
    reader.requestBatch();
  }

  #followIfCovered(batch: Batch): void {
    const state = this.#state;
    const { reader, lifecycle } = this.#options;
    if (state.mode !== 'direct' || this.#isElecting || this.#isEnded) return;
    const { anchor, follower, sinceMs } = state;
    // In the middle of a large transaction the log may contain more of it than this server has read.
    if (anchor === null || batch.beganAtMs < anchor.atMs || !batch.isComplete || !reader.canFollow) return;
    const nowMs = performance.now();
    if (batch.snapshotXmax < anchor.xmax) {
      // The database went back, and the log has transactions that no longer exist. The leader notices that soon.
      state.anchor = null;
      state.followFromMs = nowMs + holdOffMs;
      return;
    }
    this.#state = { mode: 'following', follower, ownXmax: batch.snapshotXmax };
    reader.pause();
    follower.begin(anchor);
    lifecycle.emit('relay:following', { directMs: nowMs - sinceMs });
  }

  #readDirectly(reason: string, resumeAt: LogPlace | null): void {
    if (this.#state.mode !== 'following') return;
    const { follower } = this.#state;
    const nowMs = performance.now();
    follower.halt();
    const state = this.#direct(follower);
    this.#state = state;
    if (resumeAt !== null) state.anchor = { ...resumeAt, atMs: nowMs };
    else state.followFromMs = nowMs + holdOffMs;
    this.#options.lifecycle.emit('relay:direct', { reason });
    this.#options.reader.resume();
  }

  #tick(): void {
    if (this.#state.mode === 'leading' || this.#isElecting) return;
    if (!this.#leader.isSilent(this.#state.mode)) return;
    if (this.#leader.isGraceOver()) this.#readDirectly(noHeartbeat, null);
    if (this.#leader.mayElect()) void this.#elect();
  }

  async #elect(): Promise<void> {
    const { id, openSession, lifecycle } = this.#options;
    this.#isElecting = true;
    this.#leader.electing();
    try {
      const lock = await ReaderLock.take(openSession, id, () => {
        this.#stepDown('the session that holds the lock was lost', { leaves: true });
      });
      if (this.#isEnded) await lock?.release();
      else if (lock === null) this.#leader.beginGrace();
      else await this.#lead(lock);
    } catch (error) {
      if (this.#isEnded) return;
      if (error instanceof PooledLockError && !this.#hasReportedPooler) {
        this.#hasReportedPooler = true;
        const fix = 'set FLAGCAST_LISTEN_URL to a connection string that leads straight to the primary';
        lifecycle.emit('relay:refused', { message: error.message, fix });
      }
      this.#readDirectly(noHeartbeat, null);
    } finally {
      this.#isElecting = false;
    }
  }

  /** Rejects if the first commit is refused. */
  async #lead(lock: ReaderLock): Promise<void> {
    const candidacy = { lock, publisher: null };
    this.#candidacy = candidacy;
    try {
      await this.#publishFirstCommit(candidacy);
    } finally {
      if (this.#candidacy === candidacy) await this.#release({ leaves: false });
    }
  }

  async #publishFirstCommit(candidacy: Candidacy): Promise<void> {
    const { log, lifecycle, reader, newest, triggerProblem } = this.#options;
    const applied = this.isFollowing ? await this.#follower?.catchUp() : null;
    const last = await log.lastCommit();
    const before = last === null ? null : decodeCommit(last.data);
    if (this.#candidacy !== candidacy) return;
    // The log may not have everything that this server read before it followed; then followers have to read it, too.
    const isWhole = this.#state.mode === 'following' && this.#state.ownXmax === null;
    const continues = before !== null && applied === last?.sequence && isWhole;
    const publisher = new Publisher({
      log,
      // A log that does not continue may be of a database that was restored since.
      logName: continues ? before.log : randomUUID(),
      reader: randomUUID(),
      newest: newest(),
      previous: last?.sequence ?? 0,
      unbrokenSince: continues ? before.unbrokenSince : null,
      triggerProblem,
      lifecycle,
      onFailed: (error) => {
        this.#stepDown(toError(error).message, { leaves: false });
      },
    });
    candidacy.publisher = publisher;
    await publisher.open();
    if (this.#candidacy !== candidacy) return;
    this.#candidacy = null;
    this.#follower?.end();
    const unsubscribe = log.subscribe('request', (data) => {
      try {
        publisher.requested(decodeRequest(data));
      } catch {
        // An unreadable request cannot be answered, but it may still need the read.
      }
      reader.requestBatch();
    });
    this.#state = { mode: 'leading', lock: candidacy.lock, publisher, unsubscribe };
    lifecycle.emit('relay:elected', { continues });
    reader.resume();
  }

  /** Ends the publisher and releases the lock. `leaves`: the others are notified. */
  async #release({ leaves }: { leaves: boolean }): Promise<void> {
    const held = this.#state.mode === 'leading' ? this.#state : this.#candidacy;
    this.#candidacy = null;
    if (held === null) return;
    held.publisher?.end({ leaves });
    if ('unsubscribe' in held) held.unsubscribe();
    await held.lock.release();
  }

  /** Stops leading, or trying to, and reads for itself. */
  #stepDown(reason: string, { leaves }: { leaves: boolean }): void {
    if (this.#isEnded) return;
    void this.#release({ leaves });
    if (this.#state.mode !== 'leading') return;
    // Other servers may be in a better position.
    this.#leader.steppedDown();
    const follower = this.#newFollower();
    this.#state = this.#direct(follower);
    this.#options.lifecycle.emit('relay:leadership-lost', { reason });
    follower.listen().catch((error: unknown) => {
      if (!this.#isEnded) this.#options.onFailed(error);
    });
  }
}

/** Without a heartbeat for this long the leader counts as lost; it sends one every 500 ms. In milliseconds. */
const silenceMs = { following: 1_500, direct: 700 };
/** Spreads the elections of several servers. */
const jitterMs = 250;
/** How long the first heartbeat of a server that was faster may take before the database is read. */
const graceMs = 300;
/** The pause between two elections; each is shorter by a random part of up to one half. */
const electionPauseMs = 2_000;

/** Decides when the leader counts as lost. Times are on the clock of performance.now(). */
class LeaderTimeout {
  readonly #jitterMs = Math.random() * jitterMs;
  #heartbeatAtMs = performance.now();
  #electAtMs = 0;
  #graceEndsAtMs: number | null = null;

  heartbeat(): void {
    this.#heartbeatAtMs = performance.now();
    this.#graceEndsAtMs = null;
  }

  /** The leader has announced its end. */
  left(): void {
    this.#heartbeatAtMs = performance.now() - silenceMs.following;
    this.#electAtMs = 0;
    this.#graceEndsAtMs = null;
  }

  electing(): void {
    this.#electAtMs = performance.now() + (electionPauseMs / 2) * (1 + Math.random());
  }

  steppedDown(): void {
    this.heartbeat();
    this.#electAtMs = this.#heartbeatAtMs + electionPauseMs;
  }

  /** Another server has the lock, so its heartbeat is expected. */
  beginGrace(): void {
    this.#graceEndsAtMs ??= performance.now() + graceMs;
  }

  isSilent(mode: 'direct' | 'following'): boolean {
    return performance.now() - this.#heartbeatAtMs >= silenceMs[mode] + this.#jitterMs;
  }

  /** True once, when no heartbeat has come within the grace period. */
  isGraceOver(): boolean {
    if (this.#graceEndsAtMs === null || performance.now() < this.#graceEndsAtMs) return false;
    this.#graceEndsAtMs = null;
    return true;
  }

  mayElect(): boolean {
    return performance.now() >= this.#electAtMs;
  }
}

/**
 * Whether a followed read has everything that a read of our own with this xmax has shown. A later snapshot has a
 * greater xmax, or the same one while no transaction begins; then it shows everything if none is in flight.
 */
function hasAll({ read, snapshotXmax, isComplete }: RelayedRead, ownXmax: bigint): boolean {
  const isLater = snapshotXmax > ownXmax || (snapshotXmax === ownXmax && read.coverage.xmin === snapshotXmax);
  return isComplete && isLater;
}
