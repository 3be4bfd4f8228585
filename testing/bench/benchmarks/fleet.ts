import { randomUUID } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import type pg from 'pg';
import { LibraryClient } from '../../testkit/clients/library-client.ts';
import { readHistory } from '../../testkit/history.ts';
import { connect, withClient } from '../../testkit/postgres.ts';
import { awaitSentinels, findStateDifferences } from '../../testkit/quiesce.ts';
import { atMost, type Bound } from '../../testkit/report.ts';
import { seedDatabase } from '../../testkit/seed-database.ts';
import { checkSegment } from '../../testkit/segment-checker.ts';
import { type ServeProcess, startServe } from '../../testkit/serve-process.ts';
import { signToken } from '../../testkit/tokens.ts';
import { commitPrepared, runWriters } from '../../testkit/writers.ts';
import { type Bench, benchmark } from '../benchmark.ts';
import { costOf } from '../fleet-costs.ts';
import { spread } from '../rounds.ts';
import { injectFaults, roleOf } from './fleet-faults.ts';
import { Nats } from './nats.ts';

const serverCounts = [1, 2, 4, 8];
/** Average pause of a writer between two transactions, in milliseconds, so that the machine is not saturated. */
const writerPauseMs = 150;
/** The database role of the servers, so that their queries can be counted separately. */
const role = 'fleet';
/** Limit of the queries of 8 servers relative to one. */
const queriesBound = 1.2;
/** Limit of the relative difference of the formula. */
const formulaBound = 0.25;
/** Limit of a takeover, in seconds: from the kill of the leader to the delivery of a later commit by another server. */
const takeoverBound = 3;
/** Time limit for each server to get its role, in milliseconds. */
const roleLimitMs = 30_000;
const warmUpMs = 2_000;
const tokenTtlMs = 10_800_000;

const settings = {
  shared_preload_libraries: 'pg_stat_statements',
  track_commit_timestamp: 'on',
  max_prepared_transactions: '50',
  max_connections: '200',
};

export const fleet = benchmark({
  summary: '1, 2, 4 and 8 servers with and without the relay: their load; needs nats-server (8 minutes)',
  isLong: true,
  options: { clients: 32, writers: 8, seconds: 30 },
  settings,
  measure: async (bench, options) => {
    const cases = serverCounts.flatMap((servers) =>
      [false, true].map((relay) => ({ ...options, servers, relay, faults: false })),
    );
    const measured = await measureCases(bench, cases);
    const queriesOf = (servers: number) =>
      measured.find((each) => each.relay && each.servers === servers)?.queries ?? NaN;
    const differences = measured.map(({ queries, formula }) => Math.abs(formula.queries / queries - 1));
    return {
      title: `${options.writers} writers, ${options.clients} clients with 3 channels each, ${options.seconds} s a case; per second`,
      tables: [{ rows: measured.map(rowOf) }],
      bounds: [
        atMost('queries of 8 servers with the relay over one', queriesOf(8) / queriesOf(1), queriesBound),
        atMost('queries: difference of the formula', Math.max(...differences), formulaBound, ''),
        ...boundsOfClients(measured),
      ],
    };
  },
});

export const fleetFaults = benchmark({
  summary: '8 servers with the relay: kills of the leader, outages of NATS; needs nats-server (5 minutes)',
  isLong: true,
  options: { clients: 32, writers: 8, seconds: 240 },
  settings,
  measure: async (bench, options) => {
    const measured = await measureCases(bench, [{ ...options, servers: 8, relay: true, faults: true }]);
    const takeovers = spread(measured.flatMap((each) => each.takeovers));
    return {
      title: `8 servers, ${options.writers} writers, ${options.clients} clients with 3 channels each, ${options.seconds} s with faults`,
      tables: [{ rows: measured.map(({ counts }) => ({ ...counts, 'takeover, s': takeovers })) }],
      bounds: [atMost('slowest takeover', takeovers.high, takeoverBound, ' s'), ...boundsOfClients(measured)],
    };
  },
});

async function measureCases(bench: Bench, cases: readonly Case[]): Promise<readonly Measured[]> {
  const nats = await Nats.start(bench.run);
  const seeded = await seedDatabase(bench.postgres);
  const admin = await connect(bench.run, seeded.databaseUrl, 'bench admin');
  await admin.query('CREATE EXTENSION pg_stat_statements');
  await admin.query(`CREATE ROLE ${role} LOGIN SUPERUSER PASSWORD '${role}'`);
  const measured: Measured[] = [];
  for (const each of cases) {
    bench.step(`${each.servers} servers ${each.relay ? 'with' : 'without'} the relay`);
    measured.push(await measure(bench, { admin, seeded, nats }, each));
  }
  return measured;
}

/** What must not happen. */
const wrongs = [
  'lost',
  'repeated',
  'foreign',
  'invented',
  'different states',
  'clients without the last event',
] as const;

type Measured = Awaited<ReturnType<typeof measure>>;

const sum = (values: readonly number[]) => values.reduce((total, value) => total + value, 0);

const rowOf = ({ servers, relay, formula, ...each }: Measured) => ({
  servers,
  relay: relay ? 'yes' : 'no',
  events: each.events,
  reads: each.reads,
  queries: each.queries,
  'by formula': formula.queries,
  'NATS messages': each.messages,
  'by the formula': formula.messages,
  'NATS kB': each.kilobytes,
  lost: each.lost,
  resyncs: each.resyncs,
});

const boundsOfClients = (measured: readonly Measured[]): Bound[] =>
  wrongs.map((wrong) => atMost(wrong, sum(measured.map((each) => each[wrong])), 0, ''));

interface Resources {
  readonly admin: pg.Client;
  readonly seeded: Awaited<ReturnType<typeof seedDatabase>>;
  readonly nats: Nats;
}

interface Case {
  readonly servers: number;
  readonly relay: boolean;
  readonly seconds: number;
  readonly clients: number;
  readonly writers: number;
  readonly faults: boolean;
}

async function measure({ run }: Bench, { admin, seeded, nats }: Resources, options: Case) {
  const { relay, seconds, faults, writers } = options;
  const { databaseUrl, projects } = seeded;
  const secret = randomUUID();
  const url = new URL(databaseUrl);
  url.username = role;
  url.password = role;
  const relayed: Readonly<Record<string, string>> = relay ? { FLAGCAST_RELAY_URL: nats.url } : {};
  const env = { DATABASE_URL: url.href, FLAGCAST_JWT_SECRET: secret, ...relayed };
  const start = async (port?: number) => await startServe(run, { env, port });
  const servers = await Promise.all(Array.from({ length: options.servers }, async () => await start()));
  if (relay) await awaitRoles(servers);
  const clients = openClients(servers, seeded, secret, options.clients);
  run.defer(async () => {
    for (const client of clients) client.close();
    await Promise.resolve();
  });
  const channels = projects.flat();
  await awaitSentinels(databaseUrl, channels, clients);

  const ending = new AbortController();
  const signal = AbortSignal.any([ending.signal, run.signal]);
  const writing = runWriters({
    databaseUrl,
    projects,
    writers,
    signal,
    pauseMs: writerPauseMs,
    prepares: true,
  });
  await delay(warmUpMs, undefined, { signal: run.signal });
  await admin.query('SELECT pg_stat_statements_reset()');
  const before = { events: await countEvents(admin), nats: await nats.figures(), ms: performance.now() };
  const injecting = { servers, restart: start, nats, durationMs: seconds * 1_000, signal: run.signal };
  const nextDelivery = async (except: string, afterMs: number) =>
    await awaitDelivery(clients, except, afterMs);
  const injected = faults
    ? await injectFaults({ ...injecting, nextDelivery })
    : { counts: {}, takeovers: [] };
  if (!faults) await delay(seconds * 1_000, undefined, { signal: run.signal });
  const tookSeconds = (performance.now() - before.ms) / 1_000;
  const counted = await countQueries(admin);
  const events = ((await countEvents(admin)) - before.events) / tookSeconds;
  const natsAfter = await nats.figures();
  ending.abort();
  await writing;

  await commitPrepared(databaseUrl);
  const stuck = await awaitSentinels(databaseUrl, channels, clients);
  const different = await findStateDifferences(databaseUrl, channels, clients);
  for (const difference of different) console.error(difference);
  const history = await withClient(databaseUrl, readHistory);
  const anomalies = clients.flatMap(({ segments }) =>
    segments.flatMap((segment) => checkSegment(segment, history, [])),
  );
  const count = (kind: string) => anomalies.filter((anomaly) => anomaly.kind === kind).length;
  for (const client of clients) client.close();
  await Promise.all(servers.map(async (server) => await server.end()));
  return {
    servers: options.servers,
    relay,
    events,
    queries: counted.all / tookSeconds,
    reads: counted.reads / tookSeconds,
    // A restart of NATS resets its counters.
    messages: (natsAfter.messages - before.nats.messages) / tookSeconds,
    kilobytes: (natsAfter.bytes - before.nats.bytes) / tookSeconds / 1_000,
    formula: costOf({ servers: options.servers, relay, events, connections: 0, channelSize: 0 }),
    lost: count('lost'),
    repeated: count('repeated'),
    foreign: count('foreign'),
    invented: count('invented'),
    'different states': different.length,
    'clients without the last event': stuck.length,
    resyncs: sum(clients.map(({ resyncs }) => resyncs)),
    ...injected,
  };
}

function openClients(
  servers: readonly ServeProcess[],
  { projects, root }: Resources['seeded'],
  secret: string,
  count: number,
) {
  const channels = projects.flat();
  const token = signToken({ secret, userId: root.id, username: root.username, ttlMs: tokenTtlMs });
  return Array.from({ length: count }, (_, index) => {
    const subscribed = [0, 2, 3].flatMap((step) => channels[(index + step) % channels.length] ?? []);
    const options = {
      kind: 'library, WebSocket',
      index,
      baseUrl: servers[index % servers.length]?.url ?? '',
      userId: root.id,
      getToken: async () => await Promise.resolve(token),
      chance: Math.random,
    };
    return new LibraryClient(options, subscribed, false);
  });
}

/** Resolves with the time when a client of another server than `except` receives an event committed after `afterMs`. */
async function awaitDelivery(
  clients: readonly LibraryClient[],
  except: string,
  afterMs: number,
): Promise<number> {
  return await new Promise((resolve) => {
    for (const client of clients.filter(({ options }) => options.baseUrl !== except)) {
      client.onEvent = ({ committed_at: committedAt }) => {
        // PostgreSQL uses the same clock as this process.
        if (committedAt !== null && Date.parse(committedAt) > afterMs) resolve(Date.now());
      };
    }
  });
}

/** Waits until one server leads and the others follow. */
async function awaitRoles(servers: readonly ServeProcess[]): Promise<void> {
  const endMs = performance.now() + roleLimitMs;
  for (;;) {
    const roles = await Promise.all(servers.map(roleOf));
    if (roles.filter((each) => each === 'leading').length === 1 && !roles.includes('direct')) return;
    if (performance.now() > endMs) throw new Error('The servers did not elect a leader');
    await delay(100);
  }
}

async function countEvents(admin: pg.Client): Promise<number> {
  const { rows } = await admin.query<{ count: number }>(
    'SELECT count(*)::integer AS count FROM flagcast.v_realtime_events',
  );
  return rows[0]?.count ?? 0;
}

/** Counts the queries of the servers since the reset: all of them, and the reads of the event log. */
async function countQueries(admin: pg.Client) {
  const { rows } = await admin.query<{ all: number; reads: number }>(
    `SELECT coalesce(sum(calls), 0)::integer AS all,
       coalesce(sum(calls) FILTER (WHERE query LIKE '%SELECT $1) AS always%' OR query LIKE '%(SELECT 1) AS always%'), 0)::integer AS reads
     FROM pg_stat_statements s JOIN pg_roles r ON r.oid = s.userid WHERE r.rolname = $1`,
    [role],
  );
  return rows[0] ?? { all: 0, reads: 0 };
}
