import { setMaxListeners } from 'node:events';
import { setTimeout as delay } from 'node:timers/promises';
import type { BoundedRun } from '../testkit/bounded-run.ts';
import type { TestChannel } from '../testkit/channel.ts';
import type { RecordingClient } from '../testkit/clients/recording-client.ts';
import { pollUntil } from '../testkit/poll.ts';
import { withClient } from '../testkit/postgres.ts';
import { awaitSentinels, findStateDifferences } from '../testkit/quiesce.ts';
import { showProgress } from '../testkit/report.ts';
import { commitPrepared, runWriters } from '../testkit/writers.ts';
import { check, countDeliveries, type Report } from './checker.ts';
import { openClientMix, openPresence } from './client-mix.ts';
import type { ChaosSystem } from './fault.ts';
import { countUnlogged } from './host-changes.ts';
import { findLeaks } from './leaks.ts';
import { faultKinds, Nemesis, unsupportedFaults } from './nemesis.ts';
import type { ChaosOptions } from './options.ts';
import { PageClient, readSwitches } from './page-client.ts';
import { drawPlan, type PlannedFault } from './plan.ts';
import type { ServerFigures } from './server-program.ts';
import { feedsOf, randomOf, startSystem } from './setup.ts';
import type { InjectedFault } from './timeline.ts';

/** Sessions that write, and the average pause of each between two transactions, in milliseconds. */
const writers = { writers: 6, pauseMs: 500, prepares: true };
/** Every `intervalMs` the run commits prepared transactions that are older than `olderThanMs`. */
const recovery = { intervalMs: 3_000, olderThanMs: 12_000 };
/** Time limit for the first connection of all clients, in milliseconds. */
const connectLimitMs = 60_000;
/** Lower limit of the warm-up, in milliseconds. The warm-up is a fifth of the run and at most half of it. */
const shortestWarmUpMs = 60_000;
/** The console's token outlives the run by this, in milliseconds: a fault sets clocks ahead by up to two hours. */
const pageTokenSpareMs = 10_800_000;
/** Time limit for the views of all presence clients to be announced again and compared, in milliseconds. */
const presenceLimitMs = 90_000;
/** Time limit for the console to show the final state, in milliseconds. */
const pageLimitMs = 45_000;
/** Interval of the progress lines without a terminal, in seconds. */
const progressIntervalS = 30;

/** Runs the system under faults and checks the result. */
export async function runChaos(run: BoundedRun, options: ChaosOptions): Promise<Report> {
  const step = (text: string): void => {
    showProgress(`chaos ${text}`);
    if (options.verbose) console.error(`chaos: ${text}`);
  };
  // Each planned fault adds an abort listener.
  setMaxListeners(0, run.signal);
  const problems: string[] = [];
  const skipped = new Map(Object.entries(unsupportedFaults(options)));
  skipped.set("PostgreSQL's clock wrong", 'its processes use the clock of the system');
  const system = await startSystem(run, options, step, (problem) => void problems.push(problem));
  const { servers, databaseUrl } = system;
  const before = await servers[0].figures();

  step('connects the clients');
  const mix = { feeds: feedsOf(system), random: randomOf(options, 'clients') };
  const presence = openPresence(system, { ...mix, random: randomOf(options, 'presence') });
  const clients = [
    ...openClientMix(system, { ...mix, count: options.clients }),
    ...presence.flatMap((group) => group.clients),
  ];
  const closeClients = async (): Promise<void> => {
    for (const each of [...presence, ...clients]) each.close();
    await Promise.resolve();
  };
  run.defer(closeClients);
  const page = await openPage(run, options, system, skipped);
  const unconnected = (): RecordingClient[] =>
    clients.filter(({ segments, channels }) => segments.length < channels.length);
  if (!(await pollUntil(connectLimitMs, () => unconnected().length === 0, run))) {
    const names = unconnected().map(({ name, lastEntry }) => `${name} (${lastEntry})`);
    throw new Error(
      `Before the first fault, these clients did not connect within ${connectLimitMs / 1_000} s: ${names.join(', ')}`,
    );
  }

  const kinds = faultKinds.filter((kind) => !skipped.has(kind));
  const plan = drawPlan(randomOf(options, 'plan'), kinds, system.durationMs);
  const startedAtMs = Date.now();
  const faults: InjectedFault[] = [];
  const warm = await runFaults(run, options, system, { plan, faults, problems, clients });

  step('waits for the clients to catch up after the last fault');
  await commitPrepared(databaseUrl);
  for (const client of clients) client.readAtFullSpeed?.();
  for (const group of presence) group.hold();
  const stuck = await awaitSentinels(databaseUrl, clients);
  const quiescedAtMs = Date.now();
  // A replay ends with the cancelled requests, which come after the first sentinel: wait for a second one.
  if (stuck.length === 0) stuck.push(...(await awaitSentinels(databaseUrl, clients)));
  const different = await findStateDifferences(databaseUrl, clients);
  const uncompared = (): readonly string[] => presence.flatMap((group) => group.uncompared);
  if (!(await pollUntil(presenceLimitMs, () => uncompared().length === 0))) {
    problems.push(`presence did not come to rest after the last fault: ${uncompared().join(', ')}`);
  }
  if (page !== null) {
    problems.push(...page.client.violations.map((violation) => `the browser: ${violation}`));
    const expected = await readSwitches(databaseUrl, page.channel);
    if (!(await page.client.waitUntilShown(expected, pageLimitMs))) different.push("the browser's page");
  }
  system.unlogged += await withClient(databaseUrl, countUnlogged);
  const end = await servers[0].figures();

  step('closes the clients');
  await closeClients();
  await page?.client.close();
  const leaks = [];
  for (const server of servers) leaks.push({ server: server.name, ...(await findLeaks(server, before)) });
  return await check({
    ...{ options, system, clients, presence, startedAtMs, quiescedAtMs, stuck, different },
    ...{ faults, skipped, problems, leaks, warm, end, browser: page !== null },
  });
}

/**
 * Writes and injects faults until the end of the run's duration; `faults` receives each fault when it is over. Returns the
 * figures of the first server after the warm-up.
 */
async function runFaults(
  run: BoundedRun,
  options: ChaosOptions,
  system: ChaosSystem,
  {
    plan,
    faults,
    problems,
    clients,
  }: {
    readonly plan: readonly PlannedFault[];
    readonly faults: InjectedFault[];
    readonly problems: string[];
    readonly clients: readonly RecordingClient[];
  },
): Promise<ServerFigures> {
  const { databaseUrl, projects, durationMs } = system;
  const startedAtMs = Date.now();
  const secondOf = (atMs: number): number => Math.round((atMs - startedAtMs) / 1_000);
  const writing = new AbortController();
  const signal = AbortSignal.any([run.signal, writing.signal]);
  const background = [
    runWriters({ ...writers, databaseUrl, projects, signal, seed: options.seed }),
    recoverPrepared(databaseUrl, signal),
  ];
  const nemesis = new Nemesis(system, (kind, detail, tookMs) => {
    const endMs = Date.now();
    const atMs = endMs - tookMs;
    faults.push({ kind, detail, atMs, endMs });
    if (options.verbose) console.error(`${String(secondOf(atMs)).padStart(5)} s  ${kind}: ${detail}`);
  });
  const ticker = setInterval(() => {
    const second = secondOf(Date.now());
    const text = `${second} of ${Math.round(durationMs / 1_000)} s, ${faults.length} of ${plan.length} faults, ${countDeliveries(clients)} deliveries`;
    showProgress(`chaos ${text}`);
    if (!process.stderr.isTTY && second % progressIntervalS === 0) console.error(`chaos: ${text}`);
  }, 1_000);
  signal.addEventListener('abort', () => clearInterval(ticker));
  const wait = async (ms: number): Promise<void> => await delay(ms, undefined, { signal: run.signal });
  const warming = wait(Math.min(durationMs / 2, Math.max(durationMs / 5, shortestWarmUpMs))).then(
    async () => await system.servers[0].figures(),
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
  return warm;
}

/** Opens the console in a browser. Null without a browser; then `skipped` gets the reason. */
async function openPage(
  run: BoundedRun,
  options: ChaosOptions,
  { channels: [channel], tokens, root, proxy, durationMs }: ChaosSystem,
  skipped: Map<string, string>,
): Promise<{ readonly client: PageClient; readonly channel: TestChannel } | null> {
  if (!options.browser || channel === undefined) {
    skipped.set('a browser', 'option --no-browser');
    return null;
  }
  try {
    const client = await PageClient.open(
      proxy.url,
      channel,
      await tokens.issue(root, durationMs + pageTokenSpareMs),
    );
    run.defer(async () => await client.close());
    return { client, channel };
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    skipped.set('a browser', `it did not start: ${message.split('\n')[0] ?? ''}`);
    return null;
  }
}

/** Commits transactions that stayed prepared, as a transaction manager does. */
async function recoverPrepared(databaseUrl: string, signal: AbortSignal): Promise<void> {
  while (!signal.aborted) {
    // Faults restart the database; the next round tries again.
    await commitPrepared(databaseUrl, recovery.olderThanMs).catch(() => undefined);
    await delay(recovery.intervalMs, undefined, { signal }).catch(() => undefined);
  }
}
