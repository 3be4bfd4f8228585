import { setTimeout as delay } from 'node:timers/promises';

const intervalMs = 100;

/**
 * Waits until `holds`, which is asked every 100 ms; false after `limitMs`. For what another process or the network does and
 * no event announces. Rejects when `signal` is aborted.
 */
export async function pollUntil(
  limitMs: number,
  holds: () => boolean | Promise<boolean>,
  signal?: AbortSignal,
): Promise<boolean> {
  const endMs = performance.now() + limitMs;
  while (!(await holds())) {
    if (performance.now() > endMs) return false;
    await delay(intervalMs, undefined, { ...(signal === undefined ? {} : { signal }) });
  }
  return true;
}
