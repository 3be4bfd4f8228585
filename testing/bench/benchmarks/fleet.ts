import { randomUUID } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import type pg from 'pg';
import { V1Client } from '../../testkit/clients/v1-client.ts';
import type { TestChannel } from '../../testkit/channel.ts';
import { startNats, type TestNats } from '../../testkit/nats-server.ts';
import { pollUntil } from '../../testkit/poll.ts';
import { connect } from '../../testkit/postgres.ts';
import { atMost } from '../../testkit/report.ts';
import { type SeededDatabase, seedDatabase, serverRole } from '../../testkit/seed-database.ts';
import { type ServeProcess, startServe } from '../../testkit/serve-process.ts';
import { signToken } from '../../testkit/tokens.ts';
import { commitPrepared, runWriters } from '../../testkit/writers.ts';
import { type Bench, benchmark } from '../benchmark.ts';

const serverCounts = [1, 2, 4, 8];
/** Average pause of a writer between two transactions, in milliseconds, so that the machine is not saturated. */
const writerPauseMs = 150;
/** Limit of the queries of 8 servers relative to one. */
const queriesBound = 1.2;
/** Limit of the relative difference of the formula. */
const formulaBound = 0.25;
/** Time limit for each server to get its role, in milliseconds. */
const roleLimitMs = 30_000;
const warmUpMs = 2_000;

interface Case {
  readonly servers: number;
  readonly relay: boolean;
  readonly seconds: number;
  readonly clients: number;
  readonly writers: number;
}

export const fleet = benchmark({
  summary: '1, 2, 4 and 8 servers with and without the relay: the formulas; needs nats-server (8 minutes)',
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
    const rows: Awaited<ReturnType<typeof measure>>[] = [];
    for (const servers of serverCounts) {
      for (const relay of [false, true]) {
        bench.step(`${servers} servers ${relay ? 'with' : 'without'} the relay`);
        rows.push(await measure(bench, { admin, seeded, nats }, { ...options, servers, relay }));
      }
    }
    const queriesOf = (servers: number) =>
      rows.find((row) => row.relay === 'yes' && row.servers === servers)?.queries ?? NaN;
    const differences = rows.map((row) => Math.abs(row['by formula'] / row.queries - 1));
    return {
      title: `${options.writers} writers, ${options.clients} clients with 3 channels each, ${options.seconds} s a case; per second`,
      tables: [{ rows }],
      bounds: [
        atMost('queries of 8 servers with the relay over one', queriesOf(8) / queriesOf(1), queriesBound),
        atMost('queries: difference of the formula', Math.max(...differences), formulaBound, ''),
      ],
    };
  },
});

/** The pause before the read after a notification, in seconds: see `FollowUp` of the server. */
const pauseSeconds = 0.002;

/**
 * The formulas of docs/PERFORMANCE.md for the load on the database and on NATS. The writers of this benchmark commit several
 * events in a transaction.
 */
function loadOf(
  { servers, relay }: Pick<Case, 'servers' | 'relay'>,
  eventsPerSecond: number,
  readSeconds: number,
) {
  const commits = 0.665 * eventsPerSecond;
  // The second one only if no other commit comes before, and the last one, because nothing is in flight then.
  const readsOfCommit = 1 + Math.exp(-commits * (pauseSeconds + readSeconds));
  // Commits during a read share the next one. One read a second is the poll.
  const reads = (commits / (1 + commits * readSeconds)) * readsOfCommit + 1;
  // The check of the triggers with each poll; rights and the leader lock are queries of a follower.
  const ofReader = reads + 1.2;
  return relay
    ? {
        queries: ofReader + (servers - 1) * 0.3,
        messages: eventsPerSecond * (4.14 + (servers - 1) * 1.49),
      }
    : { queries: servers * ofReader, messages: 0 };
}

async function measure(
  { run }: Bench,
  {
    admin,
    seeded,
    nats,
  }: { readonly admin: pg.Client; readonly seeded: SeededDatabase; readonly nats: TestNats },
  { servers: count, relay, seconds, writers, clients: clientCount }: Case,
) {
  const { databaseUrl, projects } = seeded;
  const secret = randomUUID();
  const relayed: Readonly<Record<string, string>> = relay ? { FLAGCAST_RELAY_URL: nats.url } : {};
  const env = { DATABASE_URL: seeded.serverUrl, FLAGCAST_JWT_SECRET: secret, ...relayed };
  const starting = Array.from({ length: count }, async () => await startServe(run, { env }));
  const servers = await Promise.all(starting);
  if (relay) await awaitRoles(servers);
  const clients = await openClients(servers, seeded, signToken(secret, seeded.root), clientCount);

  const ending = new AbortController();
  const signal = AbortSignal.any([ending.signal, run.signal]);
  const pauseMs = writerPauseMs;
  const writing = runWriters({ databaseUrl, projects, writers, signal, pauseMs, prepares: true });
  await delay(warmUpMs, undefined, { signal: run.signal });
  await admin.query('SELECT pg_stat_statements_reset()');
  const before = { ...(await countLoad(admin)), messages: await nats.messages() };
  const readsBefore = await countReads(servers);
  const startedAtMs = performance.now();
  await delay(seconds * 1_000, undefined, { signal: run.signal });
  const { queries, events } = await countLoad(admin);
  const messages = await nats.messages();
  const elapsedMs = performance.now() - startedAtMs;
  const perSecond = (value: number) => (value * 1_000) / elapsedMs;
  const committed = perSecond(events - before.events);
  const after = await countReads(servers);
  const readSeconds = (after.seconds - readsBefore.seconds) / (after.count - readsBefore.count);
  const formula = loadOf({ servers: count, relay }, committed, readSeconds);
  ending.abort();
  await writing;
  await commitPrepared(databaseUrl);
  for (const client of clients) await client.close();
  await Promise.all(servers.map(async (server) => await server.end()));
  return {
    servers: count,
    relay: relay ? 'yes' : 'no',
    events: committed,
    'ms a read': readSeconds * 1_000,
    queries: perSecond(queries),
    'by formula': formula.queries,
    'NATS messages': perSecond(messages - before.messages),
    'by the formula': formula.messages,
  };
}

/** Each client follows three channels. */
async function openClients(
  servers: readonly ServeProcess[],
  { projects }: SeededDatabase,
  token: string,
  length: number,
) {
  const channels = projects.flat();
  const open = async (index: number) => {
    const { port } = servers[index % servers.length] as ServeProcess;
    const client = await V1Client.connect(`ws://127.0.0.1:${port}/api/ws`, {
      token,
      onMessage: () => undefined,
    });
    for (const step of [0, 2, 3]) {
      const { projectId, environmentId } = channels[(index + step) % channels.length] as TestChannel;
      client.send({ type: 'subscribe', project_id: projectId, env_id: environmentId });
    }
    return client;
  };
  return await Promise.all(Array.from({ length }, async (_, index) => await open(index)));
}

/** The reads of all servers so far, and how long they took. */
async function countReads(servers: readonly ServeProcess[]) {
  const sum = async (metric: string): Promise<number> => {
    const values = await Promise.all(servers.map(async (each) => await each.metric(metric)));
    return values.reduce((total, value) => total + value, 0);
  };
  return { seconds: await sum('flagcast_read_seconds_sum'), count: await sum('flagcast_read_seconds_count') };
}

/** Waits until one server leads and the others follow. */
async function awaitRoles(servers: readonly ServeProcess[]): Promise<void> {
  const countOf = async (role: string): Promise<number> => {
    const name = `flagcast_relay_role{role="${role}"}`;
    return (await Promise.all(servers.map(async (each) => await each.metric(name)))).filter(
      (value) => value === 1,
    ).length;
  };
  const isElected = async () => (await countOf('leading')) === 1 && (await countOf('direct')) === 0;
  if (!(await pollUntil(roleLimitMs, isElected))) throw new Error('The servers did not elect a leader');
}

/** Counts the queries of the servers since the reset, and all events. */
async function countLoad(admin: pg.Client) {
  const { rows } = await admin.query<{ queries: number; events: number }>(
    `SELECT coalesce(sum(calls), 0)::integer AS queries,
       (SELECT count(*)::integer FROM flagcast.v_realtime_events) AS events
     FROM pg_stat_statements s JOIN pg_roles r ON r.oid = s.userid WHERE r.rolname = $1`,
    [serverRole],
  );
  return rows[0] ?? { queries: 0, events: 0 };
}
