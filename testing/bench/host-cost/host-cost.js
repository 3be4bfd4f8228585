import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import WebSocket from 'ws';
import { signToken } from '../../../packages/server/dist/auth/sign-token.js';
import { startServer } from '../../testkit/child.ts';
import { measure } from '../measurement.js';
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
import { rotate } from '../rounds.js';
import { percentiles, spread } from '../statistics.js';
import { createDatabase } from '../../testkit/postgres.ts';
import { startWriters } from './writers.js';

/** @import { BoundedRun } from '../../testkit/bounded-run.ts' */
/** @import { Bound } from '../results.js' */
/** @import { Options } from '../options.js' */
/** @import { Percentiles, Spread } from '../statistics.js' */
/** @import { BenchDatabase } from '../../testkit/postgres.ts' */
/** @import { Writers } from './writers.js' */

const limitMs = 20 * 60_000;
const writerCounts = /** @type {const} */ ([1, 4, 16]);
/** Minimum throughput with the triggers, relative to without, by number of writers. */
const minimumRatio = { 1: 0.78, 4: 0.78, 16: 0.8 };
const bulkRows = 100_000;
const bulkLimit = 2;
const roundMs = 3_000;
const warmUpMs = 1_000;
/** Duration of the latency measurement, in milliseconds. */
const deliveryMs = 10_000;
const deliveryP99LimitMs = 30;
/** A message with this latency waited for the poll, whose interval is 1,000 ms. */
const pollWaitMs = 500;

/**
 * Compares the throughput of the host's writers with and without the triggers, and measures the latency of messages with 16
 * writers.
 *
 * @param {Options} options
 * @returns {Promise<readonly Bound[]>}
 */
export async function runHostCost({ rounds = 5, output }) {
  return await measure({ name: 'host-cost', limitMs }, async ({ run, postgres, machine }) => {
    const most = Math.max(...writerCounts);
    const without = await createDatabase(run, postgres, 'bench_without');
    // CASCADE drops the triggers of Flagcast with their functions.
    await without.client.query(`
      DROP FUNCTION flagcast.log_audit CASCADE; DROP FUNCTION flagcast.log_request CASCADE;
      DROP FUNCTION flagcast.log_decision CASCADE; DROP FUNCTION flagcast.log_channel CASCADE;
      DROP FUNCTION flagcast.log_rights CASCADE`);
    const withTriggers = await createDatabase(run, postgres, 'bench_with');
    const targets = [
      { name: 'without', writers: await startWriters(run, without, most) },
      { name: 'with', writers: await startWriters(run, withTriggers, most) },
    ];
    const throughput = [];
    for (const count of writerCounts) {
      throughput.push({
        writers: count,
        ...(await compare(targets, rounds, async (writers, isWarmUp) => {
          showProgress(`host-cost: ${count} writers`);
          return await writers.commitFor(count, isWarmUp ? warmUpMs : roundMs);
        })),
      });
    }
    const bulk = await compare(targets, rounds, async (writers, isWarmUp) => {
      showProgress(`host-cost: ${bulkRows} rows in one statement`);
      return await writers.insertMany(isWarmUp ? 1_000 : bulkRows);
    });
    const [, last] = targets;
    if (last === undefined) throw new Error('Two targets are required');
    showProgress('host-cost: latency with 16 writers');
    const delivery = await measureDelivery(run, withTriggers, last.writers, most);
    clearProgress();

    const bounds = [
      ...throughput.map(({ writers, ratio }) => ({
        name: `commits a second of ${writers} writers with triggers over without`,
        value: ratio.median,
        limit: minimumRatio[writers],
        unit: 'x',
        holds: ratio.median >= minimumRatio[writers],
        isLeast: true,
      })),
      bound(
        `time of ${bulkRows} rows in one statement with triggers over without`,
        bulk.ratio.median,
        bulkLimit,
      ),
      bound('p99 from COMMIT to the message with 16 writers', delivery.delays.p99, deliveryP99LimitMs, ' ms'),
      bound('messages that waited for the poll', delivery.waited, 0, ''),
    ];
    const file = await saveResult(
      'host-cost',
      { machine, bounds, rounds, roundMs, throughput, bulkRows, bulk, delivery },
      output,
    );
    console.log(
      `Writers with and without the triggers: median of ${rounds} alternating rounds (lowest-highest round)`,
    );
    console.log(machineLine(machine));
    console.log(`\n${tableOf(throughput, bulk)}`);
    const { p50, p99, max } = delivery.delays;
    console.log(
      `\nLatency from COMMIT to the message with ${most} writers: p50 ${figure(p50)}, p99 ${figure(p99)}, max ${figure(max)} ms; ${delivery.commits} commits, lost ${delivery.lost}, waited for the poll ${delivery.waited}`,
    );
    console.log(`\nWritten to ${file}`);
    return bounds;
  });
}

/**
 * @typedef {{ without: Spread, with: Spread, ratio: Spread }} Comparison
 *
 * @param {readonly (Comparison & { writers: number })[]} throughput
 * @param {Comparison} bulk
 */
function tableOf(throughput, bulk) {
  /** @param {string} name @param {Comparison} comparison */
  const row = (name, { without, with: ours, ratio }) => [name, ...[without, ours, ratio].map(spreadCell)];
  return markdownTable(
    ['', 'without', 'with', 'ratio'],
    [
      ...throughput.map((each) => row(`${each.writers} writers, commits per second`, each)),
      row(`${bulkRows} rows in one statement, ms`, bulk),
    ],
  );
}

/**
 * Measures both targets in alternating rounds, so that other load on the machine affects both. The ratio is computed within
 * each round.
 *
 * @param {readonly { name: string, writers: Writers }[]} targets
 * @param {number} rounds
 * @param {(writers: Writers, isWarmUp: boolean) => Promise<number>} measureOnce
 * @returns {Promise<Comparison>}
 */
async function compare(targets, rounds, measureOnce) {
  for (const { writers } of targets) await measureOnce(writers, true);
  /** @type {Record<string, number[]>} */
  const figures = { without: [], with: [] };
  for (let round = 0; round < rounds; round += 1) {
    for (const { name, writers } of rotate(targets, round)) {
      figures[name]?.push(await measureOnce(writers, false));
    }
  }
  const { without = [], with: ours = [] } = figures;
  return {
    without: spread(without),
    with: spread(ours),
    ratio: spread(ours.map((value, round) => value / (without[round] ?? Number.NaN))),
  };
}

/**
 * Measures the latency to a plain client of the channel that all writers write to.
 *
 * @param {BoundedRun} run
 * @param {BenchDatabase} database
 * @param {Writers} writers
 * @param {number} count
 * @returns {Promise<{ commits: number, lost: number, waited: number, delays: Percentiles }>}
 */
async function measureDelivery(run, database, writers, count) {
  const { url, projectId, environmentKey, userId, username } = database;
  const secret = randomUUID();
  const program = new URL('../flagcast-server.js', import.meta.url);
  const { port } = await startServer(run, program, { databaseUrl: url, secret });
  const token = await signToken({ secret, userId, username, ttlMs: 3_600_000 });
  const query = new URLSearchParams({ project_id: projectId, env: environmentKey });
  const socket = new WebSocket(`ws://127.0.0.1:${port}/api/ws?${query.toString()}`, {
    headers: { Authorization: `Bearer ${token}` },
  });
  run.defer(async () => {
    socket.terminate();
    await Promise.resolve();
  });
  await once(socket, 'open', { signal: run.signal });
  /** @type {Map<string, number>} */
  const sent = new Map();
  /** @type {number[]} */
  const delays = [];
  let allSent = false;
  const arrived = new Promise((resolve) => {
    socket.on('message', (data) => {
      const receivedAtMs = performance.now();
      if (!Buffer.isBuffer(data)) return;
      const message = /** @type {{ entity_id?: string }} */ (JSON.parse(data.toString('utf8')));
      const sentAtMs = sent.get(message.entity_id ?? '');
      if (sentAtMs === undefined) return;
      sent.delete(message.entity_id ?? '');
      delays.push(receivedAtMs - sentAtMs);
      if (allSent && sent.size === 0) resolve(undefined);
    });
  });
  await writers.commitFor(count, deliveryMs, (entityId, sentAtMs) => void sent.set(entityId, sentAtMs));
  allSent = true;
  const late = new Promise((resolve) => setTimeout(resolve, 5_000).unref());
  if (sent.size > 0) await Promise.race([arrived, late]);
  return {
    commits: delays.length + sent.size,
    lost: sent.size,
    waited: delays.filter((delayMs) => delayMs >= pollWaitMs).length,
    delays: percentiles(delays),
  };
}
