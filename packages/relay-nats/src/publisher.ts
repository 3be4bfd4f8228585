import { type Batch, byChannel, type FlagEvent, type Lifecycle } from 'flagcast/relay-support';
import type { EventLog } from './event-log.js';
import { type Commit, encode, encodeEvents, type Progress, tooLarge } from './messages.js';

export interface PublisherOptions {
  readonly log: Pick<EventLog, 'maxBytes' | 'publishEvents' | 'publishCommit' | 'say'>;
  /** As the commits before name the log. */
  readonly logName: string;
  /** Names this server, and its time as the reader. */
  readonly reader: string;
  /** What was handed on last, and with it all that came before. */
  readonly newest: Batch;
  /** Where the newest commit of the log is; 0: there is none. */
  readonly previous: number;
  /** The newest break of the log; null: what is handed on next does not follow on what the log has. */
  readonly unbrokenSince: bigint | null;
  /** What is wrong with the triggers that write the event log; null where nothing is. */
  readonly triggerProblem: () => string | null;
  readonly lifecycle: Lifecycle;
  /** Called once: nothing is published any more. */
  readonly onFailed: (error: unknown) => void;
}

/** How often the reader says that it lives, in milliseconds. */
const beatIntervalMs = 500;
/** Batches that wait are published together, up to about so many events. */
const maxEvents = 2_000;

/** Publishes what the elected reader reads: the events of each channel, then the commit that makes them count. */
export class Publisher {
  readonly #options: PublisherOptions;
  #waiting: Batch[] = [];
  #isWorking = false;
  #isEnded = false;
  #number = 0;
  #commit: number;
  #unbrokenSince: bigint;
  /** Everything up to here is in the log. */
  #progress: Progress;
  #readAtMs = performance.now();
  /** When each question came that is not answered yet, on the clock of performance.now(). */
  readonly #asks = new Map<string, number>();
  #timer: NodeJS.Timeout | null = null;

  constructor(options: PublisherOptions) {
    const { newest, previous, unbrokenSince } = options;
    this.#options = options;
    this.#commit = previous;
    this.#progress = progressOf(newest, this.#options.reader);
    this.#unbrokenSince = unbrokenSince ?? newest.snapshotXmax;
  }

  /** Writes the first commit, which is empty: from then on this server is the reader. Rejects when it is not. */
  async open(): Promise<void> {
    this.#isWorking = true;
    try {
      const continues = this.#options.unbrokenSince !== null;
      await this.#write({ continues, progress: this.#progress, seenAtMs: Date.now() });
    } finally {
      this.#isWorking = false;
    }
    this.#beat([]);
    this.#timer = setInterval(() => this.#beat([]), beatIntervalMs);
    this.#work();
  }

  /** Publishes a batch after those before; one without events only says how far the reader is. */
  add(batch: Batch): void {
    if (this.#isEnded) return;
    this.#readAtMs = performance.now();
    this.#waiting.push(batch);
    this.#work();
  }

  /** A question for a read that begins after it; the caller sees to the read. */
  asked(question: string): void {
    this.#asks.set(question, performance.now());
  }

  /** Publishes nothing more; `leaves` tells the others that they need not wait. */
  end({ leaves }: { leaves: boolean }): void {
    if (this.#isEnded) return;
    if (leaves) this.#beat([], true);
    this.#isEnded = true;
    if (this.#timer !== null) clearInterval(this.#timer);
  }

  #work(): void {
    if (this.#isWorking || this.#isEnded || this.#waiting.length === 0) return;
    this.#isWorking = true;
    this.#publishWaiting()
      .then(() => {
        this.#isWorking = false;
        this.#work();
      })
      .catch((error: unknown) => {
        if (this.#isEnded) return;
        this.end({ leaves: false });
        this.#options.onFailed(error);
      });
  }

  async #publishWaiting(): Promise<void> {
    const startedAtMs = performance.now();
    const batches = this.#takeWaiting();
    const newest = batches.at(-1);
    if (newest === undefined) return;
    const events = batches.flatMap((batch) => batch.events);
    const controls = batches.flatMap((batch) => batch.controls);
    const answers = this.#answeredBy(newest);
    if (events.length === 0 && controls.length === 0) {
      this.#progress = progressOf(newest, this.#options.reader);
      // Otherwise it is said with the next beat.
      if (answers.length > 0) this.#beat(answers);
      return;
    }
    this.#number += 1;
    const { channels, bytes } = await this.#writeEvents(events);
    const { seenAtMs } = newest;
    await this.#write({
      continues: true,
      progress: progressOf(newest, this.#options.reader),
      seenAtMs,
      controls,
      channels,
      answers,
    });
    this.#options.lifecycle.emit('relay:published', {
      events: events.length,
      channels: channels.length,
      bytes,
      durationMs: performance.now() - startedAtMs,
    });
  }

  /** The oldest that wait, as many as go into one commit; all of them have one progress after them. */
  #takeWaiting(): Batch[] {
    let events = 0;
    const count = this.#waiting.findIndex((batch) => {
      const isTooMuch = events > 0 && events + batch.events.length > maxEvents;
      events += batch.events.length;
      return isTooMuch;
    });
    return this.#waiting.splice(0, count === -1 ? this.#waiting.length : count);
  }

  async #writeEvents(events: readonly FlagEvent[]): Promise<{ channels: Commit['channels']; bytes: number }> {
    const { log } = this.#options;
    let bytes = 0;
    const channels = await Promise.all(
      [...byChannel(events)].map(async ([channel, ofChannel]) => {
        const messages = encodeEvents(ofChannel, log.maxBytes);
        const sequences = await Promise.all(
          (messages ?? [tooLarge]).map(async (message, part) => {
            bytes += message.length;
            return await log.publishEvents(channel, message, this.#messageId(`${channel} ${part}`));
          }),
        );
        return [channel, messages === null ? null : sequences] as const;
      }),
    );
    return { channels, bytes };
  }

  async #write(
    entry: Pick<Commit, 'continues' | 'progress' | 'seenAtMs'> &
      Partial<Pick<Commit, 'controls' | 'channels' | 'answers'>>,
  ): Promise<void> {
    const { log, logName, reader } = this.#options;
    const { progress, seenAtMs } = entry;
    const previous = this.#commit;
    const unbrokenSince = this.#unbrokenSince;
    const common = { log: logName, reader, previous, answers: [], unbrokenSince };
    let data = encode({ ...common, controls: [], channels: [], ...entry });
    if (data.length > log.maxBytes) {
      // Who follows has to read this from the database.
      this.#unbrokenSince = progress.xmax;
      const broken = { ...common, progress, seenAtMs, unbrokenSince: progress.xmax };
      data = encode({ ...broken, continues: false, controls: [], channels: [] });
    }
    this.#commit = await log.publishCommit(data, this.#messageId('commit'), previous);
    // Not before: with the commit before, a beat would say that there are no events up to here.
    this.#progress = progress;
  }

  #messageId(of: string): string {
    return `${this.#options.reader} ${this.#number} ${of}`;
  }

  #answeredBy({ beganAtMs }: Batch): string[] {
    const answered = [...this.#asks].filter(([, askedAtMs]) => askedAtMs <= beganAtMs);
    for (const [question] of answered) this.#asks.delete(question);
    return answered.map(([question]) => question);
  }

  #beat(answers: readonly string[], leaves = false): void {
    if (this.#isEnded) return;
    const { log, logName, reader, triggerProblem } = this.#options;
    const said = { log: logName, reader, commit: this.#commit, progress: this.#progress };
    const readAgoMs = Math.round(performance.now() - this.#readAtMs);
    log.say('beat', encode({ ...said, readAgoMs, answers, triggerProblem: triggerProblem(), leaves }));
  }
}

function progressOf(
  { position, read, snapshotXmax, isComplete, connection }: Batch,
  reader: string,
): Progress {
  const { xmin, xmax, listed, xids } = position;
  const readBy = `${reader} ${connection}`;
  return { read, position: { xmin, xmax, listed, xids }, xmax: snapshotXmax, isComplete, readBy };
}
