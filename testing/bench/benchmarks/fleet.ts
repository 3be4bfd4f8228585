import { randomUUID } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import type pg from 'pg';
import { LibraryClient } from '../../testkit/clients/library-client.ts';
import { readHistory } from '../../testkit/history.ts';
import { pollUntil } from '../../testkit/poll.ts';
import { connect, withClient } from '../../testkit/postgres.ts';
import { awaitSentinels, findStateDifferences } from '../../testkit/quiesce.ts';
import { startNats, type TestNats } from '../../testkit/nats-server.ts';
import { atMost, none } from '../../testkit/report.ts';
import { type SeededDatabase, seedDatabase } from '../../testkit/seed-database.ts';
import { checkSegment } from '../../testkit/segment-checker.ts';
import { type ServeProcess, startServe } from '../../testkit/serve-process.ts';
import { signToken } from '../../testkit/tokens.ts';
import { commitPrepared, runWriters } from '../../testkit/writers.ts';
import { type Bench, benchmark } from '../benchmark.ts';
import { costOf } from '../fleet-costs.ts';

const serverCounts = [1, 2, 4, 8];
/** Average pause of a writer between two transactions, in milliseconds, so that the machine is not saturated. */
const writerPauseMs = 150;
/** The database role of the servers, so that their queries can be counted separately. */
const role = 'fleet';
/** Limit of the queries of 8 servers relative to one. */
const queriesBound = 1.2;
/** Limit of the relative difference of the formula. */
const formulaBound = 0.25;
/** Time limit for each server to get its role, in milliseconds. */
const roleLimitMs = 30_000;
const warmUpMs = 2_000;
const tokenTtlMs = 10_800_000;

interface Case {
  readonly servers: number;
  readonly relay: boolean;
  readonly seconds: number;
  readonly clients: number;
  readonly writers: number;
}

const sum = (values: readonly number[]) => values.reduce((total, value) => total + value, 0);

export const fleet = benchmark({
  summary: '1, 2, 4 and 8 servers with and without the relay: their load; needs nats-server (8 minutes)',
  isLong: true,
  options: { clients: 32, writers: 8, seconds: 30 },
  settings: {
    shared_preload_libraries: 'pg_stat_statements',
    track_commit_timestamp: 'on',
    max_prepared_transactions: '50',
    max_connections: '200',
  },
  measure: async (bench, options) => {
    const nats = await startNats();
    bench.run.defer(async () => await nats.remove());
    const seeded = await seedDatabase(bench.postgres);
    const admin = await connect(bench.run, seeded.databaseUrl, 'bench admin');
    await admin.query('CREATE EXTENSION pg_stat_statements');
    await admin.query(`CREATE ROLE ${role} LOGIN SUPERUSER PASSWORD '${role}'`);
    const measured: Awaited<ReturnType<typeof measure>>[] = [];
    for (const each of serverCounts.flatMap((servers) =>
      [false, true].map((relay) => ({ servers, relay })),
    )) {
      bench.step(`${each.servers} servers ${each.relay ? 'with' : 'without'} the relay`);
      measured.push(await measure(bench, admin, seeded, nats, { ...options, ...each }));
    }
    const queriesOf = (servers: number) =>
      measured.find(({ row }) => row.relay === 'yes' && row.servers === servers)?.row.queries ?? NaN;
    const differences = measured.map(({ row }) => Math.abs(row['by formula'] / row.queries - 1));
    return {
      title: `${options.writers} writers, ${options.clients} clients with 3 channels each, ${options.seconds} s a case; per second`,
      tables: [{ rows: measured.map(({ row }) => row) }],
      bounds: [
        atMost('queries of 8 servers with the relay over one', queriesOf(8) / queriesOf(1), queriesBound),
        atMost('queries: difference of the formula', Math.max(...differences), formulaBound, ''),
        none('wrong events', sum(measured.map(({ wrongEvents }) => wrongEvents))),
        none(
          'states that differ from the database',
          sum(measured.map(({ differentStates }) => differentStates)),
        ),
        none('clients without the last event', sum(measured.map(({ stuck }) => stuck))),
      ],
    };
  },
});

async function measure(
  { run }: Bench,
  admin: pg.Client,
  seeded: SeededDatabase,
  nats: TestNats,
  options: Case,
) {
  const { relay, seconds, writers } = options;
  const { databaseUrl, projects } = seeded;
  const url = new URL(databaseUrl);
  url.username = role;
  url.password = role;
  const secret = randomUUID();
  const relayed: Readonly<Record<string, string>> = relay ? { FLAGCAST_RELAY_URL: nats.url } : {};
  const env = { DATABASE_URL: url.href, FLAGCAST_JWT_SECRET: secret, ...relayed };
  const starting = Array.from({ length: options.servers }, async () => await startServe(run, { env }));
  const servers = await Promise.all(starting);
  if (relay) await awaitRoles(servers);
  const clients = openClients(servers, seeded, secret, options.clients);
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
  const before = { ...(await count(admin)), messages: await nats.messages() };
  const startedAtMs = performance.now();
  await delay(seconds * 1_000, undefined, { signal: run.signal });
  const perSecond = (value: number) => (value * 1_000) / (performance.now() - startedAtMs);
  const { queries, events } = await count(admin);
  const committed = perSecond(events - before.events);
  const formula = costOf({
    servers: servers.length,
    relay,
    events: committed,
    connections: 0,
    channelSize: 0,
  });
  const row = {
    servers: servers.length,
    relay: relay ? 'yes' : 'no',
    events: committed,
    queries: perSecond(queries),
    'by formula': formula.queries,
    'NATS messages': perSecond((await nats.messages()) - before.messages),
    'by the formula': formula.messages,
  };
  ending.abort();
  await writing;
  await commitPrepared(databaseUrl);
  const stuck = await awaitSentinels(databaseUrl, channels, clients);
  const different = await findStateDifferences(databaseUrl, channels, clients);
  const history = await withClient(databaseUrl, readHistory);
  const segments = clients.flatMap((client) => client.segments);
  // Lost, repeated, foreign and invented events.
  const anomalies = segments.flatMap((segment) => checkSegment(segment, history, []));
  for (const problem of [...different, ...anomalies]) console.error(problem);
  for (const client of clients) client.close();
  await Promise.all(servers.map(async (server) => await server.end()));
  return { row, wrongEvents: anomalies.length, differentStates: different.length, stuck: stuck.length };
}

function openClients(
  servers: readonly ServeProcess[],
  { projects, root }: SeededDatabase,
  secret: string,
  length: number,
) {
  const channels = projects.flat();
  const token = signToken({ secret, userId: root.id, username: root.username, ttlMs: tokenTtlMs });
  return Array.from({ length }, (_, index) => {
    const subscribed = [0, 2, 3].flatMap((step) => channels[(index + step) % channels.length] ?? []);
    const options = {
      ...{ kind: 'library', index },
      baseUrl: servers[index % servers.length]?.url ?? '',
      userId: root.id,
      getToken: async () => await Promise.resolve(token),
      chance: Math.random,
    };
    return new LibraryClient(options, subscribed, false);
  });
}

/** The role of a server in the relay; null without a relay, and while it does not answer. */
async function roleOf({ url }: ServeProcess): Promise<string | null> {
  try {
    const response = await fetch(`${url}/metrics`, { headers: { Connection: 'close' } });
    return /^flagcast_relay_role\{role="(\w+)"\} 1$/m.exec(await response.text())?.[1] ?? null;
  } catch {
    return null;
  }
}

/** Waits until one server leads and the others follow. */
async function awaitRoles(servers: readonly ServeProcess[]): Promise<void> {
  const isElected = async () => {
    const roles = await Promise.all(servers.map(roleOf));
    return roles.filter((each) => each === 'leading').length === 1 && !roles.includes('direct');
  };
  if (!(await pollUntil(roleLimitMs, isElected))) throw new Error('The servers did not elect a leader');
}

/** Counts the queries of the servers since the reset, and all events. */
async function count(admin: pg.Client) {
  const { rows } = await admin.query<{ queries: number; events: number }>(
    `SELECT coalesce(sum(calls), 0)::integer AS queries,
       (SELECT count(*)::integer FROM flagcast.v_realtime_events) AS events
     FROM pg_stat_statements s JOIN pg_roles r ON r.oid = s.userid WHERE r.rolname = $1`,
    [role],
  );
  return rows[0] ?? { queries: 0, events: 0 };
}
