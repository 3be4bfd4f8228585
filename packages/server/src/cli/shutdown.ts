import { constants } from 'node:os';

/** npm and timeout pass on a signal that the terminal or the supervisor sent to the whole group already, in milliseconds. */
const ECHO_MS = 500;

/** Hears that the process is to end. */
export interface ShutdownRequest {
  /** Aborted by the first signal. */
  readonly signal: AbortSignal;
  /** Resolves with the first signal. */
  readonly requested: Promise<NodeJS.Signals>;
  isRequested(): boolean;
  /** Gives the signals back. */
  dispose(): void;
}

/**
 * Listens for SIGINT, SIGTERM and, on a terminal, SIGHUP. The first one asks; a second one ends the
 * process at once with 128 + its number, through `exit` listeners, so that an embedded PostgreSQL
 * is still told to stop. The same signal within half a second of the first is its echo.
 */
export function listenForShutdown(): ShutdownRequest {
  // Elsewhere SIGHUP stays what it was made: nohup has it ignored.
  const names: NodeJS.Signals[] = ['SIGINT', 'SIGTERM', ...(process.stdout.isTTY ? ['SIGHUP' as const] : [])];
  const controller = new AbortController();
  let tell: (name: NodeJS.Signals) => void;
  const requested = new Promise<NodeJS.Signals>((resolve) => {
    tell = resolve;
  });
  let first: { name: NodeJS.Signals; atMs: number } | null = null;
  const onSignal = (name: NodeJS.Signals): void => {
    if (first !== null) {
      if (first.name === name && performance.now() - first.atMs < ECHO_MS) return;
      process.exit(128 + constants.signals[name]);
    }
    first = { name, atMs: performance.now() };
    controller.abort();
    tell(name);
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
