import { randomBytes } from 'node:crypto';
import { createServer } from 'node:net';
import { once, setMaxListeners } from 'node:events';
import { setTimeout as delay } from 'node:timers/promises';
import { clearProgress, showProgress } from '../bench/results.js';
import { startTemporaryPostgres } from '../bench/temporary-postgres.js';
import { createRandom } from '../packages/demo/dist/company/random.js';
import { PageClient } from './clients/page-client.js';
import { commitPrepared, createCompany, withClient } from './company.js';
import { Fate, faultKinds, leftOutHere } from './faults.js';
import { FaultyProxy } from './faulty-proxy.js';
import { countUnlogged } from './host-changes.js';
import { growthOf, whatIsLeft } from './leaks.js';
import { drawPlan } from './plan.js';
import { openClients } from './population.js';
import { ServerProcess } from './server-process.js';
import { switchesOf, tellAll, whoDiffers } from './settle.js';
import { Tokens } from './tokens.js';
import { judge } from './verdicts.js';
import { runWriters } from './writers.js';

/** @import { BoundedRun } from '../bench/bounded-run.js' */
/** @import { Company } from './company.js' */
/** @import { World } from './faults.js' */
/** @import { ChaosOptions } from './options.js' */
/** @import { Member } from './population.js' */
/** @import { InflictedFault } from './timeline.js' */
/** @import { Report } from './verdicts.js' */

/** Sessions that write, and how long each rests between two transactions on average, in milliseconds. */
const writers = { count: 6, pauseMs: 500 };
/** The first two after the run's own are the proxy's and the clients'. */
const firstWriterSeed = 3;
/** Between two looks for transactions that stayed prepared, and how old those are that are ended, in milliseconds. */
const recovery = { intervalMs: 3_000, olderThanMs: 12_000 };
/** How long clients may take to be connected at the beginning, in milliseconds. */
const arriveLimitMs = 60_000;
/** The first minute warms up, in short runs half of the run, in long ones a fifth. In milliseconds. */
const shortestWarmUpMs = 60_000;
/** How much longer than the run the console's token lasts, in milliseconds: clocks are set ahead by up to two hours. */
const pageTokenSpareMs = 10_800_000;
/** How long the console may take to show the last state, in milliseconds. */
const pageLimitMs = 45_000;
/** Where there is no terminal it is told so often how far the run is, in seconds. */
const tellIntervalS = 30;
/** Below the ports that connections are given: no client takes the one of a server that is being replaced. */
const ports = { first: 20_000, count: 12_000 };

/**
 * One run, from its PostgreSQL to its verdicts.
 *
 * @param {BoundedRun} run
 * @param {ChaosOptions} options
 * @returns {Promise<Report>}
 */
export async function runChaos(run, options) {
  const durationMs = options.minutes * 60_000;
  // Each fault that is still to come listens to it.
  setMaxListeners(0, run.signal);
  const random = createRandom(options.seed);
  /** @type {string[]} */
  const problems = [];
  const leftOut = new Map(Object.entries(leftOutHere()));
  leftOut.set("PostgreSQL's clock wrong", 'it has no clock of its own to set');
  const plan = drawPlan(
    random,
    faultKinds.filter((kind) => !leftOut.has(kind)),
    durationMs,
  );
  tell(options, 'starts PostgreSQL');
  const postgres = await startTemporaryPostgres(run, {
    fsync: 'off',
    track_commit_timestamp: 'on',
    max_prepared_transactions: '50',
  });
  const company = await createCompany(postgres);
  const { databaseUrl, serverUrl, projects, importChannel, viewers } = company;
  const written = projects.flat();
  const channels = [...written, importChannel];
  let unlogged = 0;
  const secret = randomBytes(32).toString('base64');
  const tokens = new Tokens(secret, () => random.next());

  tell(options, 'starts the servers');
  const servers = await startServers(run, options, { databaseUrl: serverUrl, secret, problems });
  const [lasting] = servers;
  if (lasting === undefined) throw new Error('A run needs servers');
  const proxyRandom = createRandom(options.seed + 1);
  const proxy = await FaultyProxy.open(
    servers.map(({ port }) => port),
    () => proxyRandom.next(),
  );
  run.defer(async () => await proxy.close());
  const before = await lasting.figures();

  tell(options, 'lets the clients in');
  const of = {
    ...{ count: options.clients, channels: written, importChannel },
    ...{ viewers, servers, proxyUrl: proxy.url, tokens },
  };
  const members = openClients({ ...of, random: createRandom(options.seed + 2) });
  const everybodyLeaves = () => {
    for (const { client } of members) client.leave();
  };
  run.defer(async () => {
    everybodyLeaves();
    await Promise.resolve();
  });
  const page = await openPage(run, options, company, proxy, tokens, leftOut);
  await until(
    () => members.every(({ client }) => client.segments.length >= client.channels.length),
    run.signal,
  );

  const startedAtMs = Date.now();
  const over = new AbortController();
  const signal = AbortSignal.any([run.signal, over.signal]);
  const writing = writeAll(options, company, signal);
  const recovering = recoverPrepared(databaseUrl, signal);
  /** @type {InflictedFault[]} */
  const faults = [];
  /** @type {World} */
  const world = {
    ...{ postgres, databaseUrl, servers, proxy, channels: written, importChannel, viewers, tokens },
    ...{ revocations: [], imports: 0, durationMs, signal: run.signal },
    onUnlogged: (rows) => {
      unlogged += rows;
    },
  };
  const fate = new Fate(world, (kind, what, tookMs) => {
    const endMs = Date.now();
    faults.push({ kind, what, atMs: endMs - tookMs, endMs });
    const second = Math.round((endMs - tookMs - startedAtMs) / 1_000);
    if (options.verbose) console.error(`${String(second).padStart(5)} s  ${kind}: ${what}`);
  });
  const warming = delay(Math.min(durationMs / 2, Math.max(durationMs / 5, shortestWarmUpMs)), undefined, {
    signal: run.signal,
  }).then(async () => await lasting.figures());
  const ticker = setInterval(() => {
    const second = Math.round((Date.now() - startedAtMs) / 1_000);
    const text = `${second} of ${Math.round(durationMs / 1_000)} s, ${faults.length} of ${plan.length} faults, ${deliveriesOf(members)} deliveries`;
    showProgress(`chaos ${text}`);
    if (!process.stderr.isTTY && second % tellIntervalS === 0) console.error(`chaos: ${text}`);
  }, 1_000);
  run.defer(async () => {
    clearInterval(ticker);
    await Promise.resolve();
  });
  const inflicting = Promise.all(
    plan.map(async (fault) => {
      await delay(fault.atMs, undefined, { signal: run.signal });
      try {
        await fate.inflict(fault);
      } catch (error) {
        problems.push(
          `"${fault.kind}" did not end well: ${error instanceof Error ? error.message : String(error)}`,
        );
      }
    }),
  );
  const [warm] = await Promise.all([
    warming,
    inflicting,
    delay(durationMs, undefined, { signal: run.signal }),
  ]);
  over.abort();
  await Promise.all([writing, recovering]);
  clearInterval(ticker);

  tell(options, 'all faults are over: the clients catch up');
  await commitPrepared(databaseUrl);
  for (const { client } of members) client.hurry?.();
  const stuck = await tellAll(databaseUrl, channels, members);
  const settledMs = Date.now();
  // Of what was missed, cancellations come last, after that first mark.
  if (stuck.length === 0) stuck.push(...(await tellAll(databaseUrl, channels, members)));
  const different = await whoDiffers(databaseUrl, channels, members);
  unlogged += await withClient(databaseUrl, countUnlogged);
  if (page !== null) {
    problems.push(...page.client.wrongs.map((wrong) => `the browser: ${wrong}`));
    const expected = await switchesOf(databaseUrl, page.channel);
    if (!(await page.client.shows(expected, pageLimitMs))) different.push("the browser's page");
  }
  const end = await lasting.figures();
  tell(options, 'the clients leave');
  everybodyLeaves();
  await page?.client.close();
  const left = [];
  for (const server of servers) left.push({ server: server.name, ...(await whatIsLeft(server, before)) });
  clearProgress();
  return await judge({
    options,
    databaseUrl,
    members,
    servers,
    ...{ startedAtMs, settledMs },
    ...{ faults, leftOut, problems, stuck, different, left, unlogged },
    revocations: world.revocations,
    browser: page !== null,
    memory: { warm, end, growth: growthOf(warm, end, durationMs) },
  });
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
 * @param {Company} company
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
function tell({ verbose }, text) {
  showProgress(`chaos ${text}`);
  if (verbose) console.error(`chaos: ${text}`);
}

/**
 * @param {BoundedRun} run
 * @param {ChaosOptions} options
 * @param {Company} company
 * @param {FaultyProxy} proxy
 * @param {Tokens} tokens
 * @param {Map<string, string>} leftOut
 */
async function openPage(run, { browser, minutes }, { projects, root }, proxy, tokens, leftOut) {
  if (!browser) {
    leftOut.set('a browser', 'told by --no-browser');
    return null;
  }
  const [channel] = projects[0] ?? [];
  if (channel === undefined) throw new Error('There are no channels');
  try {
    // A clock that is ahead must not end it: the console would ask somebody to sign in.
    const token = await tokens.issue(root, minutes * 60_000 + pageTokenSpareMs);
    const client = await PageClient.open(proxy.url, channel, token);
    run.defer(async () => await client.close());
    return { client, channel };
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    leftOut.set('a browser', `it did not start: ${message.split('\n')[0] ?? ''}`);
    return null;
  }
}

/**
 * @param {string} databaseUrl
 * @param {AbortSignal} signal
 */
async function recoverPrepared(databaseUrl, signal) {
  while (!signal.aborted) {
    // While the database is down there is nobody to ask.
    await commitPrepared(databaseUrl, recovery.olderThanMs).catch(() => undefined);
    await delay(recovery.intervalMs, undefined, { signal }).catch(() => undefined);
  }
}

/** @param {readonly Member[]} members */
function deliveriesOf(members) {
  let deliveries = 0;
  for (const { client } of members) for (const { received } of client.segments) deliveries += received.length;
  return deliveries;
}

/**
 * @param {() => boolean} holds
 * @param {AbortSignal} signal
 */
async function until(holds, signal) {
  const endMs = performance.now() + arriveLimitMs;
  while (!holds()) {
    if (performance.now() > endMs) throw new Error('The clients were not all let in, before any fault');
    await delay(50, undefined, { signal });
  }
}

async function unusedPort() {
  for (;;) {
    const port = ports.first + Math.floor(Math.random() * ports.count);
    const probe = createServer();
    const answer = Promise.race([
      once(probe, 'listening').then(() => true),
      new Promise((resolve) => probe.once('error', () => resolve(false))),
    ]);
    probe.listen(port, '127.0.0.1');
    if ((await answer) !== true) continue;
    probe.close();
    await once(probe, 'close');
    return port;
  }
}
