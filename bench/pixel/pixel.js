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
import { startContender } from './contender.js';
import { inTurn } from '../rounds.js';

/** @import { Bound } from '../results.js' */
/** @import { Percentiles, Spread } from '../statistics.js' */
/** @import { Delays } from './contender.js' */

const limitMs = 10 * 60_000;
const rounds = 3;
const changes = 200;
/** Not counted: code is compiled and plans are made when it first runs. */
const warmUpChanges = 30;
/** Several frames: people's changes come one by one, not in step with the screen. */
const pauseLimitMs = 50;
const boundMs = 30;

const contenders = /** @type {const} */ ([
  { kind: 'floor', name: 'floor: NOTIFY -> ws -> textContent' },
  { kind: 'console', name: 'the console' },
]);

/**
 * From a commit to the screen of two windows, in milliseconds: the console beside the least that a page
 * can do, in the same browser.
 *
 * @returns {Promise<readonly Bound[]>}
 */
export async function runPixel() {
  return await measure({ name: 'pixel', limitMs }, async ({ run, postgres, machine }) => {
    const browser = await startBrowser(run);
    const running = [];
    for (const contender of contenders) {
      /** @type {Delays[]} */
      const measured = [];
      const started = await startContender(run, postgres, browser, contender);
      running.push({ ...contender, ...started, measured });
    }
    for (let round = 0; round < rounds; round += 1) {
      for (const { name, measure, measured } of inTurn(running, round)) {
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
    const bounds = [bound('p50 from the commit to two windows of the console', ours, boundMs, ' ms')];
    const file = await saveResult('pixel', { machine, bounds, rounds, warmUpChanges, results });
    console.log(
      `Commit to screen, both of two windows, in ms: the median of ${rounds} rounds (lowest-highest round)`,
    );
    console.log(machineLine(machine));
    console.log(
      `\nFrom just before COMMIT is sent until the page has changed:\n\n${table(results, 'fromCommitSent')}`,
    );
    console.log(
      `\nFrom the answer to COMMIT until the page has changed:\n\n${table(results, 'fromCommitAnswered')}`,
    );
    console.log(`\nFrom just before COMMIT is sent until the frame is drawn:\n\n${table(results, 'drawn')}`);
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
