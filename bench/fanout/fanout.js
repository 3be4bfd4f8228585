import { chooseContenders } from '../contenders/all.js';
import { startReceivers } from '../load/receivers.js';
import { measure } from '../measurement.js';
import { startProgress } from '../progress.js';
import { clearProgress, machineLine, saveFile, saveResult } from '../results.js';
import { beginning, setupsFor } from './patterns.js';
import { boundsOf, plots, summarize, tables } from './report.js';
import { measureTurn } from './turn.js';
import { inTurn } from '../rounds.js';

/** @import { Contender, RunningContender } from '../contenders/contender.js' */
/** @import { Options } from '../options.js' */
/** @import { Bound } from '../results.js' */
/** @import { Measured } from './report.js' */

const limitMs = 60 * 60_000;
const defaultClients = [1_000, 5_000];
const defaultRounds = 5;

/**
 * Processor time of the server for each event that reaches a client: ours beside others, in turns.
 *
 * @param {Options} options
 * @returns {Promise<readonly Bound[]>}
 */
export async function runFanout({
  clients = defaultClients,
  rounds = defaultRounds,
  contenders: kinds,
  output,
}) {
  const chosen = chooseContenders(kinds);
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
    /** @type {{ contender: Contender, running: RunningContender }[]} */
    const started = [];
    const skipped = [];
    for (const contender of chosen) {
      const running = await contender.start(setting);
      if (running === null) skipped.push(contender.name);
      else started.push({ contender, running });
    }
    const receivers = startReceivers(run, mostClients);
    const progress = startProgress('fanout', rounds * setups.length * started.length);
    for (const { running } of started) await measureTurn(run, receivers, running, beginning(mostClients));
    /** @type {Measured[]} */
    const measured = [];
    for (let round = 0; round < rounds; round += 1) {
      for (const setup of setups) {
        for (const { contender, running } of inTurn(started, round)) {
          progress.step(
            `round ${round + 1} of ${rounds}, ${setup.clients} clients on ${setup.channels} channels, ${contender.name}`,
          );
          const figures = await measureTurn(run, receivers, running, setup);
          for (const [index, { name: pattern }] of setup.patterns.entries()) {
            const figure = figures[index];
            if (figure !== undefined) measured.push({ setup, pattern, contender, round, ...figure });
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
      `Processor time of the server for each event that reached a client, in us: the median of ${rounds} rounds (lowest-highest round)`,
    );
    console.log(machineLine(machine));
    for (const name of skipped) console.log(`Not installed here, hence not measured: ${name}`);
    console.log(`\n${tables(results, setups)}\n\nWritten to ${files.join(', ')}`);
    return bounds;
  });
}
