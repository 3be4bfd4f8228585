import { constants } from 'node:os';
import type { Logger } from '../operations/log.js';
import { within } from '../retry.js';

/** npm and timeout repeat a signal that the terminal or the supervisor sent to the whole group, within these milliseconds. */
const echoMs = 500;
/** From the signal to the end of the process, in milliseconds: supervisors kill it after 10 s. */
const stopLimitMs = 9_500;
/** The part of the limit that is reserved for each part that is stopped later, in milliseconds. */
const reserveMs = 1_000;

export interface ShutdownRequest {
  /** Aborted by the first signal. */
  readonly signal: AbortSignal;
  /** Resolves with the first signal. */
  readonly requested: Promise<NodeJS.Signals>;
  isRequested(): boolean;
  /** Stops listening. */
  dispose(): void;
}

/**
 * Listens for SIGINT, SIGTERM and, on a terminal, SIGHUP. A second signal ends the process immediately with 128 + its
 * number, through the `exit` listener that stops an embedded PostgreSQL.
 */
export function listenForShutdown(): ShutdownRequest {
  // Without a terminal SIGHUP is left alone: nohup ignores it.
  const names: NodeJS.Signals[] = ['SIGINT', 'SIGTERM', ...(process.stdout.isTTY ? ['SIGHUP' as const] : [])];
  const controller = new AbortController();
  let resolveRequested: (name: NodeJS.Signals) => void;
  const requested = new Promise<NodeJS.Signals>((resolve) => (resolveRequested = resolve));
  let first: { name: NodeJS.Signals; atMs: number } | null = null;
  const onSignal = (name: NodeJS.Signals): void => {
    if (first !== null) {
      if (first.name === name && performance.now() - first.atMs < echoMs) return;
      process.exit(128 + constants.signals[name]);
    }
    first = { name, atMs: performance.now() };
    controller.abort();
    resolveRequested(name);
  };
  for (const name of names) process.on(name, onSignal);
  return {
    signal: controller.signal,
    requested,
    isRequested: () => controller.signal.aborted,
    dispose: () => {
      for (const name of names) process.off(name, onSignal);
    },
  };
}

interface Part {
  readonly name: string;
  readonly stop: (remainingMs: number) => Promise<void>;
}

/** The running parts of a server. They are stopped in the reverse order of their start. */
export class CleanupStack {
  readonly #logger: Logger;
  readonly #parts: Part[] = [];
  #deadlineMs: number | null = null;

  constructor(logger: Logger) {
    this.#logger = logger;
  }

  /** `stop` gets the milliseconds that it may take. After that it is not awaited. */
  add(name: string, stop: Part['stop']): void {
    this.#parts.push({ name, stop });
  }

  /** Starts the time limit, after which the process exits in any case. */
  startCountdown(): void {
    if (this.#deadlineMs !== null) return;
    this.#deadlineMs = performance.now() + stopLimitMs;
    const end = (): void => {
      this.#logger('server_stop_timed_out');
      process.exit(1);
    };
    setTimeout(end, stopLimitMs).unref();
  }

  async stop(): Promise<void> {
    const deadlineMs = (this.#deadlineMs ??= performance.now() + stopLimitMs);
    for (let part = this.#parts.pop(); part !== undefined; part = this.#parts.pop()) {
      const { name: partName, stop } = part;
      const limitMs = Math.max(0, deadlineMs - performance.now() - this.#parts.length * reserveMs);
      try {
        await within(limitMs, stop(limitMs), `not stopped within ${Math.round(limitMs)} ms`);
      } catch (error) {
        this.#logger('server_part_not_stopped', { part: partName, error });
      }
    }
  }
}
