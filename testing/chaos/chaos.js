import { randomBytes } from 'node:crypto';
import { createServer } from 'node:net';
import { once, setMaxListeners } from 'node:events';
import { setTimeout as delay } from 'node:timers/promises';
import { showProgress } from '../testkit/report.ts';
import { startTemporaryPostgres } from '../testkit/postgres.ts';
import { createRandom } from '../../packages/demo/dist/company/random.js';
import { PageClient } from './clients/page-client.js';
import { commitPrepared, seedDatabase, withClient } from './seed-database.js';
import { Nemesis, faultKinds, unsupportedFaults } from './nemesis.js';
import { FaultyProxy } from './faulty-proxy.js';
import { countUnlogged } from './host-changes.js';
import { measureGrowth, findLeaks } from './leaks.js';
import { drawPlan } from './plan.js';
import { openClientMix } from './client-mix.js';
import { ServerProcess } from './server-process.js';
import { readSwitches, awaitSentinels, findStateDifferences } from './quiesce.js';
import { Tokens } from './tokens.js';
import { check } from './checker.js';
import { runWriters } from './writers.js';

/** @import { BoundedRun } from '../testkit/bounded-run.ts' */
/** @import { Random } from '../../packages/demo/dist/company/random.js' */
/** @import { EmbeddedPostgres } from '@flagcast/demo' */
/** @import { PlannedFault } from './plan.js' */
/** @import { ChaosChannel } from './writers.js' */
/** @import { SeededDatabase } from './seed-database.js' */
/** @import { NemesisContext } from './nemesis.js' */
/** @import { ChaosOptions } from './options.js' */
/** @import { MixMember } from './client-mix.js' */
/** @import { InjectedFault } from './timeline.js' */
/** @import { Report } from './checker.js' */

/** Sessions that write, and the average pause of each between two transactions, in milliseconds. */
const writers = { count: 6, pauseMs: 500 };
/** `seed` is the run's, `seed + 1` the proxy's, `seed + 2` the clients'; the writers use the following ones. */
const firstWriterSeed = 3;
/** Every `intervalMs` the run commits prepared transactions that are older than `olderThanMs`. */
const recovery = { intervalMs: 3_000, olderThanMs: 12_000 };
/** Time limit for the first connection of all clients, in milliseconds. */
const connectLimitMs = 60_000;
/** Lower limit of the warm-up, in milliseconds. The warm-up is a fifth of the run and at most half of it. */
const shortestWarmUpMs = 60_000;
/** The console's token outlives the run by this, in milliseconds: a fault sets clocks ahead by up to two hours. */
const pageTokenSpareMs = 10_800_000;
/** Time limit for the console to show the final state, in milliseconds. */
const pageLimitMs = 45_000;
/** Interval of the progress lines without a terminal, in seconds. */
const progressIntervalS = 30;
/** Below the ephemeral ports: no client connection takes the port of a server that is being restarted. */
const ports = { first: 20_000, count: 12_000 };

/**
 * @typedef {{
 *   readonly options: ChaosOptions,
 *   readonly random: Random,
 *   readonly plan: readonly PlannedFault[],
 *   readonly skipped: Map<string, string>,
 *   readonly problems: string[],
 *   readonly postgres: EmbeddedPostgres,
 *   readonly seeded: SeededDatabase,
 *   readonly channels: readonly ChaosChannel[],
 *   readonly tokens: Tokens,
 *   readonly servers: readonly ServerProcess[],
 *   readonly survivor: ServerProcess,
 *   readonly proxy: FaultyProxy,
 * }} ChaosSetup
 * `skipped`: what the run leaves out, with the reason. `channels`: those that the writers write, without imports.
 * `survivor`: the first server, which no fault ends.
 */

/**
 * Runs the system under faults and checks the result.
 *
 * @param {BoundedRun} run
 * @param {ChaosOptions} options
 * @returns {Promise<Report>}
 */
export async function runChaos(run, options) {
  const durationMs = options.minutes * 60_000;
  // Each planned fault adds an abort listener.
  setMaxListeners(0, run.signal);
  const setup = await setUp(run, options, durationMs);
  const { survivor, servers, problems, skipped, seeded } = setup;
  const before = await survivor.figures();

  report(options, 'connects the clients');
  const members = connectClients(run, setup);
  const page = await openPage(run, setup);
  await until(
    () => members.every(({ client }) => client.segments.length >= client.channels.length),
    run.signal,
  );

  const startedAtMs = Date.now();
  /** @type {InjectedFault[]} */
  const faults = [];
  const context = createContext(run, setup, durationMs);
  const warm = await runFaults(run, setup, { context, faults, members, startedAtMs, durationMs });

  report(options, 'waits for the clients to catch up after the last fault');
  const { quiescedAtMs, stuck, different } = await quiesce(setup, members, page);
  const unlogged = context.unlogged + (await withClient(seeded.databaseUrl, countUnlogged));
  const end = await survivor.figures();

  report(options, 'closes the clients');
  for (const { client } of members) client.close();
  await page?.client.close();
  const leaks = [];
  for (const server of servers) leaks.push({ server: server.name, ...(await findLeaks(server, before)) });
  showProgress('');
  return await check({
    ...{ options, members, servers, startedAtMs, quiescedAtMs },
    ...{ faults, skipped, problems, stuck, different, leaks, unlogged },
    databaseUrl: seeded.databaseUrl,
    revocations: context.revocations,
    browser: page !== null,
    memory: { warm, end, growth: measureGrowth(warm, end, durationMs) },
  });
}

/**
 * Starts PostgreSQL, the servers and the proxy, and draws the faults.
 *
 * @param {BoundedRun} run
 * @param {ChaosOptions} options
 * @param {number} durationMs
 * @returns {Promise<ChaosSetup>}
 */
async function setUp(run, options, durationMs) {
  const random = createRandom(options.seed);
  /** @type {string[]} */
  const problems = [];
  const skipped = new Map(Object.entries(unsupportedFaults()));
  skipped.set("PostgreSQL's clock wrong", 'its processes use the clock of the system');
  const kinds = faultKinds.filter((kind) => !skipped.has(kind));
  const plan = drawPlan(random, kinds, durationMs);
  report(options, 'starts PostgreSQL');
  const postgres = await startTemporaryPostgres(run, {
    fsync: 'off',
    track_commit_timestamp: 'on',
    max_prepared_transactions: '50',
  });
  const seeded = await seedDatabase(postgres);
  const secret = randomBytes(32).toString('base64');
  const tokens = new Tokens(secret, () => random.next());
  report(options, 'starts the servers');
  const servers = await startServers(run, options, { databaseUrl: seeded.serverUrl, secret, problems });
  const [survivor] = servers;
  if (survivor === undefined) throw new Error('A run needs servers');
  const proxyRandom = createRandom(options.seed + 1);
  const proxy = await FaultyProxy.open(
    servers.map(({ port }) => port),
    () => proxyRandom.next(),
  );
  run.defer(async () => await proxy.close());
  const channels = seeded.projects.flat();
  return {
    ...{ options, random, plan, skipped, problems, postgres, seeded, channels },
    ...{ tokens, servers, survivor, proxy },
  };
}

/**
 * @param {BoundedRun} run
 * @param {ChaosSetup} setup
 */
function connectClients(run, { options, seeded, channels, servers, proxy, tokens }) {
  const members = openClientMix({
    ...{ count: options.clients, channels, importChannel: seeded.importChannel },
    ...{ viewers: seeded.viewers, servers, proxyUrl: proxy.url, tokens },
    random: createRandom(options.seed + 2),
  });
  run.defer(async () => {
    for (const { client } of members) client.close();
    await Promise.resolve();
  });
  return members;
}

/**
 * @param {BoundedRun} run
 * @param {ChaosSetup} setup
 * @param {number} durationMs
 * @returns {NemesisContext}
 */
function createContext(run, { postgres, seeded, servers, proxy, channels, tokens }, durationMs) {
  const { databaseUrl, importChannel, viewers } = seeded;
  return {
    ...{ postgres, databaseUrl, servers, proxy, channels, importChannel, viewers, tokens },
    ...{ revocations: [], imports: 0, unlogged: 0, durationMs, signal: run.signal },
  };
}

/**
 * Writes and injects faults for `durationMs`. Returns the figures of the surviving server after the warm-up.
 *
 * @param {BoundedRun} run
 * @param {ChaosSetup} setup
 * @param {{
 *   readonly context: NemesisContext,
 *   readonly faults: InjectedFault[],
 *   readonly members: readonly MixMember[],
 *   readonly startedAtMs: number,
 *   readonly durationMs: number,
 * }} of `faults` receives each fault when it is over
 */
async function runFaults(run, setup, { context, faults, members, startedAtMs, durationMs }) {
  const { options, plan, problems, seeded, survivor } = setup;
  const writing = new AbortController();
  const signal = AbortSignal.any([run.signal, writing.signal]);
  const background = [writeAll(options, seeded, signal), recoverPrepared(seeded.databaseUrl, signal)];
  const nemesis = new Nemesis(context, (kind, detail, tookMs) => {
    const endMs = Date.now();
    faults.push({ kind, detail, atMs: endMs - tookMs, endMs });
    const second = Math.round((endMs - tookMs - startedAtMs) / 1_000);
    if (options.verbose) console.error(`${String(second).padStart(5)} s  ${kind}: ${detail}`);
  });
  const ticker = setInterval(() => {
    const second = Math.round((Date.now() - startedAtMs) / 1_000);
    const text = `${second} of ${Math.round(durationMs / 1_000)} s, ${faults.length} of ${plan.length} faults, ${countDeliveries(members)} deliveries`;
    showProgress(`chaos ${text}`);
    if (!process.stderr.isTTY && second % progressIntervalS === 0) console.error(`chaos: ${text}`);
  }, 1_000);
  run.defer(async () => {
    clearInterval(ticker);
    await Promise.resolve();
  });
  const wait = async (/** @type {number} */ ms) => await delay(ms, undefined, { signal: run.signal });
  const warming = wait(Math.min(durationMs / 2, Math.max(durationMs / 5, shortestWarmUpMs))).then(
    async () => await survivor.figures(),
  );
  const injecting = plan.map(async (fault) => {
    await wait(fault.atMs);
    try {
      await nemesis.inject(fault);
    } catch (error) {
      problems.push(`"${fault.kind}" failed: ${error instanceof Error ? error.message : String(error)}`);
    }
  });
  const [warm] = await Promise.all([warming, wait(durationMs), ...injecting]);
  writing.abort();
  await Promise.all(background);
  clearInterval(ticker);
  return warm;
}

/**
 * Waits until every client has caught up, and compares the states.
 *
 * @param {ChaosSetup} setup
 * @param {readonly MixMember[]} members
 * @param {OpenedPage | null} page
 */
async function quiesce({ seeded, channels, problems }, members, page) {
  const { databaseUrl, importChannel } = seeded;
  const all = [...channels, importChannel];
  await commitPrepared(databaseUrl);
  for (const { client } of members) client.readAtFullSpeed?.();
  const stuck = await awaitSentinels(databaseUrl, all, members);
  const quiescedAtMs = Date.now();
  // A replay ends with the cancelled requests, which come after the first sentinel: wait for a second one.
  if (stuck.length === 0) stuck.push(...(await awaitSentinels(databaseUrl, all, members)));
  const different = await findStateDifferences(databaseUrl, all, members);
  if (page !== null) {
    problems.push(...page.client.violations.map((violation) => `the browser: ${violation}`));
    const expected = await readSwitches(databaseUrl, page.channel);
    if (!(await page.client.waitUntilShown(expected, pageLimitMs))) different.push("the browser's page");
  }
  return { quiescedAtMs, stuck, different };
}

/**
 * @param {BoundedRun} run
 * @param {ChaosOptions} options
 * @param {{ readonly databaseUrl: string, readonly secret: string, readonly problems: string[] }} of
 */
async function startServers(run, options, { databaseUrl, secret, problems }) {
  /** @type {ServerProcess[]} */
  const servers = [];
  for (let number = 1; number <= options.servers; number += 1) {
    const port = await unusedPort();
    const onProblem = (/** @type {string} */ problem) => void problems.push(problem);
    const server = new ServerProcess({ name: `server ${number}`, databaseUrl, secret, port, onProblem });
    run.defer(async () => await server.kill());
    await server.start();
    servers.push(server);
  }
  return servers;
}

/**
 * @param {ChaosOptions} options
 * @param {SeededDatabase} seeded
 * @param {AbortSignal} signal
 */
async function writeAll({ seed }, { databaseUrl, projects }, signal) {
  await Promise.all(
    Array.from({ length: writers.count }, async (_, index) => {
      const random = createRandom(seed + firstWriterSeed + index);
      await runWriters({
        ...{ databaseUrl, projects, signal, writers: 1, prepares: true },
        pauseMs: writers.pauseMs,
        chance: () => random.next(),
      });
    }),
  );
}

/**
 * @param {ChaosOptions} options
 * @param {string} text
 */
function report({ verbose }, text) {
  showProgress(`chaos ${text}`);
  if (verbose) console.error(`chaos: ${text}`);
}

/** @typedef {{ readonly client: PageClient, readonly channel: ChaosChannel }} OpenedPage */

/**
 * Opens the console in a browser. Null without a browser; the reason is in `skipped`.
 *
 * @param {BoundedRun} run
 * @param {ChaosSetup} setup
 * @returns {Promise<OpenedPage | null>}
 */
async function openPage(run, { options, seeded, proxy, tokens, skipped }) {
  if (!options.browser) {
    skipped.set('a browser', 'option --no-browser');
    return null;
  }
  const [channel] = seeded.projects[0] ?? [];
  if (channel === undefined) throw new Error('There are no channels');
  try {
    const token = await tokens.issue(seeded.root, options.minutes * 60_000 + pageTokenSpareMs);
    const client = await PageClient.open(proxy.url, channel, token);
    run.defer(async () => await client.close());
    return { client, channel };
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    skipped.set('a browser', `it did not start: ${message.split('\n')[0] ?? ''}`);
    return null;
  }
}

/**
 * Commits transactions that stayed prepared, as a transaction manager does.
 *
 * @param {string} databaseUrl
 * @param {AbortSignal} signal
 */
async function recoverPrepared(databaseUrl, signal) {
  while (!signal.aborted) {
    // Faults restart the database; the next round tries again.
    await commitPrepared(databaseUrl, recovery.olderThanMs).catch(() => undefined);
    await delay(recovery.intervalMs, undefined, { signal }).catch(() => undefined);
  }
}

/** @param {readonly MixMember[]} members */
function countDeliveries(members) {
  let deliveries = 0;
  for (const { client } of members) for (const { received } of client.segments) deliveries += received.length;
  return deliveries;
}

/**
 * @param {() => boolean} holds
 * @param {AbortSignal} signal
 */
async function until(holds, signal) {
  const endMs = performance.now() + connectLimitMs;
  while (!holds()) {
    if (performance.now() > endMs) {
      throw new Error(
        `Not every client connected within ${connectLimitMs / 1_000} s, before the first fault`,
      );
    }
    await delay(50, undefined, { signal });
  }
}

async function unusedPort() {
  for (;;) {
    const port = ports.first + Math.floor(Math.random() * ports.count);
    const probe = createServer();
    const isFree = Promise.race([
      once(probe, 'listening').then(() => true),
      new Promise((resolve) => probe.once('error', () => resolve(false))),
    ]);
    probe.listen(port, '127.0.0.1');
    if ((await isFree) !== true) continue;
    probe.close();
    await once(probe, 'close');
    return port;
  }
}
