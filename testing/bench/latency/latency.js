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
import { startTarget } from './target.js';
import { rotate } from '../rounds.js';

/** @import { Bound } from '../results.js' */
/** @import { Percentiles, Spread } from '../statistics.js' */
/** @import { Delays } from './target.js' */

const limitMs = 10 * 60_000;
const rounds = 5;
/** Not measured: code is compiled and plans are made at first use, and caches are cold after a pause. */
const warmUpCommits = 30;
/** Limits of Flagcast's latency relative to NOTIFY and one SELECT by primary key. */
const p50Limit = 1.4;
const p99Limit = 1.5;

/**
 * The targets. Polling takes about a second for a message, so it has fewer commits, whose rounds are merged; its pauses
 * spread the commits over the polling interval.
 */
const targets = /** @type {const} */ ([
  { kind: 'payload', name: 'baseline 1: NOTIFY -> ws', commits: 300, pauseLimitMs: 5 },
  { kind: 'select', name: 'baseline 2: NOTIFY -> SELECT -> ws', commits: 300, pauseLimitMs: 5 },
  { kind: 'flagcast', name: 'flagcast, LISTEN', commits: 300, pauseLimitMs: 5 },
  { kind: 'polling', name: 'flagcast, 1 s polling only', commits: 12, pauseLimitMs: 1_000 },
]);

/** Rounds with fewer commits are merged, because their percentiles are meaningless. */
const minimumPerRound = 100;

/**
 * Measures the latency from COMMIT to the message at the client, and compares it with two baselines.
 *
 * @returns {Promise<readonly Bound[]>}
 */
export async function runLatency() {
  return await measure({ name: 'latency', limitMs }, async ({ run, postgres, machine }) => {
    const running = [];
    for (const target of targets) {
      /** @type {Delays[]} */
      const measured = [];
      running.push({ ...target, ...(await startTarget(run, postgres, target)), measured });
    }
    for (let round = 0; round < rounds; round += 1) {
      for (const { name, kind, commits, pauseLimitMs, measure, measured } of rotate(running, round)) {
        /** @param {number} done */
        const onCommit = (done) => {
          showProgress(`latency: round ${round + 1} of ${rounds}, ${name}, ${done} of ${commits}`);
        };
        if (kind !== 'polling') await measure(warmUpCommits, pauseLimitMs, () => undefined);
        measured.push(await measure(commits, pauseLimitMs, onCommit));
      }
    }
    clearProgress();

    const results = running.map(({ kind, name, commits, measured }) => ({
      kind,
      name,
      commits: commits * rounds,
      fromCommitSent: overRounds(measured.map(({ fromCommitSent }) => fromCommitSent)),
      fromCommitAnswered: overRounds(measured.map(({ fromCommitAnswered }) => fromCommitAnswered)),
    }));
    const bounds = [
      bound(
        'p50 of flagcast with LISTEN over p50 of baseline 2',
        medianOf(results, 'flagcast', 'p50') / medianOf(results, 'select', 'p50'),
        p50Limit,
      ),
      bound(
        'p99 of flagcast with LISTEN over p99 of baseline 2',
        medianOf(results, 'flagcast', 'p99') / medianOf(results, 'select', 'p99'),
        p99Limit,
      ),
    ];
    const file = await saveResult('latency', { machine, bounds, rounds, warmUpCommits, results });
    console.log(
      `Latency from COMMIT to the message, in ms: median of ${rounds} rounds (lowest-highest round)`,
    );
    console.log(machineLine(machine));
    console.log(`\nFrom just before COMMIT is sent:\n\n${table(results, 'fromCommitSent')}`);
    console.log(
      `\nFrom the response to COMMIT, which may arrive after the message:\n\n${table(results, 'fromCommitAnswered')}`,
    );
    console.log(`\nWritten to ${file}`);
    return bounds;
  });
}

/**
 * @param {readonly (readonly number[])[]} samplesOfRounds
 * @returns {Figures}
 */
function overRounds(samplesOfRounds) {
  const smallest = Math.min(...samplesOfRounds.map(({ length }) => length));
  const measured = (smallest < minimumPerRound ? [samplesOfRounds.flat()] : samplesOfRounds).map(percentiles);
  return {
    p50: spread(measured.map(({ p50 }) => p50)),
    p90: spread(measured.map(({ p90 }) => p90)),
    p99: spread(measured.map(({ p99 }) => p99)),
    max: spread(measured.map(({ max }) => max)),
  };
}

/** @typedef {Record<keyof Percentiles, Spread>} Figures */

/**
 * @typedef {{
 *   kind: string,
 *   name: string,
 *   commits: number,
 *   fromCommitSent: Figures,
 *   fromCommitAnswered: Figures,
 * }} Result
 */

/**
 * @param {readonly Result[]} results
 * @param {string} kind
 * @param {'p50' | 'p99'} percentile
 */
function medianOf(results, kind, percentile) {
  return results.find((result) => result.kind === kind)?.fromCommitSent[percentile].median ?? NaN;
}

/**
 * @param {readonly Result[]} results
 * @param {'fromCommitSent' | 'fromCommitAnswered'} from
 */
function table(results, from) {
  return markdownTable(
    ['', 'commits', 'p50', 'p90', 'p99', 'max'],
    results.map(({ name, commits, [from]: { p50, p90, p99, max } }) => [
      name,
      String(commits),
      ...[p50, p90, p99, max].map(spreadCell),
    ]),
  );
}
