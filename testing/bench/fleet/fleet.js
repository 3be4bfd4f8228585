import { randomUUID } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import { LibraryClient } from '../../chaos/clients/library-client.js';
import { readHistory } from '../../chaos/history.js';
import { awaitSentinels, findStateDifferences } from '../../chaos/quiesce.js';
import { commitPrepared, seedDatabase, withClient } from '../../chaos/seed-database.js';
import { checkSegment } from '../../chaos/segment-checker.js';
import { Tokens } from '../../chaos/tokens.js';
import { runWriters } from '../../chaos/writers.js';
import { freePort } from '../../../packages/demo/dist/embedded/embedded-process.js';
import { runBounded } from '../../testkit/bounded-run.ts';
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
import { connect, startTemporaryPostgres } from '../../testkit/postgres.ts';
import { injectFaults } from './faults.js';
import { FleetServer } from './fleet-server.js';
import { NatsProcess, requireNats } from './nats-process.js';
import { takeoverBound, takeoverTable } from './takeover.js';

/** @import pg from 'pg' */
/** @import { BoundedRun } from '../../testkit/bounded-run.ts' */
/** @import { SeededDatabase } from '../../chaos/seed-database.js' */
/** @import { ChaosChannel } from '../../chaos/writers.js' */
/** @import { Options } from '../options.js' */
/** @import { Bound } from '../results.js' */

const limitMs = 60 * 60_000;
const serverCounts = [1, 2, 4, 8];
const writers = 8;
/** Average pause of a writer between two transactions, in milliseconds, so that the machine is not saturated. */
const writerPauseMs = 150;
/** The database role of the servers, so that their queries can be counted separately. */
const role = 'fleet';
/** Limit of the queries of 8 servers relative to one. */
const queriesBound = 1.2;
/** Time limit for each server to get its role, in milliseconds. */
const roleLimitMs = 30_000;

const settings = {
  shared_preload_libraries: 'pg_stat_statements',
  track_commit_timestamp: 'on',
  max_prepared_transactions: '50',
  max_connections: '200',
};

/**
 * `queries`, `reads`: of all servers per second. `messages`, `bytes`: through NATS per second, in both directions; null with
 * faults. `stuck`: clients that did not receive the last event.
 *
 * @typedef {{
 *   servers: number, relay: boolean, seconds: number, events: number, queries: number, reads: number,
 *   messages: number | null, bytes: number | null, lost: number, repeated: number, foreign: number, invented: number,
 *   different: number, stuck: number, resyncs: number, faults: Readonly<Record<string, number>>,
 *   takeoversMs: readonly number[],
 * }} Measured
 */

/**
 * Measures the load of a fleet of servers on the database, with and without the relay; with `--faults` 8 servers while the
 * leader is killed and stopped, and NATS is restarted and unavailable for a minute.
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
      'lost events',
      sum(({ lost }) => lost),
      0,
      '',
    ),
    bound(
      'repeated events',
      sum(({ repeated }) => repeated),
      0,
      '',
    ),
    bound(
      'foreign or invented events',
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
      'clients that did not receive the last event',
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
 * @typedef {{ readonly admin: pg.Client, readonly seeded: SeededDatabase, readonly nats: NatsProcess }} FleetResources
 * @typedef {{ readonly servers: number, readonly relay: boolean, readonly seconds: number, readonly clients: number, readonly faults: boolean }} FleetCase
 */

/**
 * @param {BoundedRun} run
 * @param {FleetResources} resources
 * @param {FleetCase} options
 * @returns {Promise<Measured>}
 */
async function measure(run, resources, options) {
  const { admin, seeded, nats } = resources;
  const { relay, seconds, clients, faults } = options;
  const secret = randomUUID() + randomUUID();
  const servers = await startServers(run, resources, options, secret);
  const members = openClients(servers, { seeded, secret, clients });
  run.defer(async () => {
    for (const { client } of members) client.close();
    await Promise.resolve();
  });
  const channels = seeded.projects.flat();
  const { databaseUrl, projects } = seeded;
  await awaitSentinels(databaseUrl, channels, members);

  const writing = new AbortController();
  run.signal.addEventListener('abort', () => writing.abort());
  const { signal } = writing;
  const done = runWriters({ databaseUrl, projects, writers, signal, pauseMs: writerPauseMs, prepares: true });
  // The first transactions of the writers are not measured.
  await delay(2_000);
  await admin.query('SELECT pg_stat_statements_reset()');
  const eventsBefore = await eventCount(admin);
  const natsBefore = await nats.figures();
  const startedAtMs = performance.now();
  /** @type {{ counts: Readonly<Record<string, number>>, takeoversMs: readonly number[] }} */
  let injected = { counts: {}, takeoversMs: [] };
  if (faults) {
    injected = await injectFaults({
      ...{ servers, nats, durationMs: seconds * 1_000, signal: run.signal },
      clients: members.map(({ client }) => client),
    });
  } else await delay(seconds * 1_000, undefined, { signal: run.signal });
  const tookSeconds = (performance.now() - startedAtMs) / 1_000;
  const counted = await countQueries(admin);
  const events = (await eventCount(admin)) - eventsBefore;
  const natsAfter = await nats.figures();
  writing.abort();
  await done;

  const checked = await checkClients(databaseUrl, channels, members);
  for (const { client } of members) client.close();
  await Promise.all(servers.map(async (server) => await server.end('SIGTERM')));
  return {
    servers: servers.length,
    relay,
    seconds: tookSeconds,
    events,
    queries: counted.all / tookSeconds,
    reads: counted.reads / tookSeconds,
    // A restart of NATS resets its counters.
    messages: faults
      ? null
      : (natsAfter.in_msgs + natsAfter.out_msgs - natsBefore.in_msgs - natsBefore.out_msgs) / tookSeconds,
    bytes: faults
      ? null
      : (natsAfter.in_bytes + natsAfter.out_bytes - natsBefore.in_bytes - natsBefore.out_bytes) / tookSeconds,
    ...checked,
    faults: injected.counts,
    takeoversMs: injected.takeoversMs,
  };
}

/**
 * @param {BoundedRun} run
 * @param {FleetResources} resources
 * @param {FleetCase} options
 * @param {string} secret
 */
async function startServers(run, { seeded, nats }, { servers: count, relay }, secret) {
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
  return servers;
}

/**
 * Waits until the clients have caught up, and compares what they received with the database.
 *
 * @param {string} databaseUrl
 * @param {readonly ChaosChannel[]} channels
 * @param {ReturnType<typeof openClients>} members
 */
async function checkClients(databaseUrl, channels, members) {
  await commitPrepared(databaseUrl);
  const stuck = await awaitSentinels(databaseUrl, channels, members);
  const different = await findStateDifferences(databaseUrl, channels, members);
  for (const difference of different) console.error(`fleet: ${difference}`);
  const history = await withClient(databaseUrl, readHistory);
  const anomalies = members.flatMap(({ client }) =>
    client.segments.flatMap((segment) => checkSegment(segment, history, [])),
  );
  /** @param {string} kind */
  const count = (kind) => anomalies.filter((anomaly) => anomaly.kind === kind).length;
  return {
    lost: count('lost'),
    repeated: count('repeated'),
    foreign: count('foreign'),
    invented: count('invented'),
    different: different.length,
    stuck: stuck.length,
    resyncs: members.reduce((sum, { client }) => sum + client.resyncs, 0),
  };
}

/**
 * @param {readonly FleetServer[]} servers
 * @param {{ seeded: SeededDatabase, secret: string, clients: number }} options
 */
function openClients(servers, { seeded, secret, clients }) {
  const channels = seeded.projects.flat();
  const tokens = new Tokens(secret, Math.random);
  return Array.from({ length: clients }, (_, index) => {
    const server = servers[index % servers.length];
    const subscribed = [0, 2, 3].map((step) => channels[(index + step) % channels.length]);
    if (server === undefined) throw new Error('There are no servers');
    const client = new LibraryClient(
      {
        name: `client ${index + 1} of ${server.name}`,
        baseUrl: server.url,
        userId: seeded.root.id,
        getToken: async () => await tokens.issue(seeded.root),
        chance: Math.random,
      },
      subscribed.filter((channel) => channel !== undefined),
      false,
    );
    return { kind: 'library', viaProxy: false, client };
  });
}

/**
 * Waits until one server leads and the others follow; returns immediately without the relay.
 *
 * @param {readonly FleetServer[]} servers
 * @param {boolean} relay
 */
async function awaitRoles(servers, relay) {
  const endMs = performance.now() + roleLimitMs;
  const haveRoles = () =>
    !relay ||
    (servers.filter((server) => server.role === 'leading').length === 1 &&
      servers.every((server) => server.role !== 'direct'));
  while (!haveRoles()) {
    if (performance.now() > endMs) throw new Error('The servers did not elect a leader');
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
 * Counts the queries of the servers since the reset: all of them, and the reads of the event log.
 *
 * @param {pg.Client} admin
 */
async function countQueries(admin) {
  /** @type {pg.QueryResult<{ all: number, reads: number }>} */
  const { rows } = await admin.query(
    `SELECT coalesce(sum(calls), 0)::integer AS all,
       coalesce(sum(calls) FILTER (WHERE query LIKE '%SELECT $1) AS always%' OR query LIKE '%(SELECT 1) AS always%'), 0)::integer AS reads
     FROM pg_stat_statements s JOIN pg_roles r ON r.oid = s.userid WHERE r.rolname = $1`,
    [role],
  );
  return rows[0] ?? { all: 0, reads: 0 };
}
