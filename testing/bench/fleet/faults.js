import { setTimeout as delay } from 'node:timers/promises';
import { awaitDelivery } from './takeover.js';

/** @import { LibraryClient } from '../../chaos/clients/library-client.js' */
/** @import { FleetServer } from './fleet-server.js' */
/** @import { NatsProcess } from './nats-process.js' */

/** Pause before each fault, in milliseconds, so that the fleet recovers from the previous one. */
const pauseMs = 4_000;
/** Duration of the one long outage of NATS, in milliseconds. */
const longOutageMs = 60_000;
const stopMs = 5_000;

/**
 * Injects faults one after the other for `durationMs`. Returns the number of each fault, and for each kill of the reader the
 * time until a client of another server received a later commit, in milliseconds.
 *
 * @param {{
 *   servers: readonly FleetServer[], clients: readonly LibraryClient[], nats: NatsProcess, durationMs: number,
 *   signal: AbortSignal,
 * }} of
 * @returns {Promise<{ counts: Record<string, number>, takeoversMs: number[] }>}
 */
export async function injectFaults({ servers, clients, nats, durationMs, signal }) {
  /** @type {number[]} */
  const takeoversMs = [];
  /** @type {Record<string, number>} */
  const counts = {};
  /** @param {string} fault */
  const count = (fault) => (counts[fault] = (counts[fault] ?? 0) + 1);
  const reader = () => servers.find((server) => server.role === 'leading');
  const endMs = performance.now() + durationMs;
  let longOutages = 0;
  for (let number = 0; performance.now() < endMs; number += 1) {
    await delay(pauseMs, undefined, { signal });
    const elected = reader();
    if (number % 6 === 2) {
      await nats.kill();
      await delay(500, undefined, { signal });
      await nats.start();
      count('NATS killed and started');
    } else if (number % 6 === 4 && elected !== undefined) {
      elected.signal('SIGSTOP');
      await delay(stopMs, undefined, { signal });
      elected.signal('SIGCONT');
      count('reader stopped and continued');
    } else if (longOutages === 0 && performance.now() > endMs - durationMs / 2) {
      longOutages += 1;
      await nats.kill();
      await delay(longOutageMs, undefined, { signal });
      await nats.start();
      count('NATS unavailable for a minute');
    } else if (elected !== undefined) {
      const others = clients.filter(({ options }) => options.baseUrl !== elected.url);
      const killedAtMs = Date.now();
      await elected.end('SIGKILL');
      const delivered = awaitDelivery(others, Date.now(), signal);
      await elected.start();
      takeoversMs.push((await delivered) - killedAtMs);
      count('reader killed');
    }
  }
  // The fleet recovers from the last fault before its clients are checked.
  await delay(2 * pauseMs, undefined, { signal });
  for (const { counts: own } of servers) {
    for (const [event, times] of Object.entries(own)) counts[event] = (counts[event] ?? 0) + times;
  }
  return { counts, takeoversMs };
}
