import { setTimeout as delay } from 'node:timers/promises';
import { chooseTargets } from './targets/all.js';
import { connectClients } from './fanout/round.js';
import { startReceivers } from './load/receivers.js';
import { measure } from './measurement.js';
import { oneCount } from './options.js';
import { cpuMsOf, memoryOf } from '../testkit/process-figures.ts';
import { startProgress } from './progress.js';
import { bound, clearProgress, machineLine, markdownTable, saveResult, spreadCell } from './results.js';
import { spread } from './statistics.js';
import { rotate } from './rounds.js';

/** @import { Target, TargetOptions } from './targets/target.js' */
/** @import { Receivers } from './load/receivers.js' */
/** @import { Options } from './options.js' */
/** @import { Bound } from './results.js' */

const limitMs = 30 * 60_000;
const defaultKinds = ['flagcast', 'flagcast.v1', 'ws'];
/** Measured time, in milliseconds: each connection gets a keep-alive frame, and its rights are checked twice. */
const idleMs = 50_000;
/** Pause after the last handshake, in milliseconds, until the garbage of the handshakes is collected. */
const quiesceMs = 40_000;
/** Pause between the start of a server and its first client, in milliseconds. */
const startMs = 2_000;
const boundKilobytes = 6.2;
const boundCpuPercent = 1.5;

/** @typedef {{ target: Target, kilobytes: number, cpuPercent: number, lost: number }} Idle */

/**
 * Measures idle connections: memory of each, processor time of all.
 *
 * @param {Options} options
 * @returns {Promise<readonly Bound[]>}
 */
export async function runIdle(options) {
  const clients = oneCount(options, 5_000);
  const { rounds = 3, targets: kinds = defaultKinds, output } = options;
  const chosen = chooseTargets(kinds);
  return await measure({ name: 'idle', limitMs, clients }, async ({ run, postgres, machine }) => {
    const receivers = startReceivers(run, clients);
    const progress = startProgress('idle', rounds * chosen.length);
    /** @type {Idle[]} */
    const measured = [];
    for (let round = 0; round < rounds; round += 1) {
      for (const target of rotate(chosen, round)) {
        progress.step(`round ${round + 1} of ${rounds}, ${target.name}`);
        const setting = { run, postgres, channels: 1, maxConnections: clients };
        const idle = await measureIdle(target, setting, receivers, clients);
        if (idle !== null) measured.push(idle);
      }
    }
    clearProgress();

    const results = chosen.flatMap((target) => {
      const own = measured.filter((each) => each.target === target);
      if (own.length === 0) return [];
      return {
        kind: target.kind,
        name: target.name,
        kilobytes: spread(own.map(({ kilobytes }) => kilobytes)),
        cpuPercent: spread(own.map(({ cpuPercent }) => cpuPercent)),
        lost: Math.max(...own.map(({ lost }) => lost)),
      };
    });
    const bounds = results
      .filter(({ kind }) => kind.startsWith('flagcast'))
      .flatMap(({ name, kilobytes, cpuPercent, lost }) => [
        bound(`${name}: memory of an idle connection`, kilobytes.median, boundKilobytes, ' kB'),
        bound(`${name}: CPU while ${clients} are idle`, cpuPercent.median, boundCpuPercent, ' %'),
        bound(`${name}: idle connections lost`, lost, 0, ''),
      ]);
    const file = await saveResult('idle', { machine, bounds, rounds, clients, idleMs, results }, output);
    console.log(
      `${clients} idle connections for ${idleMs / 1_000} s: the median of ${rounds} rounds (lowest-highest round), each with a new server`,
    );
    console.log(machineLine(machine));
    const rows = results.map(({ name, kilobytes, cpuPercent, lost }) => [
      name,
      spreadCell(kilobytes),
      spreadCell(cpuPercent),
      String(lost),
    ]);
    console.log(
      `\n${markdownTable(['', 'kB of memory each', '% of a core', 'lost'], rows)}\n\nWritten to ${file}`,
    );
    return bounds;
  });
}

/**
 * @param {Target} target
 * @param {TargetOptions} setting
 * @param {Receivers} receivers
 * @param {number} clients
 * @returns {Promise<Idle | null>} null where the server is not installed
 */
async function measureIdle(target, setting, receivers, clients) {
  const { run } = setting;
  const running = await target.start(setting);
  if (running === null) return null;
  await delay(startMs, undefined, { signal: run.signal });
  const before = await memoryOf([running.memoryPid]);
  await connectClients(run, receivers, running, { clients, channels: 1 });
  await delay(quiesceMs, undefined, { signal: run.signal });
  const cpuMsBefore = await cpuMsOf(running.cpuPids);
  await delay(idleMs, undefined, { signal: run.signal });
  const cpuMs = (await cpuMsOf(running.cpuPids)) - cpuMsBefore;
  const after = await memoryOf([running.memoryPid]);
  const { lost } = await receivers.disconnect();
  await running.end();
  return {
    target,
    kilobytes: (after.residentBytes - before.residentBytes) / clients / 1_000,
    cpuPercent: (cpuMs / idleMs) * 100,
    lost,
  };
}
