import {
  bound,
  clearProgress,
  machineLine,
  markdownTable,
  saveResult,
  showProgress,
  spreadCell,
} from '../results.js';
import { percentiles, spread } from '../statistics.js';
import { measure } from '../measurement.js';
import { startBrowser } from './browser-windows.js';
import { startTarget } from './target.js';
import { rotate } from '../rounds.js';

/** @import { Bound } from '../results.js' */
/** @import { Percentiles, Spread } from '../statistics.js' */
/** @import { Delays } from './target.js' */

const limitMs = 10 * 60_000;
const rounds = 3;
const changes = 200;
/** Not measured: code is compiled and plans are made at first use. */
const warmUpChanges = 30;
/** Several frames, so that changes are not synchronous with the screen. */
const pauseLimitMs = 50;
const boundMs = 30;

const targets = /** @type {const} */ ([
  { kind: 'baseline', name: 'baseline: NOTIFY -> ws -> textContent' },
  { kind: 'console', name: 'the console' },
]);

/**
 * Measures the latency from COMMIT to the screen of two console windows, and compares it with a minimal page in the same
 * browser.
 *
 * @returns {Promise<readonly Bound[]>}
 */
export async function runPixel() {
  return await measure({ name: 'pixel', limitMs }, async ({ run, postgres, machine }) => {
    const browser = await startBrowser(run);
    const running = [];
    for (const target of targets) {
      /** @type {Delays[]} */
      const measured = [];
      const started = await startTarget(run, postgres, browser, target);
      running.push({ ...target, ...started, measured });
    }
    for (let round = 0; round < rounds; round += 1) {
      for (const { name, measure, measured } of rotate(running, round)) {
        await measure(warmUpChanges, pauseLimitMs, () => undefined);
        measured.push(
          await measure(changes, pauseLimitMs, (done) => {
            showProgress(`pixel: round ${round + 1} of ${rounds}, ${name}, ${done} of ${changes}`);
          }),
        );
      }
    }
    clearProgress();

    const results = running.map(({ kind, name, measured }) => ({
      kind,
      name,
      changes: changes * rounds,
      fromCommitSent: overRounds(measured.map(({ fromCommitSent }) => fromCommitSent)),
      fromCommitAnswered: overRounds(measured.map(({ fromCommitAnswered }) => fromCommitAnswered)),
      drawn: overRounds(measured.map(({ drawn }) => drawn)),
    }));
    const ours = results.find(({ kind }) => kind === 'console')?.fromCommitSent.p50.median ?? NaN;
    const bounds = [bound('p50 from COMMIT to two windows of the console', ours, boundMs, ' ms')];
    const file = await saveResult('pixel', { machine, bounds, rounds, warmUpChanges, results });
    console.log(
      `Latency from COMMIT to the slower of two windows, in ms: median of ${rounds} rounds (lowest-highest round)`,
    );
    console.log(machineLine(machine));
    console.log(`\nFrom sending COMMIT to the change of the page:\n\n${table(results, 'fromCommitSent')}`);
    console.log(
      `\nFrom the response to COMMIT to the change of the page:\n\n${table(results, 'fromCommitAnswered')}`,
    );
    console.log(`\nFrom sending COMMIT to the drawn frame:\n\n${table(results, 'drawn')}`);
    console.log(`\nWritten to ${file}`);
    return bounds;
  });
}

/** @typedef {Record<keyof Percentiles, Spread>} Figures */

/**
 * @typedef {{
 *   kind: string,
 *   name: string,
 *   changes: number,
 *   fromCommitSent: Figures,
 *   fromCommitAnswered: Figures,
 *   drawn: Figures,
 * }} Result
 */

/**
 * @param {readonly (readonly number[])[]} samplesOfRounds
 * @returns {Figures}
 */
function overRounds(samplesOfRounds) {
  const measured = samplesOfRounds.map(percentiles);
  return {
    p50: spread(measured.map(({ p50 }) => p50)),
    p90: spread(measured.map(({ p90 }) => p90)),
    p99: spread(measured.map(({ p99 }) => p99)),
    max: spread(measured.map(({ max }) => max)),
  };
}

/**
 * @param {readonly Result[]} results
 * @param {keyof Delays} from
 */
function table(results, from) {
  return markdownTable(
    ['', 'changes', 'p50', 'p90', 'p99', 'max'],
    results.map(({ name, changes: count, [from]: { p50, p90, p99, max } }) => [
      name,
      String(count),
      ...[p50, p90, p99, max].map(spreadCell),
    ]),
  );
}
