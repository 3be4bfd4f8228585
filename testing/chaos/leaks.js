import { setTimeout as delay } from 'node:timers/promises';

/** @import { ServerFigures } from './server-program.js' */
/** @import { ServerProcess } from './server-process.js' */

/** Time limit for a server to release everything of its closed clients, in milliseconds. */
const releaseLimitMs = 45_000;
const pollIntervalMs = 500;
/** Tolerance: database connections that are still idle, with one or two timers each. */
const tolerance = { sockets: 5, timers: 12 };
/** Share by which memory may grow after the warm-up. */
const allowedGrowth = 0.1;
/** Memory growth counts from this duration of a run, in milliseconds: in shorter runs the heap has not stabilised. */
const countedFromMs = 120_000;

/** @typedef {{ readonly sockets: number, readonly timers: number, readonly connections: number }} Leaks */

/**
 * Counts the connections, sockets and timers that a server still holds after all clients have closed, compared with the
 * figures from before they connected.
 *
 * @param {ServerProcess} server
 * @param {ServerFigures} before
 * @returns {Promise<Leaks>}
 */
export async function findLeaks(server, before) {
  const endMs = performance.now() + releaseLimitMs;
  for (;;) {
    const now = await server.figures();
    const leaks = {
      connections: now.connections,
      sockets: Math.max(0, now.sockets - before.sockets - tolerance.sockets),
      timers: Math.max(0, now.timers - before.timers - tolerance.timers),
    };
    const isClean = leaks.connections + leaks.sockets + leaks.timers === 0;
    if (isClean || performance.now() > endMs) return leaks;
    await delay(pollIntervalMs);
  }
}

/**
 * Memory growth of the server that ran throughout, as a share of its memory after the warm-up.
 *
 * @param {ServerFigures} warm
 * @param {ServerFigures} end
 * @param {number} durationMs
 */
export function measureGrowth(warm, end, durationMs) {
  const share = end.residentBytes / warm.residentBytes - 1;
  return { share, counts: durationMs >= countedFromMs, tooMuch: share > allowedGrowth };
}
