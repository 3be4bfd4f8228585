import { setTimeout as delay } from 'node:timers/promises';
import { freePort } from '../../../packages/demo/dist/embedded/embedded-process.js';
import { startChild } from '../../testkit/child.ts';
import { insertEvents, prepareFlagcast } from '../targets/flagcast.js';
import { measure } from '../measurement.js';
import { oneCount } from '../options.js';
import { startProgress } from '../progress.js';
import {
  bound,
  clearProgress,
  figure,
  machineLine,
  markdownTable,
  saveResult,
  showProgress,
  spreadCell,
} from '../results.js';
import { percentile, spread } from '../statistics.js';
import { countingSettings, startCounting } from './statement-counts.js';

/** @import { BoundedRun } from '../../testkit/bounded-run.ts' */
/** @import { Options } from '../options.js' */
/** @import { Bound } from '../results.js' */
/** @import { PreparedFlagcast } from '../targets/flagcast.js' */
/** @import { StatementCount } from './statement-counts.js' */

const limitMs = 30 * 60_000;
/** Number of events that are committed while the server is down. */
const missedEvents = 3;
/** Time limit for all clients to connect or reconnect, in milliseconds. */
const connectLimitMs = 120_000;
/** Statements of a server without clients are recorded for this long, in milliseconds; they do not count. */
const baselineMs = 5_000;
const boundSeconds = 5;
const boundQueries = 10;

/**
 * `awaySeconds`: from the kill of the server until it serves again. `halfSeconds`, `allSeconds`: from then until half and all
 * of the clients are live. `queries`: number of the statements for the clients. `statements`: the same by statement.
 *
 * @typedef {{
 *   readonly awaySeconds: number,
 *   readonly halfSeconds: number,
 *   readonly allSeconds: number,
 *   readonly queries: number,
 *   readonly statements: readonly StatementCount[],
 * }} Round
 */

/**
 * Measures clients that lose their server at the same time, and resume from their cursors when it is back.
 *
 * @param {Options} options
 * @returns {Promise<readonly Bound[]>}
 */
export async function runStorm(options) {
  const clients = oneCount(options, 5_000);
  const { rounds = 5, output } = options;
  const measurement = { name: 'storm', limitMs, clients, settings: countingSettings };
  return await measure(measurement, async ({ run, postgres, machine }) => {
    const prepared = await prepareFlagcast({ run, postgres, channels: 1, maxConnections: 2 * clients });
    const measured = await measureRounds(run, prepared, clients, rounds);
    clearProgress();
    /** @param {(round: Round) => number} pick */
    const over = (pick) => spread(measured.map(pick));
    const results = {
      awaySeconds: over(({ awaySeconds }) => awaySeconds),
      halfSeconds: over(({ halfSeconds }) => halfSeconds),
      allSeconds: over(({ allSeconds }) => allSeconds),
      queries: over(({ queries }) => queries),
    };
    const bounds = [
      bound(`until all ${clients} are live again`, results.allSeconds.median, boundSeconds, ' s'),
      bound('queries for the reconnects', results.queries.median, boundQueries, ''),
    ];
    const statements = measured.at(-1)?.statements ?? [];
    const file = await saveResult(
      'storm',
      { machine, bounds, rounds, clients, missedEvents, results, lastRoundStatements: statements },
      output,
    );
    console.log(
      `${clients} flagcast.v1 clients lose their server: median of ${rounds} rounds (lowest-highest round)`,
    );
    console.log(machineLine(machine));
    const rows = [
      ['server unavailable, s', spreadCell(results.awaySeconds)],
      ['then until half of the clients are live, s', spreadCell(results.halfSeconds)],
      ['then until all clients are live, s', spreadCell(results.allSeconds)],
      ['queries for the clients', spreadCell(results.queries)],
    ];
    console.log(
      `\n${markdownTable(['', ''], rows)}\n\nStatements of the last round:\n${linesOf(statements)}`,
    );
    console.log(`\nWritten to ${file}`);
    return bounds;
  });
}

/**
 * @param {BoundedRun} run
 * @param {PreparedFlagcast} prepared
 * @param {number} clients
 * @param {number} rounds
 * @returns {Promise<Round[]>}
 */
async function measureRounds(run, prepared, clients, rounds) {
  const { database, channelIds } = prepared;
  const counter = await startCounting(database.client);
  const publish = async () => await insertEvents(database, channelIds, [0]);
  const port = await freePort();

  await counter.reset();
  let server = await prepared.serve(port);
  for (let event = 0; event < missedEvents; event += 1) await publish();
  await delay(baselineMs, undefined, { signal: run.signal });
  const withoutClients = new Set((await counter.counts()).map(({ id }) => id));

  const program = startChild(run, new URL('./client-program.js', import.meta.url));
  const { path } = prepared.address(0);
  showProgress(`storm: connecting ${clients} clients`);
  await program.request(
    { do: 'connect', clients, port, localAddress: '127.0.0.2', path, headers: prepared.headers },
    connectLimitMs,
  );
  const progress = startProgress('storm', rounds);
  /** @type {Round[]} */
  const measured = [];
  for (let round = 0; round < rounds; round += 1) {
    progress.step(`round ${round + 1} of ${rounds}`);
    // After this event every client has a current cursor.
    const current = program.request({ do: 'await', live: false, events: 1 }, connectLimitMs);
    await publish();
    await current;
    await counter.reset();
    const resumed = program.request({ do: 'await', live: true, events: missedEvents }, connectLimitMs);
    const killedAtMs = nowMs();
    await server.kill();
    for (let event = 0; event < missedEvents; event += 1) await publish();
    server = await prepared.serve(port);
    const returnedAtMs = nowMs();
    const liveAtMs = /** @type {number[]} */ (await resumed);
    const statements = (await counter.counts()).filter(({ id }) => !withoutClients.has(id));
    const secondsAfter = liveAtMs.map((atMs) => Math.max(0, atMs - returnedAtMs) / 1_000);
    measured.push({
      awaySeconds: (returnedAtMs - killedAtMs) / 1_000,
      halfSeconds: percentile(secondsAfter, 0.5),
      allSeconds: percentile(secondsAfter, 1),
      queries: statements.reduce((total, { calls }) => total + calls, 0),
      statements,
    });
  }
  await program.request({ do: 'disconnect' });
  return measured;
}

/** The clock of process.hrtime, which all processes of the machine share. */
function nowMs() {
  return Number(process.hrtime.bigint()) / 1e6;
}

/** @param {readonly StatementCount[]} statements */
function linesOf(statements) {
  return statements
    .map(({ query, calls }) => `${figure(calls)} x ${query.replace(/\s+/g, ' ').trim().slice(0, 90)}`)
    .join('\n');
}
