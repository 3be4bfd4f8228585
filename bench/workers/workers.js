import { insertEvents, prepareFlagcast } from '../contenders/flagcast.js';
import { connectClients } from '../fanout/turn.js';
import { startReceivers } from '../load/receivers.js';
import { measure } from '../measurement.js';
import { oneCount } from '../options.js';
import { cpuMsOf } from '../process-figures.js';
import { startProgress } from '../progress.js';
import { bound, clearProgress, machineLine, markdownTable, saveResult, spreadCell } from '../results.js';
import { inTurn } from '../rounds.js';
import { spread } from '../statistics.js';

/** @import { BoundedRun } from '../bounded-run.js' */
/** @import { PreparedFlagcast } from '../contenders/flagcast.js' */
/** @import { Receivers } from '../load/receivers.js' */
/** @import { Options } from '../options.js' */
/** @import { Bound } from '../results.js' */

const limitMs = 30 * 60_000;
const workerCounts = [1, 2];
const warmUpEvents = 50;
const eventsOfRound = 200;
const arrivalLimitMs = 60_000;
/** With two processes, each on a core of its own, so many times the events can be delivered. */
const boundCapacity = 1.7;

/**
 * `perSecond`: events that reached a client in a second, all processes of this machine together. `busiestUs`:
 * processor time of the busiest process for each event that reached a client; `sharePercent`: its part of
 * that of all workers.
 *
 * @typedef {{ workers: number, perSecond: number, totalUs: number, busiestUs: number, sharePercent: number, missing: number, lost: number }} Measured
 */

/**
 * What `serve --workers 2` adds: the events that reach clients in a second, and how the work is split. Where
 * the clients' processes need the same cores as the server's, the time does not tell what two cores would do;
 * the busiest process does: it is the one that ends up short of a core.
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
      for (const workers of inTurn(workerCounts, round)) {
        progress.step(`round ${round + 1} of ${rounds}, ${workers} of them`);
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
      // A ratio that has to be large, as one that has to be small.
      bound('busiest process of two workers over the one of one', 1 / capacity, 1 / boundCapacity),
      bound('events that did not arrive', Math.max(...measured.map(({ missing }) => missing)), 0, ''),
      bound('clients cut off', Math.max(...measured.map(({ lost }) => lost)), 0, ''),
    ];
    const file = await saveResult('workers', { machine, bounds, rounds, clients, capacity, results }, output);
    console.log(
      `serve --workers: ${eventsOfRound} events, each when the last one has reached all of ${clients} clients: the median of ${rounds} rounds (lowest-highest round)`,
    );
    console.log(machineLine(machine));
    const rows = results.map(({ workers, perSecond, totalUs, busiestUs, sharePercent }) => [
      String(workers),
      spreadCell(perSecond),
      spreadCell(totalUs),
      spreadCell(busiestUs),
      spreadCell(sharePercent),
    ]);
    const head = ['workers', 'delivered in a second', 'us of all', 'us of the busiest', 'its part in %'];
    console.log(
      `\n${markdownTable(head, rows)}\n\nEach on a core of its own two workers would deliver ${capacity.toFixed(2)} times as much as one.\n\nWritten to ${file}`,
    );
    return bounds;
  });
}

/**
 * @param {BoundedRun} run
 * @param {PreparedFlagcast} prepared
 * @param {Receivers} receivers
 * @param {{ workers: number, clients: number }} how
 * @returns {Promise<Measured>}
 */
async function measureWorkers(run, prepared, receivers, { workers, clients }) {
  const { port, pids, end } = await prepared.serveWith(workers);
  const { headers, address } = prepared;
  await connectClients(run, receivers, { port, dialect: 'text', headers, address }, { clients, channels: 1 });
  await publish(prepared, receivers, warmUpEvents);
  // The first process only keeps the others, where there are others.
  const serving = workers === 1 ? pids.slice(0, 1) : pids.slice(1);
  const cpuMs = async () => await Promise.all(serving.map(async (pid) => await cpuMsOf([pid])));
  const before = await receivers.count();
  const cpuMsBefore = await cpuMs();
  const startedAtMs = performance.now();
  await publish(prepared, receivers, eventsOfRound);
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
    missing: eventsOfRound * clients - delivered,
    lost,
  };
}

/**
 * Commits so many events, each when the one before has reached all clients: what comes while others are under
 * way would go out together with them, and the more, the busier the machine is.
 *
 * @param {PreparedFlagcast} prepared
 * @param {Receivers} receivers
 * @param {number} events
 */
async function publish({ database, places }, receivers, events) {
  for (let event = 0; event < events; event += 1) {
    const arriving = receivers.expect([0], arrivalLimitMs);
    await insertEvents(database, places, [0]);
    if (!(await arriving)) return;
  }
}
