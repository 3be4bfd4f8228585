import { setTimeout as delay } from 'node:timers/promises';
import { chooseTargets } from '../targets/all.js';
import { startReceivers } from '../load/receivers.js';
import { measure } from '../measurement.js';
import { oneCount } from '../options.js';
import { memoryOf, resetPeak } from '../../testkit/process-figures.ts';
import { startProgress } from '../progress.js';
import {
  bound,
  clearProgress,
  figure,
  machineLine,
  markdownTable,
  saveResult,
  spreadCell,
} from '../results.js';
import { spread } from '../statistics.js';
import { connectClients } from './round.js';
import { rotate } from '../rounds.js';

/** @import { Target, TargetOptions } from '../targets/target.js' */
/** @import { Receivers } from '../load/receivers.js' */
/** @import { Options } from '../options.js' */
/** @import { Bound } from '../results.js' */

const limitMs = 30 * 60_000;
const events = 300;
/** Not measured: compiling code that has not run yet takes memory. */
const warmUpEvents = 20;
const quietMs = 1_000;
const arrivalLimitMs = 30_000;
const megabyte = 1_000_000;
/** Limit of the memory that the burst takes, in MB. */
const boundPeak = 60;

/** @typedef {{ target: Target, share: number, lost: number, peakMb: number, ms: number }} Burst */

/**
 * Measures one burst to many reading clients: deliveries, duration and memory.
 *
 * @param {Options} options
 * @returns {Promise<readonly Bound[]>}
 */
export async function runBurst(options) {
  const clients = oneCount(options, 1_000);
  const { rounds = 5, targets: kinds, output } = options;
  const chosen = chooseTargets(kinds);
  return await measure({ name: 'burst', limitMs, clients }, async ({ run, postgres, machine }) => {
    const receivers = startReceivers(run, clients);
    const progress = startProgress('burst', rounds * chosen.length);
    /** @type {Burst[]} */
    const measured = [];
    for (let round = 0; round < rounds; round += 1) {
      for (const target of rotate(chosen, round)) {
        progress.step(`round ${round + 1} of ${rounds}, ${target.name}`);
        const setting = { run, postgres, channels: 1, maxConnections: clients };
        const burst = await measureBurst(target, setting, receivers, clients);
        if (burst !== null) measured.push(burst);
      }
    }
    clearProgress();

    const results = chosen.flatMap((target) => {
      const own = measured.filter((each) => each.target === target);
      if (own.length === 0) return [];
      return {
        kind: target.kind,
        name: target.name,
        share: Math.min(...own.map(({ share }) => share)),
        lost: Math.max(...own.map(({ lost }) => lost)),
        peakMb: spread(own.map(({ peakMb }) => peakMb)),
        ms: spread(own.map(({ ms }) => ms)),
      };
    });
    const bounds = results
      .filter(({ kind }) => kind.startsWith('flagcast'))
      .flatMap(({ name, share, lost, peakMb }) => [
        bound(`${name}: missing events of a burst of ${events}`, (1 - share) * 100, 0, ' %'),
        bound(`${name}: connections closed by a burst of ${events}`, lost, 0, ''),
        bound(`${name}: peak of memory above idle`, peakMb.median, boundPeak, ' MB'),
      ]);
    const file = await saveResult('burst', { machine, bounds, rounds, events, clients, results }, output);
    console.log(
      `${events} events at once to ${clients} clients: median of ${rounds} rounds (lowest-highest round), each with a new server; deliveries and closed connections of the worst round`,
    );
    console.log(machineLine(machine));
    const rows = results.map(({ name, share, lost, peakMb, ms }) => [
      name,
      `${figure(share * 100)} %`,
      String(lost),
      spreadCell(peakMb),
      spreadCell(ms),
    ]);
    console.log(
      `\n${markdownTable(['', 'arrived', 'closed', 'MB above idle', 'ms to the last'], rows)}\n\nWritten to ${file}`,
    );
    return bounds;
  });
}

/**
 * @param {Target} target
 * @param {TargetOptions} setting
 * @param {Receivers} receivers
 * @param {number} clients
 * @returns {Promise<Burst | null>} null where the server is not installed
 */
async function measureBurst(target, setting, receivers, clients) {
  const { run } = setting;
  const running = await target.start(setting);
  if (running === null) return null;
  await connectClients(run, receivers, running, { clients, channels: 1 });
  for (let event = 0; event < warmUpEvents; event += 1) {
    const arriving = receivers.expect([0], arrivalLimitMs);
    await running.publish([0]);
    await arriving;
  }
  await delay(quietMs, undefined, { signal: run.signal });
  const before = await receivers.count();
  const { residentBytes } = await memoryOf([running.memoryPid]);
  await resetPeak([running.memoryPid]);
  const burst = Array.from({ length: events }, () => 0);
  const startedAtMs = performance.now();
  const arriving = receivers.expect(burst, arrivalLimitMs);
  await running.publish(burst);
  await arriving;
  const ms = performance.now() - startedAtMs;
  const { peakBytes } = await memoryOf([running.memoryPid]);
  const after = await receivers.disconnect();
  await running.end();
  return {
    target,
    share: (after.events - before.events) / (events * clients),
    lost: after.lost,
    peakMb: (peakBytes - residentBytes) / megabyte,
    ms,
  };
}
