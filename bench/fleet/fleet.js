import { randomUUID } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import { LibraryClient } from '../../chaos/clients/library-client.js';
import { readHistory } from '../../chaos/history.js';
import { awaitSentinels, findStateDifferences } from '../../chaos/quiesce.js';
import { commitPrepared, seedDatabase, withClient } from '../../chaos/seed-database.js';
import { checkSegment } from '../../chaos/segment-checker.js';
import { Tokens } from '../../chaos/tokens.js';
import { runWriters } from '../../chaos/writers.js';
import { freePort } from '../../packages/demo/dist/embedded/embedded-process.js';
import { runBounded } from '../bounded-run.js';
import { oneCount } from '../options.js';
import { startProgress } from '../progress.js';
import {
  bound,
  clearProgress,
  describeMachine,
  figure,
  machineLine,
  markdownTable,
  saveResult,
  showProgress,
} from '../results.js';
import { connect, startTemporaryPostgres } from '../temporary-postgres.js';
import { breakThings } from './faults.js';
import { FleetServer } from './fleet-server.js';
import { NatsProcess, requireNats } from './nats-process.js';
import { takeoverBound, takeoverTable } from './takeover.js';

/** @import pg from 'pg' */
/** @import { BoundedRun } from '../bounded-run.js' */
/** @import { SeededDatabase } from '../../chaos/seed-database.js' */
/** @import { Options } from '../options.js' */
/** @import { Bound } from '../results.js' */

const limitMs = 60 * 60_000;
const serverCounts = [1, 2, 4, 8];
const writers = 8;
/** Of each writer between two transactions, on average, in milliseconds: the machine is not to be full. */
const writerPauseMs = 150;
/** The servers connect as a role of their own, so that what they ask can be told from the rest. */
const role = 'fleet';
/** Queries of 8 servers over those of one. */
const queriesBound = 1.2;
/** How long a fleet may take until each server has its role, in milliseconds. */
const roleLimitMs = 30_000;

const settings = {
  shared_preload_libraries: 'pg_stat_statements',
  track_commit_timestamp: 'on',
  max_prepared_transactions: '50',
  max_connections: '200',
};

/**
 * `queries`, `reads`: that the servers asked the database for in a second, all together; `messages`, `bytes`:
 * through NATS in a second, both ways; null with faults.
 *
 * @typedef {{
 *   servers: number, relay: boolean, seconds: number, events: number, queries: number, reads: number,
 *   messages: number | null, bytes: number | null, lost: number, repeated: number, foreign: number, invented: number,
 *   different: number, stuck: number, resyncs: number, faults: Readonly<Record<string, number>>,
 *   takeoversMs: readonly number[],
 * }} Measured
 */

/**
 * What a fleet of servers costs the database, with and without the relay; with `--faults` one of 8 servers whose
 * reader is killed and stopped again and again, and whose NATS is restarted and away for a minute.
 *
 * @param {Options} options
 * @returns {Promise<readonly Bound[]>}
 */
export async function runFleet(options) {
  requireNats();
  const { faults = false, seconds = faults ? 240 : 30, output } = options;
  const clients = oneCount(options, 32);
  return await runBounded(limitMs, async (run) => {
    showProgress('fleet: starting PostgreSQL and NATS');
    const postgres = await startTemporaryPostgres(run, settings);
    const nats = await NatsProcess.start(run);
    const seeded = await seedDatabase(postgres);
    const admin = await connect(run, seeded.databaseUrl, 'bench admin');
    await admin.query('CREATE EXTENSION pg_stat_statements');
    await admin.query(`CREATE ROLE ${role} LOGIN SUPERUSER PASSWORD '${role}'`);
    const machine = await describeMachine(admin);
    const cases = faults
      ? [{ servers: 8, relay: true }]
      : serverCounts.flatMap((servers) => [false, true].map((relay) => ({ servers, relay })));
    const progress = startProgress('fleet', cases.length);
    /** @type {Measured[]} */
    const measured = [];
    for (const each of cases) {
      progress.step(`${each.servers} servers ${each.relay ? 'with' : 'without'} the relay`);
      measured.push(await measure(run, { admin, seeded, nats }, { ...each, seconds, clients, faults }));
    }
    clearProgress();
    const bounds = boundsOf(measured, faults);
    const name = faults ? 'fleet-faults' : 'fleet';
    const file = await saveResult(name, { machine, bounds, clients, writers, measured }, output);
    console.log(
      `fleet: ${writers} writers, ${clients} clients with 3 channels each, ${seconds} s${faults ? ', with faults' : ' a case'}`,
    );
    console.log(machineLine(machine));
    console.log(`\n${tableOf(measured)}\n\nWritten to ${file}`);
    if (faults) {
      console.log(`Faults: ${JSON.stringify(measured[0]?.faults)}\n`);
      console.log(takeoverTable(measured.flatMap(({ takeoversMs }) => takeoversMs)));
    }
    return bounds;
  });
}

/**
 * @param {readonly Measured[]} measured
 * @param {boolean} faults
 * @returns {Bound[]}
 */
function boundsOf(measured, faults) {
  /** @param {(each: Measured) => number} count */
  const sum = (count) => measured.reduce((total, each) => total + count(each), 0);
  /** @param {number} servers */
  const queriesOf = (servers) =>
    measured.find((each) => each.relay && each.servers === servers)?.queries ?? NaN;
  return [
    ...(faults
      ? [takeoverBound(measured.flatMap(({ takeoversMs }) => takeoversMs))]
      : [
          bound(
            'queries of 8 servers with the relay over those of one',
            queriesOf(8) / queriesOf(1),
            queriesBound,
          ),
        ]),
    bound(
      'events lost',
      sum(({ lost }) => lost),
      0,
      '',
    ),
    bound(
      'events told twice',
      sum(({ repeated }) => repeated),
      0,
      '',
    ),
    bound(
      'events of others or of nobody',
      sum(({ foreign, invented }) => foreign + invented),
      0,
      '',
    ),
    bound(
      'states that differ from the database',
      sum(({ different }) => different),
      0,
      '',
    ),
    bound(
      'clients that were not told of the last event',
      sum(({ stuck }) => stuck),
      0,
      '',
    ),
  ];
}

/** @param {readonly Measured[]} measured */
function tableOf(measured) {
  const head = [
    'servers',
    'relay',
    'events/s',
    'queries/s',
    'reads/s',
    'NATS messages/s',
    'NATS kB/s',
    'lost',
    'resyncs',
  ];
  const rows = measured.map((each) => [
    String(each.servers),
    each.relay ? 'yes' : 'no',
    figure(each.events / each.seconds),
    figure(each.queries),
    figure(each.reads),
    each.messages === null ? '-' : figure(each.messages),
    each.bytes === null ? '-' : figure(each.bytes / 1_000),
    String(each.lost),
    String(each.resyncs),
  ]);
  return markdownTable(head, rows);
}

/**
 * @param {BoundedRun} run
 * @param {{ admin: pg.Client, seeded: SeededDatabase, nats: NatsProcess }} stage
 * @param {{ servers: number, relay: boolean, seconds: number, clients: number, faults: boolean }} how
 * @returns {Promise<Measured>}
 */
async function measure(run, { admin, seeded, nats }, { servers: count, relay, seconds, clients, faults }) {
  const secret = randomUUID() + randomUUID();
  const url = new URL(seeded.databaseUrl);
  url.username = role;
  url.password = role;
  const servers = await Promise.all(
    Array.from(
      { length: count },
      async (_, index) =>
        new FleetServer({
          name: `server ${index + 1}`,
          databaseUrl: url.toString(),
          secret,
          port: await freePort(),
          relayUrl: relay ? nats.url : null,
          onProblem: (problem) => run.fail(new Error(problem)),
        }),
    ),
  );
  run.defer(async () => void (await Promise.all(servers.map(async (server) => await server.end()))));
  await Promise.all(servers.map(async (server) => await server.start()));
  await awaitRoles(servers, relay);
  const members = openClients(servers, { seeded, secret, clients });
  run.defer(async () => {
    for (const { client } of members) client.close();
    await Promise.resolve();
  });
  const channels = seeded.projects.flat();
  await awaitSentinels(seeded.databaseUrl, channels, members);

  const writing = new AbortController();
  run.signal.addEventListener('abort', () => writing.abort());
  const { databaseUrl, projects } = seeded;
  const done = runWriters({
    databaseUrl,
    projects,
    writers,
    signal: writing.signal,
    pauseMs: writerPauseMs,
    prepares: true,
  });
  // The writers' first transactions are no measure.
  await delay(2_000);
  await admin.query('SELECT pg_stat_statements_reset()');
  const eventsBefore = await eventCount(admin);
  const natsBefore = await nats.figures();
  const startedAtMs = performance.now();
  /** @type {Readonly<Record<string, number>>} */
  let broken = {};
  /** @type {readonly number[]} */
  let takeoversMs = [];
  if (faults) {
    const { signal } = run;
    const told = members.map(({ client }) => client);
    const done = await breakThings({ servers, clients: told, nats, durationMs: seconds * 1_000, signal });
    ({ counts: broken, takeoversMs } = done);
  } else await delay(seconds * 1_000, undefined, { signal: run.signal });
  const tookSeconds = (performance.now() - startedAtMs) / 1_000;
  const asked = await questions(admin);
  const events = (await eventCount(admin)) - eventsBefore;
  const natsAfter = await nats.figures();
  writing.abort();
  await done;
  await commitPrepared(databaseUrl);

  const stuck = await awaitSentinels(databaseUrl, channels, members);
  const differing = await findStateDifferences(databaseUrl, channels, members);
  for (const difference of differing) console.error(`fleet: ${difference}`);
  const history = await withClient(databaseUrl, readHistory);
  const anomalies = members.flatMap(({ client }) =>
    client.segments.flatMap((segment) => checkSegment(segment, history, [])),
  );
  /** @param {string} kind */
  const countAnomalies = (kind) => anomalies.filter((anomaly) => anomaly.kind === kind).length;
  const resyncs = members.reduce((sum, { client }) => sum + client.resyncs, 0);
  for (const { client } of members) client.close();
  await Promise.all(servers.map(async (server) => await server.end('SIGTERM')));
  return {
    servers: count,
    relay,
    seconds: tookSeconds,
    events,
    queries: asked.all / tookSeconds,
    reads: asked.reads / tookSeconds,
    // A server that was restarted counts from 0.
    messages: faults
      ? null
      : (natsAfter.in_msgs + natsAfter.out_msgs - natsBefore.in_msgs - natsBefore.out_msgs) / tookSeconds,
    bytes: faults
      ? null
      : (natsAfter.in_bytes + natsAfter.out_bytes - natsBefore.in_bytes - natsBefore.out_bytes) / tookSeconds,
    lost: countAnomalies('lost'),
    repeated: countAnomalies('repeated'),
    foreign: countAnomalies('foreign'),
    invented: countAnomalies('invented'),
    different: differing.length,
    stuck: stuck.length,
    resyncs,
    faults: broken,
    takeoversMs,
  };
}

/**
 * @param {readonly FleetServer[]} servers
 * @param {{ seeded: SeededDatabase, secret: string, clients: number }} of
 */
function openClients(servers, { seeded, secret, clients }) {
  const channels = seeded.projects.flat();
  const tokens = new Tokens(secret, Math.random);
  return Array.from({ length: clients }, (_, index) => {
    const server = servers[index % servers.length];
    const wanted = [0, 2, 3].map((step) => channels[(index + step) % channels.length]);
    if (server === undefined) throw new Error('there are no servers');
    const client = new LibraryClient(
      {
        name: `client ${index + 1} of ${server.name}`,
        baseUrl: server.url,
        userId: seeded.root.id,
        getToken: async () => await tokens.issue(seeded.root),
        chance: Math.random,
      },
      wanted.filter((channel) => channel !== undefined),
      false,
    );
    return { kind: 'library', viaProxy: false, client };
  });
}

/**
 * One reads, and the others follow; without the relay each reads.
 *
 * @param {readonly FleetServer[]} servers
 * @param {boolean} relay
 */
async function awaitRoles(servers, relay) {
  const endMs = performance.now() + roleLimitMs;
  const isSettled = () =>
    !relay ||
    (servers.filter((server) => server.role === 'leading').length === 1 &&
      servers.every((server) => server.role !== 'direct'));
  while (!isSettled()) {
    if (performance.now() > endMs) throw new Error('the servers do not agree on who reads');
    await delay(100);
  }
}

/** @param {pg.Client} admin */
async function eventCount(admin) {
  /** @type {pg.QueryResult<{ count: number }>} */
  const { rows } = await admin.query('SELECT count(*)::integer AS count FROM flagcast.v_realtime_events');
  return rows[0]?.count ?? 0;
}

/**
 * What the servers have asked: everything, and the reads of the view.
 *
 * @param {pg.Client} admin
 */
async function questions(admin) {
  /** @type {pg.QueryResult<{ all: number, reads: number }>} */
  const { rows } = await admin.query(
    `SELECT coalesce(sum(calls), 0)::integer AS all,
       coalesce(sum(calls) FILTER (WHERE query LIKE '%SELECT $1) AS always%' OR query LIKE '%(SELECT 1) AS always%'), 0)::integer AS reads
     FROM pg_stat_statements s JOIN pg_roles r ON r.oid = s.userid WHERE r.rolname = $1`,
    [role],
  );
  return rows[0] ?? { all: 0, reads: 0 };
}
