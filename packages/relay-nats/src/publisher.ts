import { type Batch, byChannel, type FlagEvent, type Lifecycle } from 'flagcast/support';
import type { EventLog } from './event-log.js';
import { type Commit, encode, encodeEvents, type Progress, tooLarge } from './messages.js';

export interface PublisherOptions {
  readonly log: Pick<EventLog, 'maxBytes' | 'publishEvents' | 'publishCommit' | 'publish'>;
  readonly logName: string;
  /** Identifies this server's time as the leader. */
  readonly reader: string;
  /** The newest batch that was delivered. */
  readonly newest: Batch;
  /** The sequence of the newest commit; 0 if there is no commit. */
  readonly previous: number;
  /** As in the newest commit; null if the next batch does not continue from the log. */
  readonly unbrokenSince: bigint | null;
  readonly triggerProblem: () => string | null;
  readonly lifecycle: Lifecycle;
  /** Called once; nothing is published afterwards. */
  readonly onFailed: (error: unknown) => void;
}

const heartbeatIntervalMs = 500;
/** Waiting batches are published together, up to about this many events. */
const maxEvents = 2_000;

/** Publishes what the leader reads: the events of each channel, then the commit that makes them valid. */
export class Publisher {
  readonly #options: PublisherOptions;
  readonly #waiting: Batch[] = [];
  /** `publishing`: also while the first commit is written. */
  #state: 'idle' | 'publishing' | 'ended' = 'publishing';
  /** The sequence of the newest commit. */
  #commit: number;
  #commitCount = 0;
  #unbrokenSince: bigint;
  /** Everything up to here is in the log. */
  #progress: Progress;
  /** Null: not since this server leads. */
  #readAtMs: number | null = null;
  /** Requests for reads, and when they arrived, on the clock of performance.now(). */
  readonly #requests = new Map<string, number>();
  #timer: NodeJS.Timeout | null = null;

  constructor(options: PublisherOptions) {
    const { newest, previous, unbrokenSince } = options;
    this.#options = options;
    this.#commit = previous;
    this.#progress = this.#progressAfter(newest);
    this.#unbrokenSince = unbrokenSince ?? newest.snapshotXmax;
  }

  /** Writes the first commit, without events. Rejects if it is refused. */
  async open(): Promise<void> {
    const continues = this.#options.unbrokenSince !== null;
    await this.#writeCommit({ continues, progress: this.#progress, seenAtMs: Date.now() });
    if (this.#state === 'ended') return;
    this.#state = 'idle';
    this.#sendHeartbeat();
    this.#timer = setInterval(() => this.#sendHeartbeat(), heartbeatIntervalMs);
    this.#run();
  }

  /** Publishes a batch after those before. A batch without events only reports the reader's progress. */
  add(batch: Batch): void {
    if (this.#state === 'ended') return;
    // While this server becomes the leader, it may still receive what the one before has read.
    if (batch.readMs !== undefined) this.#readAtMs = performance.now();
    this.#waiting.push(batch);
    this.#run();
  }

  /** A follower requests a read that starts later; the caller reads. */
  requested(request: string): void {
    this.#requests.set(request, performance.now());
  }

  /** Ends publishing. `leaves` notifies the others, so that they do not wait for a time-out. */
  end({ leaves }: { leaves: boolean }): void {
    if (this.#state === 'ended') return;
    if (leaves) this.#sendHeartbeat({ leaves });
    this.#state = 'ended';
    if (this.#timer !== null) clearInterval(this.#timer);
  }

  #run(): void {
    if (this.#state !== 'idle' || this.#waiting.length === 0) return;
    this.#state = 'publishing';
    this.#publish(this.#takeWaiting())
      .then(() => {
        if (this.#state === 'publishing') this.#state = 'idle';
        this.#run();
      })
      .catch((error: unknown) => {
        if (this.#state === 'ended') return;
        this.end({ leaves: false });
        this.#options.onFailed(error);
      });
  }

  /** The oldest waiting batches, as many as fit into one commit. */
  #takeWaiting(): Batch[] {
    let events = 0;
    const count = this.#waiting.findIndex((batch) => {
      const isTooMuch = events > 0 && events + batch.events.length > maxEvents;
      events += batch.events.length;
      return isTooMuch;
    });
    return this.#waiting.splice(0, count === -1 ? this.#waiting.length : count);
  }

  async #publish(batches: readonly Batch[]): Promise<void> {
    const startedAtMs = performance.now();
    const newest = batches.at(-1);
    if (newest === undefined) return;
    const events = batches.flatMap((batch) => batch.events);
    const controls = batches.flatMap((batch) => batch.controls);
    const answers = this.#answeredBy(newest);
    const progress = this.#progressAfter(newest);
    if (events.length === 0 && controls.length === 0) {
      this.#progress = progress;
      // Without answers the next regular heartbeat is early enough.
      if (answers.length > 0) this.#sendHeartbeat({ answers });
      return;
    }
    this.#commitCount += 1;
    const { channels, bytes } = await this.#writeEvents(events);
    const { seenAtMs } = newest;
    await this.#writeCommit({ continues: true, progress, seenAtMs, controls, channels, answers });
    this.#options.lifecycle.emit('relay:published', {
      events: events.length,
      channels: channels.length,
      bytes,
      durationMs: performance.now() - startedAtMs,
    });
  }

  async #writeEvents(events: readonly FlagEvent[]): Promise<{ channels: Commit['channels']; bytes: number }> {
    const { log } = this.#options;
    let bytes = 0;
    const channels = await Promise.all(
      [...byChannel(events.map((event, place) => ({ ...event, place })))].map(
        async ([channel, ofChannel]) => {
          const messages = encodeEvents(ofChannel, log.maxBytes);
          const sequences = await Promise.all(
            (messages ?? [tooLarge]).map(async (message, part) => {
              bytes += message.length;
              return await log.publishEvents(channel, message, this.#messageId(`${channel} ${part}`));
            }),
          );
          return [channel, messages === null ? null : sequences] as const;
        },
      ),
    );
    return { channels, bytes };
  }

  async #writeCommit(
    entry: Pick<Commit, 'continues' | 'progress' | 'seenAtMs'> &
      Partial<Pick<Commit, 'controls' | 'channels' | 'answers'>>,
  ): Promise<void> {
    const { log, logName, reader } = this.#options;
    const { progress, seenAtMs } = entry;
    const previous = this.#commit;
    const empty = { log: logName, reader, previous, answers: [], controls: [], channels: [] };
    let data = encode({ ...empty, unbrokenSince: this.#unbrokenSince, ...entry });
    if (data.length > log.maxBytes) {
      // Followers have to read this from the database.
      this.#unbrokenSince = progress.xmax;
      data = encode({ ...empty, unbrokenSince: progress.xmax, continues: false, progress, seenAtMs });
    }
    this.#commit = await log.publishCommit(data, this.#messageId('commit'), previous);
    // Not earlier: with the commit before, a heartbeat would claim that there are no events up to here.
    this.#progress = progress;
  }

  #messageId(part: string): string {
    return `${this.#options.reader} ${this.#commitCount} ${part}`;
  }

  #answeredBy({ beganAtMs }: Batch): string[] {
    const answered = [...this.#requests].filter(([, atMs]) => atMs <= beganAtMs).map(([request]) => request);
    for (const request of answered) this.#requests.delete(request);
    return answered;
  }

  #sendHeartbeat({ answers = [], leaves = false }: { answers?: string[]; leaves?: boolean } = {}): void {
    const { log, logName, reader, triggerProblem } = this.#options;
    const heartbeat = {
      ...{ log: logName, reader, commit: this.#commit, progress: this.#progress, answers, leaves },
      readAgoMs: this.#readAtMs === null ? null : Math.round(performance.now() - this.#readAtMs),
      triggerProblem: triggerProblem(),
    };
    log.publish('heartbeat', encode(heartbeat));
  }

  #progressAfter({ position, read, snapshotXmax, isComplete, connection }: Batch): Progress {
    const { xmin, xmax, listed, xids } = position;
    const readBy = `${this.#options.reader} ${connection}`;
    return { read, position: { xmin, xmax, listed, xids }, xmax: snapshotXmax, isComplete, readBy };
  }
}
