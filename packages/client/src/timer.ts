import { clockCheckMs } from './limits.js';

/**
 * Creates a timer that counts the time while the machine sleeps, when those of the platform stop, and that has no greatest
 * delay. Returns `[start, stop]`: `start` replaces a previous start.
 */
export function createTimer(): readonly [
  start: (delayMs: number, onDue: () => void) => void,
  stop: () => void,
] {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const stop = (): void => clearTimeout(timer);
  const start = (delayMs: number, onDue: () => void): void => {
    const startMs = Date.now();
    const stepMs = Math.min(delayMs, clockCheckMs);
    stop();
    timer = setTimeout(() => {
      // The clock may have been set back.
      const restMs = delayMs - Math.max(stepMs, Date.now() - startMs);
      if (restMs > 0) start(restMs, onDue);
      else onDue();
    }, stepMs);
  };
  return [start, stop];
}
