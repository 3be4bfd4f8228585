import { chooseTargets } from '../targets/all.js';
import { startReceivers } from '../load/receivers.js';
import { measure } from '../measurement.js';
import { startProgress } from '../progress.js';
import { clearProgress, machineLine, saveFile, saveResult } from '../results.js';
import { serverWarmUp, setupsFor } from './patterns.js';
import { boundsOf, plots, summarize, tables } from './report.js';
import { measureRound } from './round.js';
import { rotate } from '../rounds.js';

/** @import { Target, RunningTarget } from '../targets/target.js' */
/** @import { Options } from '../options.js' */
/** @import { Bound } from '../results.js' */
/** @import { Measured } from './report.js' */

const limitMs = 60 * 60_000;
const defaultClients = [1_000, 5_000];
const defaultRounds = 5;

/**
 * Measures the processor time of the server for each delivered event, Flagcast and other servers in rotation.
 *
 * @param {Options} options
 * @returns {Promise<readonly Bound[]>}
 */
export async function runFanout({
  clients = defaultClients,
  rounds = defaultRounds,
  targets: kinds,
  output,
}) {
  const chosen = chooseTargets(kinds);
  const setups = setupsFor(clients);
  const mostClients = Math.max(...clients);
  const measurement = { name: 'fanout', limitMs, clients: mostClients };
  return await measure(measurement, async ({ run, postgres, machine }) => {
    const setting = {
      run,
      postgres,
      channels: Math.max(...setups.map(({ channels }) => channels)),
      maxConnections: 2 * mostClients,
    };
    /** @type {{ target: Target, running: RunningTarget }[]} */
    const started = [];
    const skipped = [];
    for (const target of chosen) {
      const running = await target.start(setting);
      if (running === null) skipped.push(target.name);
      else started.push({ target, running });
    }
    const receivers = startReceivers(run, mostClients);
    const progress = startProgress('fanout', rounds * setups.length * started.length);
    for (const { running } of started) await measureRound(run, receivers, running, serverWarmUp(mostClients));
    /** @type {Measured[]} */
    const measured = [];
    for (let round = 0; round < rounds; round += 1) {
      for (const setup of setups) {
        for (const { target, running } of rotate(started, round)) {
          progress.step(
            `round ${round + 1} of ${rounds}, ${setup.clients} clients on ${setup.channels} channels, ${target.name}`,
          );
          const figures = await measureRound(run, receivers, running, setup);
          for (const [index, { name: pattern }] of setup.patterns.entries()) {
            const figure = figures[index];
            if (figure !== undefined) measured.push({ setup, pattern, target, round, ...figure });
          }
        }
      }
    }
    clearProgress();

    const results = summarize(measured, setups);
    const bounds = boundsOf(results);
    const files = [await saveResult('fanout', { machine, bounds, rounds, skipped, results }, output)];
    for (const { name, svg } of plots(results, setups)) files.push(await saveFile(name, svg, output));
    console.log(
      `Processor time of the server for each delivered event, in us: median of ${rounds} rounds (lowest-highest round)`,
    );
    console.log(machineLine(machine));
    for (const name of skipped) console.log(`Skipped, because it is not installed: ${name}`);
    console.log(`\n${tables(results, setups)}\n\nWritten to ${files.join(', ')}`);
    return bounds;
  });
}
