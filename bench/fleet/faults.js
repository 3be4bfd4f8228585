import { setTimeout as delay } from 'node:timers/promises';
import { commitTold } from './takeover.js';

/** @import { LibraryClient } from '../../chaos/clients/library-client.js' */
/** @import { FleetServer } from './fleet-server.js' */
/** @import { NatsProcess } from './nats-process.js' */

/** Between two faults, so that there is something to break again, in milliseconds. */
const pauseMs = 4_000;
/** How long NATS is away once in a run, in milliseconds. */
const longOutageMs = 60_000;
const stopMs = 5_000;

/**
 * Breaks one thing after the other for so long; tells how often what was broken, and how long it took each time
 * from a kill of the reader until a client of another server was told of a later commit, in milliseconds.
 *
 * @param {{
 *   servers: readonly FleetServer[], clients: readonly LibraryClient[], nats: NatsProcess, durationMs: number,
 *   signal: AbortSignal,
 * }} of
 * @returns {Promise<{ counts: Record<string, number>, takeoversMs: number[] }>}
 */
export async function breakThings({ servers, clients, nats, durationMs, signal }) {
  /** @type {number[]} */
  const takeoversMs = [];
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
      const others = clients.filter(({ options }) => options.baseUrl !== elected.url);
      const killedAtMs = Date.now();
      await elected.end('SIGKILL');
      const told = commitTold(others, Date.now(), signal);
      await elected.start();
      takeoversMs.push((await told) - killedAtMs);
      count('reader killed');
    }
  }
  // All settle before they are compared.
  await delay(2 * pauseMs, undefined, { signal });
  for (const { counts: own } of servers) {
    for (const [event, times] of Object.entries(own)) counts[event] = (counts[event] ?? 0) + times;
  }
  return { counts, takeoversMs };
}
