import { setTimeout as delay } from 'node:timers/promises';
import { insertEvents, prepareFlagcast } from '../targets/flagcast.js';
import { startReceivers } from '../load/receivers.js';
import { measure } from '../measurement.js';
import { oneCount } from '../options.js';
import { startProgress } from '../progress.js';
import { bound, clearProgress, machineLine, markdownTable, saveResult, spreadCell } from '../results.js';
import { percentiles, spread } from '../statistics.js';
import { openSmallChannel } from './small-channel.js';

/** @import { BoundedRun } from '../../testkit/bounded-run.ts' */
/** @import { Receivers } from '../load/receivers.js' */
/** @import { Options } from '../options.js' */
/** @import { Bound } from '../results.js' */
/** @import { Percentiles } from '../statistics.js' */
/** @import { SmallChannel } from './small-channel.js' */

const limitMs = 30 * 60_000;
const smallClients = 5;
const eventsPerRound = 100;
const warmUpEvents = 20;
/** Maximum of the random pause between two events of the small channel, in milliseconds. */
const pauseLimitMs = 40;
const largeEventsPerSecond = 50;
const arrivalLimitMs = 60_000;
/** Limit of the small channel's p99 while the large one is busy, relative to its p99 alone. */
const boundOverAlone = 3;
/** Indexes of the two channels. */
const large = 0;
const small = 1;

/**
 * Measures the latency of a small channel, alone and while a large one is busy.
 *
 * @param {Options} options
 * @returns {Promise<readonly Bound[]>}
 */
export async function runFairness(options) {
  const clients = oneCount(options, 5_000);
  const { rounds = 5, output } = options;
  return await measure({ name: 'fairness', limitMs, clients }, async ({ run, postgres, machine }) => {
    const maxConnections = clients + smallClients;
    const prepared = await prepareFlagcast({ run, postgres, channels: 2, maxConnections });
    const { port } = await prepared.serve();
    const receivers = startReceivers(run, clients);
    const groups = [{ ...prepared.address(large), clients }];
    await receivers.connect({ port, dialect: 'text', headers: prepared.headers }, groups);
    const channel = await openSmallChannel(run, prepared, { port, channel: small, clients: smallClients });
    const publish = async () => await insertEvents(prepared.database, prepared.channelIds, [large]);
    await channel.measure(warmUpEvents, pauseLimitMs);

    const progress = startProgress('fairness', 2 * rounds);
    /** @type {Percentiles[]} */
    const alone = [];
    /** @type {Percentiles[]} */
    const busy = [];
    /** @type {number[]} */
    const perSecond = [];
    let incomplete = 0;
    for (let round = 0; round < rounds; round += 1) {
      progress.step(`round ${round + 1} of ${rounds}, alone`);
      alone.push(percentiles(await channel.measure(eventsPerRound, pauseLimitMs)));
      progress.step(`round ${round + 1} of ${rounds}, with ${clients} busy clients`);
      const measured = await measureBusy(run, publish, receivers, channel);
      busy.push(percentiles(measured.latenciesMs));
      perSecond.push(measured.perSecond);
      if (!measured.allArrived) incomplete += 1;
    }
    const { lost } = await receivers.disconnect();
    clearProgress();

    const ratio = spread(busy.map(({ p99 }, round) => p99 / (alone[round]?.p99 ?? NaN)));
    const bounds = [
      bound('p99 of the small channel while the large one is busy over alone', ratio.median, boundOverAlone),
      bound('closed connections of the large channel', lost, 0, ''),
      bound('rounds with missing events of the large channel', incomplete, 0, ''),
    ];
    const results = [
      { name: 'alone', ...overRounds(alone) },
      { name: `with ${clients} busy clients`, ...overRounds(busy) },
    ];
    const largePerSecond = spread(perSecond);
    const file = await saveResult(
      'fairness',
      {
        machine,
        bounds,
        rounds,
        clients,
        smallClients,
        largeEventsPerSecond,
        largePerSecond,
        ratio,
        results,
      },
      output,
    );
    console.log(
      `Latency from COMMIT to message in a channel of ${smallClients} clients, in ms, alone and while another of ${clients} clients gets ${largeEventsPerSecond} events/s: median of ${rounds} rounds (lowest-highest round)`,
    );
    console.log(machineLine(machine));
    const rows = results.map(({ name, p50, p90, p99, max }) => [
      name,
      ...[p50, p90, p99, max].map(spreadCell),
    ]);
    console.log(
      `\n${markdownTable(['', 'p50', 'p90', 'p99', 'max'], rows)}\n\nDeliveries per second in the large channel: ${spreadCell(largePerSecond)}\n\nWritten to ${file}`,
    );
    return bounds;
  });
}

/**
 * Measures the small channel while events are published to the large one, and waits until all of them have arrived.
 *
 * @param {BoundedRun} run
 * @param {() => Promise<void>} publish publishes one event to the large channel
 * @param {Receivers} receivers
 * @param {SmallChannel} channel
 */
async function measureBusy(run, publish, receivers, channel) {
  const before = await receivers.count();
  const startedAtMs = performance.now();
  const ending = new AbortController();
  let published = 0;
  const publishing = (async () => {
    while (!ending.signal.aborted) {
      published += 1;
      await publish();
      const dueAtMs = startedAtMs + (published * 1_000) / largeEventsPerSecond;
      await delay(Math.max(0, dueAtMs - performance.now()), undefined, { signal: run.signal });
    }
  })();
  const latenciesMs = await channel.measure(eventsPerRound, pauseLimitMs);
  ending.abort();
  await publishing;
  const all = Array.from({ length: published }, () => large);
  const allArrived = await receivers.expect(all, arrivalLimitMs);
  const { events } = await receivers.count();
  return {
    latenciesMs,
    allArrived,
    perSecond: ((events - before.events) * 1_000) / (performance.now() - startedAtMs),
  };
}

/** @param {readonly Percentiles[]} rounds */
function overRounds(rounds) {
  return {
    p50: spread(rounds.map(({ p50 }) => p50)),
    p90: spread(rounds.map(({ p90 }) => p90)),
    p99: spread(rounds.map(({ p99 }) => p99)),
    max: spread(rounds.map(({ max }) => max)),
  };
}
