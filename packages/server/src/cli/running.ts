import type { Logger } from '../operations/log.js';

/** From the signal to the end of the process, in milliseconds: within the 10 s that supervisors grant. */
const STOP_LIMIT_MS = 9_500;
/** What of it is kept for each part that is stopped after the one that hangs. */
const RESERVE_MS = 1_000;

interface Part {
  readonly name: string;
  readonly stop: (remainingMs: number) => Promise<void>;
}

/** The parts of a server that run; stopped in the opposite order, so that none loses what it stands on. */
export class CleanupStack {
  readonly #logger: Logger;
  readonly #parts: Part[] = [];
  #deadlineMs: number | null = null;

  constructor(logger: Logger) {
    this.#logger = logger;
  }

  /** `stop` gets the milliseconds that it may take; past them it is no longer waited for. */
  add(name: string, stop: Part['stop']): void {
    this.#parts.push({ name, stop });
  }

  /** From now the limit counts. Whatever hangs, also in what does not belong to a part, the process ends. */
  startCountdown(): void {
    if (this.#deadlineMs !== null) return;
    this.#deadlineMs = performance.now() + STOP_LIMIT_MS;
    const end = (): void => {
      this.#logger('server_stop_timed_out');
      // Through the `exit` listener that tells an embedded PostgreSQL to stop.
      process.exit(1);
    };
    setTimeout(end, STOP_LIMIT_MS).unref();
  }

  async stop(): Promise<void> {
    const deadlineMs = (this.#deadlineMs ??= performance.now() + STOP_LIMIT_MS);
    for (let part = this.#parts.pop(); part !== undefined; part = this.#parts.pop()) {
      const remainingMs = deadlineMs - performance.now() - this.#parts.length * RESERVE_MS;
      try {
        await within(Math.max(0, remainingMs), part.stop(Math.max(0, remainingMs)));
      } catch (error) {
        this.#logger('server_part_not_stopped', { part: part.name, error });
      }
    }
  }
}

async function within(limitMs: number, stopped: Promise<void>): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(() => reject(new Error(`not stopped within ${Math.round(limitMs)} ms`)), limitMs);
  });
  try {
    await Promise.race([stopped, late]);
  } finally {
    clearTimeout(timer);
  }
}
