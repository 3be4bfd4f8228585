import { setTimeout as delay } from 'node:timers/promises';

/** @import { ServerFigures } from './server-program.js' */
/** @import { ServerProcess } from './server-process.js' */

/** How long a server may take until nothing of its clients is left, in milliseconds. */
const leaveLimitMs = 45_000;
const pollIntervalMs = 500;
/** Connections to the database that may be idle for a moment more, each with a timer or two. */
const spare = { sockets: 5, timers: 12 };
/** By how much memory may have grown since the warm-up. */
const allowedGrowth = 0.1;
/** In shorter runs memory is still finding its size. In milliseconds. */
const judgedFromMs = 120_000;

/** @typedef {{ readonly sockets: number, readonly timers: number, readonly connections: number }} Left */

/**
 * What is left of the clients in a server once all have gone, beyond what it had before they came.
 *
 * @param {ServerProcess} server
 * @param {ServerFigures} before
 * @returns {Promise<Left>}
 */
export async function whatIsLeft(server, before) {
  const endMs = performance.now() + leaveLimitMs;
  for (;;) {
    const now = await server.figures();
    const left = {
      connections: now.connections,
      sockets: Math.max(0, now.sockets - before.sockets - spare.sockets),
      timers: Math.max(0, now.timers - before.timers - spare.timers),
    };
    const nothing = left.connections + left.sockets + left.timers === 0;
    if (nothing || performance.now() > endMs) return left;
    await delay(pollIntervalMs);
  }
}

/**
 * Growth of the memory of the server that lived through all of it, as a share of what it had after the
 * warm-up.
 *
 * @param {ServerFigures} warm
 * @param {ServerFigures} end
 * @param {number} durationMs
 */
export function growthOf(warm, end, durationMs) {
  const share = end.residentBytes / warm.residentBytes - 1;
  return { share, judged: durationMs >= judgedFromMs, tooMuch: share > allowedGrowth };
}
