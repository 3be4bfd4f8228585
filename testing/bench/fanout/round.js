import { setTimeout as delay } from 'node:timers/promises';
import { cpuMsOf } from '../../testkit/process-figures.ts';
import { roundWarmUp } from './patterns.js';

/** @import { BoundedRun } from '../../testkit/bounded-run.ts' */
/** @import { RunningTarget } from '../targets/target.js' */
/** @import { Receivers } from '../load/receivers.js' */
/** @import { Pattern, Setup } from './patterns.js' */

/** Pause after the handshakes, in milliseconds: some servers subscribe the client after their response. */
const subscribeMs = 200;
/** If a burst has not arrived within this time, in milliseconds, the rest of the pattern is skipped. */
const arrivalLimitMs = 30_000;

/**
 * The figures of a round. `cpuUs`: processor time of the server for each delivered event, in microseconds. `perSecond`:
 * deliveries per second of the time with undelivered events. `due`: expected deliveries. `lost`: connections that the
 * server closed.
 *
 * @typedef {{
 *   readonly cpuUs: number,
 *   readonly perSecond: number,
 *   readonly due: number,
 *   readonly delivered: number,
 *   readonly lost: number,
 *   readonly bytesPerEvent: number,
 * }} RoundFigures
 */

/**
 * Connects the clients, measures each pattern of the setup, and disconnects the clients.
 *
 * @param {BoundedRun} run
 * @param {Receivers} receivers
 * @param {RunningTarget} running
 * @param {Setup} setup
 * @returns {Promise<RoundFigures[]>} in the order of the patterns
 */
export async function measureRound(run, receivers, running, setup) {
  await connectClients(run, receivers, running, setup);
  for (const pattern of roundWarmUp(setup)) await measurePattern(run, receivers, running, { setup, pattern });
  const figures = [];
  for (const pattern of setup.patterns) {
    figures.push(await measurePattern(run, receivers, running, { setup, pattern }));
  }
  await receivers.disconnect();
  return figures;
}

/**
 * @param {BoundedRun} run
 * @param {Receivers} receivers
 * @param {Pick<RunningTarget, 'port' | 'dialect' | 'headers' | 'address'>} running
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
  await delay(subscribeMs, undefined, { signal: run.signal });
}

/**
 * @param {BoundedRun} run
 * @param {Receivers} receivers
 * @param {RunningTarget} running
 * @param {{ readonly setup: Pick<Setup, 'clients' | 'channels'>, readonly pattern: Pattern }} options
 * @returns {Promise<RoundFigures>}
 */
async function measurePattern(run, receivers, running, { setup, pattern }) {
  const { clients, channels } = setup;
  const before = await receivers.count();
  const cpuMsBefore = await cpuMsOf(running.cpuPids);
  let deliveryMs = 0;
  let due = 0;
  for (let burst = 0; burst < pattern.times; burst += 1) {
    const published = pattern.channels(burst);
    const startedAtMs = performance.now();
    const arriving = receivers.expect(published, arrivalLimitMs);
    await running.publish(published);
    const arrived = await arriving;
    due += (published.length * clients) / channels;
    deliveryMs += performance.now() - startedAtMs;
    if (!arrived) break;
    const restMs = startedAtMs + pattern.intervalMs - performance.now();
    await delay(Math.max(1, restMs), undefined, { signal: run.signal });
  }
  const cpuMs = (await cpuMsOf(running.cpuPids)) - cpuMsBefore;
  const { events, bytes, lost } = await receivers.count();
  const delivered = events - before.events;
  return {
    cpuUs: (cpuMs * 1_000) / delivered,
    perSecond: (delivered * 1_000) / deliveryMs,
    due,
    delivered,
    lost,
    bytesPerEvent: (bytes - before.bytes) / delivered,
  };
}
