import { setTimeout as delay } from 'node:timers/promises';

/**
 * Waits until `holds`, which is asked every `intervalMs` (default 100); false after `limitMs`. For what another process or the network does and
 * no event announces. Rejects when `signal` is aborted.
 */
export async function pollUntil(
  limitMs: number,
  holds: () => boolean | Promise<boolean>,
  { signal, intervalMs = 100 }: { readonly signal?: AbortSignal; readonly intervalMs?: number } = {},
): Promise<boolean> {
  const endMs = performance.now() + limitMs;
  while (!(await holds())) {
    if (performance.now() > endMs) return false;
    await delay(intervalMs, undefined, { ...(signal === undefined ? {} : { signal }) });
  }
  return true;
}
