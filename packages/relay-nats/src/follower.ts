import type { FlagEvent, Lifecycle, RelayedRead } from 'flagcast/relay-support';
import type { EventLog, Logged } from './event-log.js';
import { type Commit, decodeCommit, decodeEvents, decodeHeartbeat, type Heartbeat } from './messages.js';

export interface FollowerOptions {
  readonly log: EventLog;
  /** The channels that somebody watches, or did a moment ago. */
  readonly wanted: ReadonlySet<string>;
  readonly lifecycle: Lifecycle;
  /** Hands on what was read, after all that was handed on before. */
  readonly onRead: (read: RelayedRead) => void;
  /** The reader lives; the newest commit that is known is `commit`. */
  readonly onHeard: (heard: LeaderHeartbeat) => void;
  /** What comes next cannot be taken from the log; with `newest` it can be from that commit on. */
  readonly onBreak: (reason: string, newest: LogPlace | null) => void;
  /** When a question of ours was asked, on the clock of performance.now(); null for those of others. */
  readonly askedAtMs: (question: string) => number | null;
}

export interface LogPlace {
  readonly log: string;
  readonly commit: number;
  /** Of the snapshot of the read that came before it: no later read of the same database is behind it. */
  readonly xmax: bigint;
}

export interface LeaderHeartbeat extends LogPlace {
  /** As the reader found the triggers; undefined where the message does not tell. */
  readonly triggerProblem?: string | null;
  readonly leaves: boolean;
  readonly readAgoMs: number;
}

interface Entry {
  readonly sequence: number;
  readonly commit: Commit;
}

/** So many commits may wait; those before are fetched from the log when they are due. */
const maxWaiting = 5_000;

/**
 * Follows the log: applies its commits in order, with the events of the channels that are wanted. What did not
 * come by itself is fetched from the log.
 */
export class Follower {
  readonly #options: FollowerOptions;
  /** Commits that were heard and not applied, in order. */
  #waiting: Entry[] = [];
  /** Events that were heard, by where they are in the log. */
  readonly #parts = new Map<number, FlagEvent[] | null>();
  /** The newest commit that was applied; null while the database is read here. */
  #applied: number | null = null;
  /** The newest commit of the log that is known. */
  #newest = 0;
  /** The log that all this is of. */
  #log = '';
  #beat: Heartbeat | null = null;
  #work: Promise<void> | null = null;
  readonly #leave: (() => void)[] = [];
  readonly #channels = new Map<string, () => void>();
  #isEnded = false;

  constructor(options: FollowerOptions) {
    this.#options = options;
  }

  /** The newest commit that was applied; null while nothing is followed. */
  get applied(): number | null {
    return this.#applied;
  }

  /** Begins to hear; the server has taken the subscriptions when it resolves. */
  async listen(): Promise<void> {
    const { log, wanted } = this.#options;
    this.#leave.push(
      log.onCommit((logged) => this.#guarded(() => this.#hearCommit(logged))),
      log.onSaid('beat', (data) => this.#guarded(() => this.#hearBeat(decodeHeartbeat(data)))),
    );
    for (const channel of wanted) this.watch(channel);
    await log.flush();
  }

  watch(channel: string): void {
    if (this.#channels.has(channel)) return;
    const leave = this.#options.log.onEvents(channel, ({ sequence, data }) => {
      this.#guarded(() => void this.#parts.set(sequence, decodeEvents(data)));
    });
    this.#channels.set(channel, leave);
  }

  unwatch(channel: string): void {
    this.#channels.get(channel)?.();
    this.#channels.delete(channel);
  }

  /** Everything up to this commit has been handed on: applies what comes after it. */
  begin(place: LogPlace): void {
    this.#sees(place);
    this.#applied = place.commit;
    this.#dropApplied();
    this.#run();
  }

  /** Applies nothing more until `begin`. */
  halt(): void {
    this.#applied = null;
  }

  /** Applies all that the log has. Tells the newest commit; null where that is not possible. */
  async catchUp(): Promise<number | null> {
    while (this.#applied !== null) {
      const last = await this.#options.log.lastCommit();
      if (last === null || last.sequence === this.#applied) return this.#applied;
      this.#newest = Math.max(this.#newest, last.sequence);
      this.#run();
      await this.#work;
    }
    return null;
  }

  end(): void {
    this.#isEnded = true;
    this.halt();
    for (const leave of this.#leave.splice(0)) leave();
    for (const leave of this.#channels.values()) leave();
    this.#channels.clear();
  }

  /** What others say must not harm us: what cannot be understood is missing, and missed messages are fetched. */
  #guarded(take: () => void): void {
    if (this.#isEnded) return;
    try {
      take();
    } catch (error) {
      this.#break(`a message of the relay cannot be understood (${String(error)})`, null);
    }
  }

  #hearCommit({ sequence, data }: Logged): void {
    const commit = decodeCommit(data);
    const place = placeOf(sequence, commit);
    this.#sees(place);
    this.#newest = Math.max(this.#newest, sequence);
    if (this.#waiting.length >= maxWaiting) {
      this.#waiting = [];
      this.#parts.clear();
    }
    this.#waiting.push({ sequence, commit });
    this.#options.onHeard({ ...place, leaves: false, readAgoMs: 0 });
    this.#run();
  }

  #hearBeat(beat: Heartbeat): void {
    const place = { log: beat.log, commit: beat.commit, xmax: beat.progress.xmax };
    this.#sees(place);
    this.#newest = Math.max(this.#newest, beat.commit);
    this.#beat = beat;
    const { leaves, readAgoMs, triggerProblem } = beat;
    this.#options.onHeard({ ...place, leaves, readAgoMs, triggerProblem });
    this.#run();
  }

  /** A log begins anew where it was lost, and where whoever reads now does not go on from what it has. */
  #sees(place: LogPlace): void {
    if (place.log === this.#log) return;
    this.#log = place.log;
    this.#waiting = [];
    this.#parts.clear();
    this.#newest = 0;
    this.#break('the log of NATS has begun anew', place);
  }

  #run(): void {
    if (this.#applied === null || this.#isEnded) return;
    this.#work ??= this.#applyAll()
      .catch((error: unknown) => {
        const reason = error instanceof Error ? error.message : String(error);
        this.#break(`the log of NATS cannot be read (${reason})`, null);
      })
      .finally(() => (this.#work = null));
  }

  async #applyAll(): Promise<void> {
    // In a later turn: whoever calls has more to do first.
    await Promise.resolve();
    while (this.#applied !== null && this.#applied < this.#newest) {
      const entry = await this.#after(this.#applied);
      if (entry !== null) await this.#apply(entry);
    }
    this.#applyBeat();
  }

  /** The commit that comes next. Null: following has ended meanwhile. */
  async #after(applied: number): Promise<Entry | null> {
    this.#dropApplied();
    const next = this.#waiting[0];
    if (next?.commit.previous === applied) return next;
    const logged = await this.#options.log.commitFrom(applied + 1);
    if (this.#applied !== applied) return null;
    this.#options.lifecycle.emit('relay:fetched', { messages: 1 });
    if (logged === null) throw new Error('a commit is no longer kept');
    return { sequence: logged.sequence, commit: decodeCommit(logged.data) };
  }

  async #apply({ sequence, commit }: Entry): Promise<void> {
    const applied = this.#applied;
    if (commit.previous !== applied || commit.log !== this.#log) {
      this.#break('a part of the log of NATS is missing', null);
      return;
    }
    if (!commit.continues) {
      this.#break('the reader has begun anew', placeOf(sequence, commit));
      return;
    }
    for (;;) {
      const taken = this.#eventsOf(commit);
      if (taken === null) {
        this.#break('an event is too large for NATS', placeOf(sequence, commit));
        return;
      }
      if (taken.missing.length === 0) {
        this.#applied = sequence;
        this.#handOn(commit, taken);
        this.#dropApplied();
        return;
      }
      await this.#fetch(taken.missing);
      if (this.#applied !== applied) return;
    }
  }

  /** Null: those of a channel that is wanted are too large for the log. */
  #eventsOf(commit: Commit): { events: FlagEvent[]; skipped: string[]; missing: number[] } | null {
    const events: FlagEvent[] = [];
    const skipped: string[] = [];
    const missing: number[] = [];
    for (const [channel, sequences] of commit.channels) {
      if (!this.#options.wanted.has(channel)) {
        skipped.push(channel);
        continue;
      }
      if (sequences === null) return null;
      for (const sequence of sequences) {
        const part = this.#parts.get(sequence);
        if (part === undefined) missing.push(sequence);
        else events.push(...(part ?? []));
      }
    }
    return { events, skipped, missing };
  }

  async #fetch(sequences: readonly number[]): Promise<void> {
    await Promise.all(
      sequences.map(async (sequence) => {
        const logged = await this.#options.log.message(sequence);
        if (logged === null) throw new Error('events are no longer kept');
        this.#parts.set(sequence, decodeEvents(logged.data));
      }),
    );
    this.#options.lifecycle.emit('relay:fetched', { messages: sequences.length });
  }

  #handOn(commit: Commit, { events, skipped }: { events: FlagEvent[]; skipped: string[] }): void {
    const { progress, controls, seenAtMs, answers } = commit;
    this.#options.onRead({
      ...progress,
      snapshotXmax: progress.xmax,
      events,
      controls,
      skipped,
      seenAtMs,
      beganAtMs: this.#beganAtMs(answers),
    });
    this.#options.lifecycle.emit('relay:applied', {
      events: events.length,
      skippedChannels: skipped.length,
      delayMs: Math.max(0, Date.now() - seenAtMs),
    });
  }

  /** Where the reader stands after the newest commit. */
  #applyBeat(): void {
    const beat = this.#beat;
    if (beat === null || this.#applied === null || beat.commit !== this.#applied) return;
    this.#beat = null;
    const { progress, answers } = beat;
    this.#options.onRead({
      ...progress,
      snapshotXmax: progress.xmax,
      events: [],
      controls: [],
      skipped: [],
      seenAtMs: Date.now(),
      beganAtMs: this.#beganAtMs(answers),
    });
  }

  /** A read began after the questions that it answers. */
  #beganAtMs(answers: readonly string[]): number {
    const asked = answers.map((question) => this.#options.askedAtMs(question));
    return Math.max(-1, ...asked.filter((atMs) => atMs !== null));
  }

  #dropApplied(): void {
    const applied = this.#applied ?? 0;
    const due = this.#waiting.findIndex(({ sequence }) => sequence > applied);
    this.#waiting.splice(0, due === -1 ? this.#waiting.length : due);
    for (const sequence of this.#parts.keys()) {
      if (sequence > applied) break;
      this.#parts.delete(sequence);
    }
  }

  #break(reason: string, newest: LogPlace | null): void {
    if (this.#applied === null) return;
    this.halt();
    this.#options.onBreak(reason, newest);
  }
}

function placeOf(sequence: number, { log, progress }: Commit): LogPlace {
  return { log, commit: sequence, xmax: progress.xmax };
}
