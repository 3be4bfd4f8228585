import { setTimeout as delay } from 'node:timers/promises';
import { cpuMsOf } from '../process-figures.js';
import { warmUp } from './patterns.js';

/** @import { BoundedRun } from '../bounded-run.js' */
/** @import { RunningContender } from '../contenders/contender.js' */
/** @import { Receivers } from '../load/receivers.js' */
/** @import { Pattern, Setup } from './patterns.js' */

/** Servers that answer a handshake before they have counted the client in get so long for it, in milliseconds. */
const settleMs = 200;
/** When all that was published has not arrived by then, in milliseconds, the rest of the pattern is left out. */
const arrivalLimitMs = 30_000;

/**
 * What one turn of a contender came to. `cpuUs`: processor time of the server for each event that
 * arrived at a client, in microseconds; `perSecond`: events that arrived in a second, while there were
 * any under way; `lost`: connections that the server ended.
 *
 * @typedef {{
 *   readonly cpuUs: number,
 *   readonly perSecond: number,
 *   readonly due: number,
 *   readonly delivered: number,
 *   readonly lost: number,
 *   readonly bytesPerEvent: number,
 * }} TurnFigures
 */

/**
 * Connects the clients, measures each pattern of the setup, and lets the clients go.
 *
 * @param {BoundedRun} run
 * @param {Receivers} receivers
 * @param {RunningContender} running
 * @param {Setup} setup
 * @returns {Promise<TurnFigures[]>} in the order of the patterns
 */
export async function measureTurn(run, receivers, running, setup) {
  await connectClients(run, receivers, running, setup);
  for (const pattern of warmUp(setup)) await measurePattern(run, receivers, running, setup, pattern);
  const figures = [];
  for (const pattern of setup.patterns) {
    figures.push(await measurePattern(run, receivers, running, setup, pattern));
  }
  await receivers.disconnect();
  return figures;
}

/**
 * @param {BoundedRun} run
 * @param {Receivers} receivers
 * @param {Pick<RunningContender, 'port' | 'dialect' | 'headers' | 'address'>} running
 * @param {Pick<Setup, 'clients' | 'channels'>} setup
 */
export async function connectClients(run, receivers, running, { clients, channels }) {
  const { port, dialect, headers, address } = running;
  await receivers.connect(
    { port, dialect, headers },
    Array.from({ length: channels }, (_, channel) => ({
      ...address(channel),
      clients: Math.floor(clients / channels) + (channel < clients % channels ? 1 : 0),
    })),
  );
  await delay(settleMs, undefined, { signal: run.signal });
}

/**
 * @param {BoundedRun} run
 * @param {Receivers} receivers
 * @param {RunningContender} running
 * @param {Pick<Setup, 'clients' | 'channels'>} setup
 * @param {Pattern} pattern
 * @returns {Promise<TurnFigures>}
 */
async function measurePattern(run, receivers, running, { clients, channels }, pattern) {
  const before = await receivers.count();
  const cpuMsBefore = await cpuMsOf(running.cpuPids);
  let underWayMs = 0;
  let due = 0;
  for (let turn = 0; turn < pattern.times; turn += 1) {
    const published = pattern.channels(turn);
    const startedAtMs = performance.now();
    const arriving = receivers.expect(published, arrivalLimitMs);
    await running.publish(published);
    const arrived = await arriving;
    due += (published.length * clients) / channels;
    underWayMs += performance.now() - startedAtMs;
    if (!arrived) break;
    const restMs = startedAtMs + pattern.intervalMs - performance.now();
    await delay(Math.max(1, restMs), undefined, { signal: run.signal });
  }
  const cpuMs = (await cpuMsOf(running.cpuPids)) - cpuMsBefore;
  const { events, bytes, lost } = await receivers.count();
  const delivered = events - before.events;
  return {
    cpuUs: (cpuMs * 1_000) / delivered,
    perSecond: (delivered * 1_000) / underWayMs,
    due,
    delivered,
    lost,
    bytesPerEvent: (bytes - before.bytes) / delivered,
  };
}
