import { randomUUID } from 'node:crypto';
import { type FlagEvent, type Lifecycle, type RelayedRead, toError } from 'flagcast/support';
import type { EventLog, LogMessage } from './event-log.js';
import {
  type Commit,
  type CommittedEvent,
  decodeCommit,
  decodeEvents,
  decodeHeartbeat,
  encode,
  type Heartbeat,
} from './messages.js';

/** A commit of the log. */
export interface LogPlace {
  /** Identifies the log. */
  readonly log: string;
  readonly commit: number;
  /** The xmax of the leader's snapshot: later reads of the same database have at least this xmax. */
  readonly xmax: bigint;
}

/** The leader reads the database; `commit` is its newest one. */
export interface LeaderHeartbeat extends LogPlace {
  /** What is wrong with the triggers, as the leader sees it; undefined if the message does not contain it. */
  readonly triggerProblem?: string | null;
  readonly leaves: boolean;
  /** How long ago the leader has read the database, in milliseconds; null if the message does not say so. */
  readonly readAgoMs: number | null;
}

export interface FollowerOptions {
  readonly log: EventLog;
  /** The channels whose events are applied. */
  readonly watched: ReadonlySet<string>;
  readonly lifecycle: Lifecycle;
  /** Called for each commit, in order. */
  readonly onRead: (read: RelayedRead) => void;
  readonly onHeartbeat: (heartbeat: LeaderHeartbeat) => void;
  /** The log cannot be followed any further. With `resumeAt` it can be followed again from that commit. */
  readonly onGap: (reason: string, resumeAt: LogPlace | null) => void;
}

/**
 * Applies the commits of the log in order, with the events of the watched channels. Messages that did not arrive are
 * fetched from the log.
 */
export class Follower {
  readonly #options: FollowerOptions;
  readonly #received = new ReceivedMessages();
  readonly #requests = new ReadRequests();
  /** By channel, and one each for commits and heartbeats. */
  readonly #unsubscribe = new Map<string, () => void>();
  #logName = '';
  /** The newest commit that is applied; null while the log is not followed. */
  #applied: number | null = null;
  /** The newest commit that is known. */
  #newest = 0;
  /** The newest heartbeat, until it is applied. */
  #heartbeat: Heartbeat | null = null;
  #applying: Promise<void> | null = null;
  #isEnded = false;

  constructor(options: FollowerOptions) {
    this.#options = options;
  }

  get applied(): number | null {
    return this.#applied;
  }

  /** Subscribes to the log. Resolves when NATS has the subscriptions. */
  async listen(): Promise<void> {
    const { log, watched } = this.#options;
    this.#unsubscribe.set(
      'commits',
      log.onCommit((message) => this.#receive(() => this.#receiveCommit(message))),
    );
    this.#unsubscribe.set(
      'heartbeats',
      log.subscribe('heartbeat', (data) =>
        this.#receive(() => this.#receiveHeartbeat(decodeHeartbeat(data))),
      ),
    );
    for (const channel of watched) this.watch(channel);
    await log.flush();
  }

  watch(channel: string): void {
    if (this.#unsubscribe.has(channel)) return;
    const unsubscribe = this.#options.log.onEvents(channel, ({ sequence, data }) => {
      this.#receive(() => this.#receiveEvents(sequence, data));
    });
    this.#unsubscribe.set(channel, unsubscribe);
  }

  unwatch(channel: string): void {
    this.#unsubscribe.get(channel)?.();
    this.#unsubscribe.delete(channel);
  }

  /** Applies the commits after this one. Everything up to it must have been delivered. */
  begin(place: LogPlace): void {
    this.#checkLog(place);
    this.#applied = place.commit;
    this.#received.dropUntil(place.commit);
    this.#run();
  }

  /** Applies nothing until `begin`. */
  halt(): void {
    this.#applied = null;
  }

  /** Applies everything that the log has. Resolves with the newest commit; with null if that is not possible. */
  async catchUp(): Promise<number | null> {
    while (this.#applied !== null) {
      const last = await this.#options.log.lastCommit();
      if (last === null || last.sequence === this.#applied) return this.#applied;
      this.#newest = Math.max(this.#newest, last.sequence);
      this.#run();
      await this.#applying;
    }
    return null;
  }

  /** Requests a read from the leader that starts after this call. */
  requestRead(): void {
    this.#requests.schedule((request) => this.#options.log.publish('request', encode(request)));
  }

  end(): void {
    this.#isEnded = true;
    this.halt();
    for (const unsubscribe of this.#unsubscribe.values()) unsubscribe();
    this.#unsubscribe.clear();
  }

  /** A message that cannot be decoded stops following; the log may have a readable one later. */
  #receive(process: () => void): void {
    if (this.#isEnded) return;
    try {
      process();
    } catch (error) {
      this.#stopAtGap(`a message of the relay cannot be decoded (${String(error)})`, null);
    }
  }

  #receiveEvents(sequence: number, data: Uint8Array): void {
    this.#received.addEvents(sequence, decodeEvents(data), data.length);
    // While the log is not followed, nothing is applied that would make room.
    if (this.#applied === null && this.#received.bytes > maxReceivedBytes) this.#received.clear();
  }

  #receiveCommit({ sequence, data }: LogMessage): void {
    const commit = decodeCommit(data);
    const place = placeOf(sequence, commit);
    this.#checkLog(place);
    this.#newest = Math.max(this.#newest, sequence);
    this.#received.addCommit({ sequence, commit });
    this.#options.onHeartbeat({ ...place, leaves: false, readAgoMs: null });
    this.#run();
  }

  #receiveHeartbeat(heartbeat: Heartbeat): void {
    const { log, commit, progress, leaves, readAgoMs, triggerProblem } = heartbeat;
    const place = { log, commit, xmax: progress.xmax };
    this.#checkLog(place);
    this.#newest = Math.max(this.#newest, commit);
    this.#heartbeat = heartbeat;
    this.#options.onHeartbeat({ ...place, leaves, readAgoMs, triggerProblem });
    this.#run();
  }

  /** There is a new log if the log was lost, or if the new leader does not continue from all of its commits. */
  #checkLog(place: LogPlace): void {
    if (place.log === this.#logName) return;
    this.#logName = place.log;
    this.#received.clear();
    this.#newest = 0;
    this.#stopAtGap('there is a new log in NATS', place);
  }

  #run(): void {
    if (this.#applied === null || this.#isEnded) return;
    this.#applying ??= this.#applyAll()
      .catch((error: unknown) => {
        const reason = toError(error).message;
        this.#stopAtGap(`the log in NATS cannot be read (${reason})`, null);
      })
      .finally(() => (this.#applying = null));
  }

  async #applyAll(): Promise<void> {
    // After the caller has finished its own step.
    await Promise.resolve();
    while (this.#applied !== null && this.#applied < this.#newest) {
      const next = await this.#commitAfter(this.#applied);
      if (next !== null) await this.#apply(next);
    }
    this.#applyHeartbeat();
  }

  /** The next commit; null if following has ended meanwhile. */
  async #commitAfter(applied: number): Promise<ReceivedCommit | null> {
    this.#received.dropUntil(applied);
    const next = this.#received.firstCommit;
    if (next?.commit.previous === applied) return next;
    const message = await this.#options.log.commitFrom(applied + 1);
    if (this.#applied !== applied) return null;
    this.#options.lifecycle.emit('relay:fetched', { messages: 1 });
    if (message === null) throw new Error('a commit is no longer stored');
    return { sequence: message.sequence, commit: decodeCommit(message.data) };
  }

  async #apply({ sequence, commit }: ReceivedCommit): Promise<void> {
    const applied = this.#applied;
    if (commit.previous !== applied || commit.log !== this.#logName) {
      this.#stopAtGap('a part of the log in NATS is missing', null);
      return;
    }
    if (!commit.continues) {
      this.#stopAtGap('the leader has started again', placeOf(sequence, commit));
      return;
    }
    for (;;) {
      const content = this.#contentOf(commit);
      if (content === null) {
        this.#stopAtGap('an event is too large for NATS', placeOf(sequence, commit));
        return;
      }
      if (content.missing.length === 0) {
        this.#applied = sequence;
        this.#deliver(commit, content);
        this.#received.dropUntil(sequence);
        return;
      }
      await this.#fetch(content.missing);
      if (this.#applied !== applied) return;
    }
  }

  /** Null if events of a watched channel are too large for the log. */
  #contentOf(commit: Commit): { events: FlagEvent[]; skipped: string[]; missing: number[] } | null {
    const events = new Map<number, CommittedEvent>();
    const skipped: string[] = [];
    const missing: number[] = [];
    for (const [channel, sequences] of commit.channels) {
      if (!this.#options.watched.has(channel)) {
        skipped.push(channel);
        continue;
      }
      if (sequences === null) return null;
      for (const sequence of sequences) {
        const received = this.#received.events(sequence);
        if (received === undefined) missing.push(sequence);
        else for (const event of received ?? []) events.set(event.place, event);
      }
    }
    const inOrder = [...events.values()].toSorted((one, other) => one.place - other.place);
    return { events: inOrder, skipped, missing };
  }

  async #fetch(sequences: readonly number[]): Promise<void> {
    await Promise.all(
      sequences.map(async (sequence) => {
        const message = await this.#options.log.message(sequence);
        if (message === null) throw new Error('events are no longer stored');
        this.#received.addEvents(sequence, decodeEvents(message.data), message.data.length);
      }),
    );
    this.#options.lifecycle.emit('relay:fetched', { messages: sequences.length });
  }

  #deliver(commit: Commit, { events, skipped }: { events: FlagEvent[]; skipped: string[] }): void {
    const { controls, seenAtMs } = commit;
    this.#options.onRead({ ...this.#readOf(commit), events, controls, skipped, seenAtMs });
    this.#options.lifecycle.emit('relay:applied', {
      events: events.length,
      skippedChannels: skipped.length,
      delayMs: Math.max(0, Date.now() - seenAtMs),
    });
  }

  /** The newest heartbeat is the progress after the newest commit. */
  #applyHeartbeat(): void {
    const heartbeat = this.#heartbeat;
    if (heartbeat === null || this.#applied === null || heartbeat.commit !== this.#applied) return;
    this.#heartbeat = null;
    const seenAtMs = Date.now();
    this.#options.onRead({ ...this.#readOf(heartbeat), events: [], controls: [], skipped: [], seenAtMs });
  }

  #readOf({
    progress,
    answers,
  }: Commit | Heartbeat): Omit<RelayedRead, 'events' | 'controls' | 'skipped' | 'seenAtMs'> {
    const { xmax: snapshotXmax, ...read } = progress;
    return { ...read, snapshotXmax, beganAtMs: this.#requests.newestOf(answers) };
  }

  #stopAtGap(reason: string, resumeAt: LogPlace | null): void {
    if (this.#applied === null) return;
    this.halt();
    this.#options.onGap(reason, resumeAt);
  }
}

function placeOf(sequence: number, { log, progress }: Commit): LogPlace {
  return { log, commit: sequence, xmax: progress.xmax };
}

interface ReceivedCommit {
  readonly sequence: number;
  readonly commit: Commit;
}

/** Messages that were received and are not applied. Beyond this many commits they are fetched from the log later. */
const maxReceivedCommits = 5_000;
/** While the log is not followed: beyond this many bytes they are fetched from the log later. */
const maxReceivedBytes = 33_554_432;

class ReceivedMessages {
  /** In order. */
  #commits: ReceivedCommit[] = [];
  /** By sequence; null if they are too large for the log. */
  readonly #events = new Map<number, { readonly events: CommittedEvent[] | null; readonly bytes: number }>();
  /** The size of the messages of `#events`. */
  bytes = 0;

  get firstCommit(): ReceivedCommit | undefined {
    return this.#commits[0];
  }

  addCommit(commit: ReceivedCommit): void {
    if (this.#commits.length >= maxReceivedCommits) this.clear();
    this.#commits.push(commit);
  }

  addEvents(sequence: number, events: CommittedEvent[] | null, bytes: number): void {
    this.#drop(sequence);
    this.#events.set(sequence, { events, bytes });
    this.bytes += bytes;
  }

  /** Undefined if they were not received. */
  events(sequence: number): CommittedEvent[] | null | undefined {
    return this.#events.get(sequence)?.events;
  }

  dropUntil(applied: number): void {
    const first = this.#commits.findIndex(({ sequence }) => sequence > applied);
    this.#commits.splice(0, first === -1 ? this.#commits.length : first);
    for (const sequence of this.#events.keys()) {
      if (sequence > applied) break;
      this.#drop(sequence);
    }
  }

  clear(): void {
    this.#commits = [];
    this.#events.clear();
    this.bytes = 0;
  }

  #drop(sequence: number): void {
    this.bytes -= this.#events.get(sequence)?.bytes ?? 0;
    this.#events.delete(sequence);
  }
}

const maxRequests = 100;

/** This server's requests for reads, and when each was sent, on the clock of performance.now(). */
class ReadRequests {
  readonly #sentAtMs = new Map<string, number>();
  #isScheduled = false;

  /** Sends one request for all calls in this turn of the event loop. */
  schedule(send: (request: string) => void): void {
    if (this.#isScheduled) return;
    this.#isScheduled = true;
    setImmediate(() => {
      this.#isScheduled = false;
      const request = randomUUID();
      this.#sentAtMs.set(request, performance.now());
      const [oldest] = this.#sentAtMs.keys();
      if (oldest !== undefined && this.#sentAtMs.size > maxRequests) this.#sentAtMs.delete(oldest);
      send(request);
    });
  }

  /** When the newest of the requests was sent: a read that answers it began later. -1 if this server sent none. */
  newestOf(requests: readonly string[]): number {
    return Math.max(-1, ...requests.map((request) => this.#sentAtMs.get(request) ?? -1));
  }
}
