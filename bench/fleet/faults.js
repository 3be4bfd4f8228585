import { setTimeout as delay } from 'node:timers/promises';

/** @import { FleetServer } from './fleet-server.js' */
/** @import { NatsProcess } from './nats-process.js' */

/** Between two faults, so that there is something to break again, in milliseconds. */
const pauseMs = 4_000;
/** How long NATS is away once in a run, in milliseconds. */
const longOutageMs = 60_000;
const stopMs = 5_000;

/**
 * Breaks one thing after the other for so long; tells how often what was broken.
 *
 * @param {{ servers: readonly FleetServer[], nats: NatsProcess, durationMs: number, signal: AbortSignal }} of
 * @returns {Promise<Record<string, number>>}
 */
export async function breakThings({ servers, nats, durationMs, signal }) {
  /** @type {Record<string, number>} */
  const counts = {};
  /** @param {string} what */
  const count = (what) => (counts[what] = (counts[what] ?? 0) + 1);
  const reader = () => servers.find((server) => server.role === 'leading');
  const endMs = performance.now() + durationMs;
  let longOutages = 0;
  for (let turn = 0; performance.now() < endMs; turn += 1) {
    await delay(pauseMs, undefined, { signal });
    const elected = reader();
    if (turn % 6 === 2) {
      await nats.kill();
      await delay(500, undefined, { signal });
      await nats.start();
      count('NATS killed and started');
    } else if (turn % 6 === 4 && elected !== undefined) {
      elected.signal('SIGSTOP');
      await delay(stopMs, undefined, { signal });
      elected.signal('SIGCONT');
      count('reader stopped and continued');
    } else if (longOutages === 0 && performance.now() > endMs - durationMs / 2) {
      longOutages += 1;
      await nats.kill();
      await delay(longOutageMs, undefined, { signal });
      await nats.start();
      count('NATS away for a minute');
    } else if (elected !== undefined) {
      await elected.end('SIGKILL');
      await elected.start();
      count('reader killed');
    }
  }
  // All settle before they are compared.
  await delay(2 * pauseMs, undefined, { signal });
  for (const { counts: own } of servers) {
    for (const [event, times] of Object.entries(own)) counts[event] = (counts[event] ?? 0) + times;
  }
  return counts;
}
