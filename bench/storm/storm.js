import { setTimeout as delay } from 'node:timers/promises';
import { freePort } from '../../packages/demo/dist/embedded/embedded-process.js';
import { startChild } from '../child.js';
import { insertEvents, prepareFlagcast } from '../contenders/flagcast.js';
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

/** @import { Options } from '../options.js' */
/** @import { Bound } from '../results.js' */
/** @import { StatementCount } from './statement-counts.js' */

const limitMs = 30 * 60_000;
/** Committed while there is no server. */
const missedEvents = 3;
/** How long all may take to come, at the beginning and back, in milliseconds. */
const comeLimitMs = 120_000;
/** As long a server without clients is watched, in milliseconds: what it asks is not asked for clients. */
const controlMs = 5_000;
const boundSeconds = 5;
const boundQueries = 10;

/**
 * `awaySeconds`: from the end of the server until it serves again; the others from there on.
 *
 * @typedef {{
 *   readonly awaySeconds: number,
 *   readonly halfSeconds: number,
 *   readonly allSeconds: number,
 *   readonly queries: number,
 *   readonly asked: readonly StatementCount[],
 * }} Round
 */

/**
 * Clients that lose their server all at once, and resume from where they stood when it is back.
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
    const { database, places } = prepared;
    const statements = await startCounting(database.client);
    const publish = async () => await insertEvents(database, places, [0]);
    const port = await freePort();

    await statements.reset();
    let server = await prepared.serve(port);
    for (let event = 0; event < missedEvents; event += 1) await publish();
    await delay(controlMs, undefined, { signal: run.signal });
    const withoutClients = new Set((await statements.counts()).map(({ id }) => id));

    const crowd = startChild(run, new URL('./client-program.js', import.meta.url));
    const { path } = prepared.address(0);
    showProgress(`storm: ${clients} clients come`);
    await crowd.request(
      { do: 'connect', clients, port, localAddress: '127.0.0.2', path, headers: prepared.headers },
      comeLimitMs,
    );
    const progress = startProgress('storm', rounds);
    /** @type {Round[]} */
    const measured = [];
    for (let round = 0; round < rounds; round += 1) {
      progress.step(`round ${round + 1} of ${rounds}`);
      // Whoever has an event of now has a cursor of now.
      const current = crowd.request({ do: 'await', live: false, events: 1 }, comeLimitMs);
      await publish();
      await current;
      await statements.reset();
      const back = crowd.request({ do: 'await', live: true, events: missedEvents }, comeLimitMs);
      const killedAtMs = nowMs();
      await server.kill();
      for (let event = 0; event < missedEvents; event += 1) await publish();
      server = await prepared.serve(port);
      const returnedAtMs = nowMs();
      const liveAtMs = /** @type {number[]} */ (await back);
      const asked = (await statements.counts()).filter(({ id }) => !withoutClients.has(id));
      const secondsAfter = liveAtMs.map((atMs) => Math.max(0, atMs - returnedAtMs) / 1_000);
      measured.push({
        awaySeconds: (returnedAtMs - killedAtMs) / 1_000,
        halfSeconds: percentile(secondsAfter, 0.5),
        allSeconds: percentile(secondsAfter, 1),
        queries: asked.reduce((total, { calls }) => total + calls, 0),
        asked,
      });
    }
    await crowd.request({ do: 'disconnect' });
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
      bound('queries for their look-ups and resumes', results.queries.median, boundQueries, ''),
    ];
    const asked = measured.at(-1)?.asked ?? [];
    const file = await saveResult(
      'storm',
      { machine, bounds, rounds, clients, missedEvents, results, lastRoundAsked: asked },
      output,
    );
    console.log(
      `${clients} flagcast.v1 clients lose their server: the median of ${rounds} rounds (lowest-highest round)`,
    );
    console.log(machineLine(machine));
    const rows = [
      ['the server was away, s', spreadCell(results.awaySeconds)],
      ['from its return until half are live again, s', spreadCell(results.halfSeconds)],
      ['until all are, s', spreadCell(results.allSeconds)],
      ['queries for them', spreadCell(results.queries)],
    ];
    console.log(`\n${markdownTable(['', ''], rows)}\n\nAsked in the last round:\n${askedLines(asked)}`);
    console.log(`\nWritten to ${file}`);
    return bounds;
  });
}

/** The clock that the clients' process has too. */
function nowMs() {
  return Number(process.hrtime.bigint()) / 1e6;
}

/** @param {readonly StatementCount[]} asked */
function askedLines(asked) {
  return asked
    .map(({ query, calls }) => `${figure(calls)} x ${query.replace(/\s+/g, ' ').trim().slice(0, 90)}`)
    .join('\n');
}
