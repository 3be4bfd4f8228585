import { setTimeout as delay } from 'node:timers/promises';
import { runBounded } from '../../testkit/bounded-run.ts';
import {
  bound,
  clearProgress,
  describeMachine,
  figure,
  machineLine,
  markdownTable,
  saveResult,
  showProgress,
  spreadCell,
} from '../results.js';
import { percentile, spread } from '../statistics.js';
import { createDatabase, startTemporaryPostgres } from '../../testkit/postgres.ts';
import { loadAudit, loadDecidedChanges } from './load.js';
import { startMeasuredReader } from './measured-reader.js';

/** @import { Bound } from '../results.js' */
/** @import { Spread } from '../statistics.js' */
/** @import { BoundedRun } from '../../testkit/bounded-run.ts' */
/** @import { BenchDatabase } from '../../testkit/postgres.ts' */

const limitMs = 20 * 60_000;
const rounds = 5;
const readsPerRound = 100;
/** Interval of the commits and reads in each database, in milliseconds. */
const tickMs = 20;
/** Not measured, in milliseconds: code is compiled and plans are made at first use. */
const warmUpMs = 3_000;
const sizes = /** @type {const} */ ({ small: 0, large: 10_000_000 });
/** Rows of the event log in the large database. */
const logRows = 2_000_000;
const decidedChanges = 200_000;
/** Limit of a read with large tables relative to empty ones. */
const boundToSmall = 1.2;

/** @typedef {{ readMs: Spread, cpuMsPerRead: number | null }} Cost */
/** @typedef {{ phase: string, small: Cost, large: Cost, ratio: number, cpuRatio: number | null }} PhaseResult */

/**
 * `prepare`: runs in both databases before the reads of the phase.
 *
 * @type {readonly { name: string, prepare: (database: BenchDatabase) => Promise<unknown> }[]}
 */
const phases = [
  { name: 'freshly loaded', prepare: async () => await Promise.resolve() },
  { name: 'after ANALYZE', prepare: async ({ client }) => await client.query('ANALYZE') },
];

/**
 * Measures the cost of a read with empty tables and with large ones.
 *
 * @returns {Promise<readonly Bound[]>}
 */
export async function runReader() {
  return await runBounded(limitMs, async (run) => {
    showProgress('reader: starting PostgreSQL');
    const postgres = await startTemporaryPostgres(run);
    const small = await createDatabase(run, postgres, 'bench_small');
    const large = await createDatabase(run, postgres, 'bench_large');
    const machine = await describeMachine(small.client);
    showProgress(`reader: loading ${sizes.large} rows`);
    await loadAudit(large.client, large, sizes.large, logRows);
    await loadDecidedChanges(large.client, large, decidedChanges);
    /** @type {PhaseResult[]} */
    const results = [];
    for (const { name, prepare } of phases) {
      await prepare(small);
      await prepare(large);
      const costs = await measurePhase(run, name, small, large);
      const { small: ofSmall, large: ofLarge } = costs;
      results.push({
        phase: name,
        ...costs,
        ratio: ofLarge.readMs.median / ofSmall.readMs.median,
        cpuRatio:
          ofSmall.cpuMsPerRead === null || ofLarge.cpuMsPerRead === null
            ? null
            : ofLarge.cpuMsPerRead / ofSmall.cpuMsPerRead,
      });
    }
    clearProgress();

    const bounds = results.map(({ phase, ratio }) =>
      bound(
        `read with ${sizes.large} audit rows and ${decidedChanges} decided requests over empty, ${phase}`,
        ratio,
        boundToSmall,
      ),
    );
    const file = await saveResult('reader', {
      machine,
      bounds,
      sizes,
      logRows,
      decidedChanges,
      rounds,
      readsPerRound,
      tickMs,
      results,
    });
    console.log(
      `One read, in ms: median of ${rounds} rounds of ${readsPerRound} reads (lowest-highest round); processor time of the PostgreSQL backend`,
    );
    console.log(machineLine(machine));
    console.log(`\n${table(results)}\n\nWritten to ${file}`);
    return bounds;
  });
}

/**
 * Reads in both databases alternately, so that other load on the machine affects both.
 *
 * @param {BoundedRun} run
 * @param {string} name
 * @param {BenchDatabase} small
 * @param {BenchDatabase} large
 * @returns {Promise<{ small: Cost, large: Cost }>}
 */
async function measurePhase(run, name, small, large) {
  // New sessions, because a session keeps its plans.
  const readers = [await startMeasuredReader(run, small), await startMeasuredReader(run, large)];
  const sides = readers.map((reader) => ({ reader, samples: /** @type {number[]} */ ([]) }));
  let ticks = 0;
  const tick = async () => {
    const startedAtMs = performance.now();
    ticks += 1;
    for (const { reader, samples } of ticks % 2 === 0 ? sides : sides.toReversed()) {
      const readMs = await reader.commitAndRead();
      if (readMs !== null) samples.push(readMs);
    }
    await delay(Math.max(0, tickMs - (performance.now() - startedAtMs)), undefined, { signal: run.signal });
  };

  showProgress(`reader: ${name}, warming up`);
  const warmUntilMs = performance.now() + warmUpMs;
  while (performance.now() < warmUntilMs) await tick();
  for (const side of sides) side.samples.length = 0;

  const wanted = rounds * readsPerRound;
  const cpuBefore = await Promise.all(readers.map(async (reader) => await reader.cpuMs()));
  const ticksBefore = ticks;
  while (sides.some(({ samples }) => samples.length < wanted)) {
    await tick();
    showProgress(`reader: ${name}, ${sides[0]?.samples.length ?? 0} of ${wanted} reads`);
  }
  const cpuAfter = await Promise.all(readers.map(async (reader) => await reader.cpuMs()));
  for (const reader of readers) await reader.stop();

  const [ofSmall, ofLarge] = sides.map(({ samples }, side) => {
    const before = cpuBefore[side] ?? null;
    const after = cpuAfter[side] ?? null;
    return {
      readMs: spread(
        Array.from({ length: rounds }, (_, round) =>
          percentile(samples.slice(round * readsPerRound, (round + 1) * readsPerRound), 0.5),
        ),
      ),
      cpuMsPerRead: before === null || after === null ? null : (after - before) / (ticks - ticksBefore),
    };
  });
  if (ofSmall === undefined || ofLarge === undefined) throw new Error('Two databases are required');
  return { small: ofSmall, large: ofLarge };
}

/** @param {readonly PhaseResult[]} results */
function table(results) {
  /** @param {number | null} value */
  const cell = (value) => (value === null ? 'unknown' : figure(value));
  return markdownTable(
    [
      '',
      ...['', 'CPU, '].flatMap((of) => [
        `${of}${sizes.small} rows`,
        `${of}${sizes.large} rows`,
        `${of}ratio`,
      ]),
    ],
    results.map(({ phase, small, large, ratio, cpuRatio }) => [
      phase,
      spreadCell(small.readMs),
      spreadCell(large.readMs),
      figure(ratio),
      cell(small.cpuMsPerRead),
      cell(large.cpuMsPerRead),
      cell(cpuRatio),
    ]),
  );
}
