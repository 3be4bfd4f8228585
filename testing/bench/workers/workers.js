import { insertEvents, prepareFlagcast } from '../targets/flagcast.js';
import { connectClients } from '../fanout/round.js';
import { startReceivers } from '../load/receivers.js';
import { measure } from '../measurement.js';
import { oneCount } from '../options.js';
import { cpuMsOf } from '../../testkit/process-figures.ts';
import { startProgress } from '../progress.js';
import { bound, clearProgress, machineLine, markdownTable, saveResult, spreadCell } from '../results.js';
import { rotate } from '../rounds.js';
import { spread } from '../statistics.js';

/** @import { BoundedRun } from '../../testkit/bounded-run.ts' */
/** @import { PreparedFlagcast } from '../targets/flagcast.js' */
/** @import { Receivers } from '../load/receivers.js' */
/** @import { Options } from '../options.js' */
/** @import { Bound } from '../results.js' */

const limitMs = 30 * 60_000;
const workerCounts = [1, 2];
const warmUpEvents = 50;
const eventsPerRound = 200;
const arrivalLimitMs = 60_000;
/** Minimum capacity of two processes, each on its own core, relative to one. */
const boundCapacity = 1.7;

/**
 * `perSecond`: deliveries per second of all processes. `totalUs`, `busiestUs`: processor time of all processes and of the
 * busiest one for each delivery, in microseconds. `sharePercent`: share of the busiest process in the total.
 *
 * @typedef {{ workers: number, perSecond: number, totalUs: number, busiestUs: number, sharePercent: number, missing: number, lost: number }} Measured
 */

/**
 * Measures throughput and distribution of work of `serve --workers 2`. The capacity is computed from the processor time of
 * the busiest process, because the clients' processes share the cores with the servers.
 *
 * @param {Options} options
 * @returns {Promise<readonly Bound[]>}
 */
export async function runWorkers(options) {
  const clients = oneCount(options, 1_000);
  const { rounds = 5, output } = options;
  return await measure({ name: 'workers', limitMs, clients }, async ({ run, postgres, machine }) => {
    const prepared = await prepareFlagcast({ run, postgres, channels: 1, maxConnections: clients });
    const receivers = startReceivers(run, clients);
    const progress = startProgress('workers', rounds * workerCounts.length);
    /** @type {Measured[]} */
    const measured = [];
    for (let round = 0; round < rounds; round += 1) {
      for (const workers of rotate(workerCounts, round)) {
        progress.step(`round ${round + 1} of ${rounds}, ${workers} workers`);
        measured.push(await measureWorkers(run, prepared, receivers, { workers, clients }));
      }
    }
    clearProgress();

    const results = workerCounts.map((workers) => {
      const own = measured.filter((each) => each.workers === workers);
      return {
        workers,
        perSecond: spread(own.map(({ perSecond }) => perSecond)),
        totalUs: spread(own.map(({ totalUs }) => totalUs)),
        busiestUs: spread(own.map(({ busiestUs }) => busiestUs)),
        sharePercent: spread(own.map(({ sharePercent }) => sharePercent)),
      };
    });
    const [one, two] = results;
    const capacity = (one?.busiestUs.median ?? NaN) / (two?.busiestUs.median ?? NaN);
    const bounds = [
      // The reciprocal, because a bound is a maximum.
      bound(
        'processor time of the busiest of two workers over a single one',
        1 / capacity,
        1 / boundCapacity,
      ),
      bound('missing events', Math.max(...measured.map(({ missing }) => missing)), 0, ''),
      bound('closed connections', Math.max(...measured.map(({ lost }) => lost)), 0, ''),
    ];
    const file = await saveResult('workers', { machine, bounds, rounds, clients, capacity, results }, output);
    console.log(
      `serve --workers: ${eventsPerRound} events, each after all ${clients} clients have received the previous one: median of ${rounds} rounds (lowest-highest round)`,
    );
    console.log(machineLine(machine));
    const rows = results.map(({ workers, perSecond, totalUs, busiestUs, sharePercent }) => [
      String(workers),
      spreadCell(perSecond),
      spreadCell(totalUs),
      spreadCell(busiestUs),
      spreadCell(sharePercent),
    ]);
    const head = ['workers', 'deliveries/s', 'us of all', 'us of the busiest', 'its share in %'];
    console.log(
      `\n${markdownTable(head, rows)}\n\nTwo workers, each on its own core, would deliver ${capacity.toFixed(2)} times as much as one.\n\nWritten to ${file}`,
    );
    return bounds;
  });
}

/**
 * @param {BoundedRun} run
 * @param {PreparedFlagcast} prepared
 * @param {Receivers} receivers
 * @param {{ workers: number, clients: number }} options
 * @returns {Promise<Measured>}
 */
async function measureWorkers(run, prepared, receivers, { workers, clients }) {
  const { port, pids, end } = await prepared.serveWith(workers);
  const { headers, address } = prepared;
  await connectClients(run, receivers, { port, dialect: 'text', headers, address }, { clients, channels: 1 });
  await publish(prepared, receivers, warmUpEvents);
  // With several workers, the first process is the primary, which only supervises.
  const serving = workers === 1 ? pids.slice(0, 1) : pids.slice(1);
  const cpuMs = async () => await Promise.all(serving.map(async (pid) => await cpuMsOf([pid])));
  const before = await receivers.count();
  const cpuMsBefore = await cpuMs();
  const startedAtMs = performance.now();
  await publish(prepared, receivers, eventsPerRound);
  const tookMs = performance.now() - startedAtMs;
  const cpuMsAfter = await cpuMs();
  const { events, lost } = await receivers.disconnect();
  await end();
  const delivered = events - before.events;
  const usOfEach = cpuMsAfter.map((ms, index) => ((ms - (cpuMsBefore[index] ?? 0)) * 1_000) / delivered);
  const totalUs = usOfEach.reduce((sum, us) => sum + us, 0);
  const busiestUs = Math.max(...usOfEach);
  return {
    workers,
    perSecond: (delivered * 1_000) / tookMs,
    totalUs,
    busiestUs,
    sharePercent: (busiestUs / totalUs) * 100,
    missing: eventsPerRound * clients - delivered,
    lost,
  };
}

/**
 * Commits events, each after all clients have received the previous one: events committed during a delivery would be
 * batched, the more the busier the machine is.
 *
 * @param {PreparedFlagcast} prepared
 * @param {Receivers} receivers
 * @param {number} events
 */
async function publish({ database, channelIds }, receivers, events) {
  for (let event = 0; event < events; event += 1) {
    const arriving = receivers.expect([0], arrivalLimitMs);
    await insertEvents(database, channelIds, [0]);
    if (!(await arriving)) return;
  }
}
