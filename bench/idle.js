import { setTimeout as delay } from 'node:timers/promises';
import { chooseContenders } from './contenders/all.js';
import { connectClients } from './fanout/turn.js';
import { startReceivers } from './load/receivers.js';
import { measure } from './measurement.js';
import { oneCount } from './options.js';
import { cpuMsOf, memoryOf } from './process-figures.js';
import { startProgress } from './progress.js';
import { bound, clearProgress, machineLine, markdownTable, saveResult, spreadCell } from './results.js';
import { spread } from './statistics.js';
import { inTurn } from './rounds.js';

/** @import { Contender, Setting } from './contenders/contender.js' */
/** @import { Receivers } from './load/receivers.js' */
/** @import { Options } from './options.js' */
/** @import { Bound } from './results.js' */

const limitMs = 30 * 60_000;
const defaultKinds = ['flagcast', 'flagcast.v1', 'ws'];
/** In which each peer gets a frame that keeps it open, and the rights of all are checked twice, in milliseconds. */
const idleMs = 50_000;
/** From the last handshake to the first look: until what the handshakes left has been collected, in milliseconds. */
const settleMs = 40_000;
/** From the start of a server to its first client, in milliseconds. */
const startMs = 2_000;
const boundKilobytes = 6.2;
const boundCpuPercent = 1.5;

/** @typedef {{ contender: Contender, kilobytes: number, cpuPercent: number, lost: number }} Idle */

/**
 * What connections cost while nothing happens: memory of each, processor time of all.
 *
 * @param {Options} options
 * @returns {Promise<readonly Bound[]>}
 */
export async function runIdle(options) {
  const clients = oneCount(options, 5_000);
  const { rounds = 3, contenders: kinds = defaultKinds, output } = options;
  const chosen = chooseContenders(kinds);
  return await measure({ name: 'idle', limitMs, clients }, async ({ run, postgres, machine }) => {
    const receivers = startReceivers(run, clients);
    const progress = startProgress('idle', rounds * chosen.length);
    /** @type {Idle[]} */
    const measured = [];
    for (let round = 0; round < rounds; round += 1) {
      for (const contender of inTurn(chosen, round)) {
        progress.step(`round ${round + 1} of ${rounds}, ${contender.name}`);
        const setting = { run, postgres, channels: 1, maxConnections: clients };
        const idle = await measureIdle(contender, setting, receivers, clients);
        if (idle !== null) measured.push(idle);
      }
    }
    clearProgress();

    const results = chosen.flatMap((contender) => {
      const own = measured.filter((each) => each.contender === contender);
      if (own.length === 0) return [];
      return {
        kind: contender.kind,
        name: contender.name,
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
      `${clients} idle connections for ${idleMs / 1_000} s: the median of ${rounds} rounds (lowest-highest round), each with a server of its own`,
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
 * @param {Contender} contender
 * @param {Setting} setting
 * @param {Receivers} receivers
 * @param {number} clients
 * @returns {Promise<Idle | null>} null where the server is not installed
 */
async function measureIdle(contender, setting, receivers, clients) {
  const { run } = setting;
  const running = await contender.start(setting);
  if (running === null) return null;
  await delay(startMs, undefined, { signal: run.signal });
  const before = await memoryOf(running.memoryPid);
  await connectClients(run, receivers, running, { clients, channels: 1 });
  await delay(settleMs, undefined, { signal: run.signal });
  const cpuMsBefore = await cpuMsOf(running.cpuPids);
  await delay(idleMs, undefined, { signal: run.signal });
  const cpuMs = (await cpuMsOf(running.cpuPids)) - cpuMsBefore;
  const after = await memoryOf(running.memoryPid);
  const { lost } = await receivers.disconnect();
  await running.end();
  return {
    contender,
    kilobytes: (after.residentBytes - before.residentBytes) / clients / 1_000,
    cpuPercent: (cpuMs / idleMs) * 100,
    lost,
  };
}
