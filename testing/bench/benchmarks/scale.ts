import { setTimeout as delay } from 'node:timers/promises';
import type pg from 'pg';
import { nowMs } from '../../testkit/child.ts';
import { cpuMsOf, memoryOf } from '../../testkit/process-figures.ts';
import { atMost, none } from '../../testkit/report.ts';
import { type Bench, benchmark } from '../benchmark.ts';
import type { Probe } from '../load/probe.ts';
import { Receivers } from '../load/receivers.ts';
import { percentile, percentiles, spreads } from '../rounds.ts';
import { prepareFlagcast } from '../targets/flagcast.ts';

/** Indexes of the channel of all clients and of a small one. */
const large = 0;
const small = 1;
const steps = { commits: 50, pauseLimitMs: 20 };
/** At most half of the clients reconnect. */
const mostInStorm = 20_000;
/** Events that are committed while the server is down. */
const eventsWhileDown = [large, large, large];
/** A server without clients, in milliseconds: its statements do not count as those of the reconnects. */
const withoutClientsMs = 2_000;

/** With fewer clients the memory of the processes themselves counts, so there is no bound. */
const boundClients = 5_000;
const boundKilobytes = 6;
const boundCpuPercent = (clients: number) => (clients <= 15_000 ? 1.5 : 8);
/** Limits for this number of clients that lose their server; the queries are those of each worker. */
const boundRestart = { clients: 5_000, seconds: 5, queries: 10 };

const options = { clients: 10_000, workers: 2, rounds: 3, seconds: 50 };

export const scale = benchmark({
  summary:
    'many connections: memory, idle processor time, one event to all, reconnects, a lost server (6 minutes)',
  // In 50 s each connection gets three or four heartbeats, and its rights are checked twice.
  options,
  settings: { shared_preload_libraries: 'pg_stat_statements' },
  measure: async (bench, given) => {
    const { clients, workers, rounds, seconds } = given;
    const { idle, arrival, storm, restart, latencies, lost, missed } = await measure(bench, given);
    const bounds = [
      atMost('memory of a connection', idle['kB of memory each'], boundKilobytes, ' kB'),
      atMost('CPU while all are idle', idle['% of a core'], boundCpuPercent(clients), ' %'),
    ];
    const restartBounds = [
      atMost(
        'until all are live after their server',
        restart['all are live after'],
        boundRestart.seconds,
        ' s',
      ),
      atMost('queries for the reconnects', restart.queries, boundRestart.queries * workers, ''),
    ];
    return {
      title: `${clients} flagcast.v1 connections of serve --workers ${workers}`,
      tables: [
        { caption: `Idle for ${seconds} s, all processes`, rows: [idle] },
        {
          caption: `One event to all, ms from sending COMMIT, median of ${rounds} rounds (lowest-highest round)`,
          rows: [arrival],
        },
        { caption: 'Clients lose their connections and resume, s', rows: [storm] },
        { caption: 'From COMMIT to the message in a small channel, ms', rows: latencies },
        { caption: 'They lose their server and resume, s after it is back', rows: [restart] },
      ],
      bounds: [
        ...(clients < boundClients ? [] : bounds),
        ...(restart.clients === boundRestart.clients ? restartBounds : []),
        none('lost connections', lost),
        none('events that did not reach all', missed),
      ],
    };
  },
});

async function measure(bench: Bench, { clients, workers, rounds, seconds }: typeof options) {
  const prepared = await prepareFlagcast(bench, { channels: 2, clients });
  const { client } = prepared.database;
  await client.query('CREATE EXTENSION pg_stat_statements');
  const server = await prepared.serve({ workers });
  await prepared.publish(eventsWhileDown);
  await delay(withoutClientsMs, undefined, { signal: bench.run.signal });
  const withoutClients = await countCalls(client);
  const inStorm = Math.min(mostInStorm, Math.ceil(clients / 2));
  const storming = new Receivers(bench.run, inStorm);
  const staying = new Receivers(bench.run, clients - inStorm);
  const idle = await measureIdle(bench, await server.pids(), { clients, seconds }, async () => {
    const address = { ...prepared, port: server.port, dialect: 'flagcast.v1' } as const;
    await storming.connect(address, { clients: inStorm, resumes: true });
    await staying.connect(address, { clients: clients - inStorm });
  });

  let missed = 0;
  const publishToAll = async () => {
    const arriving = [storming, staying].map(async (receivers) => await receivers.expect([large]));
    const sentAtMs = nowMs();
    await prepared.publish([large]);
    const arrivals = await Promise.all(arriving);
    if (arrivals.includes(null)) missed += 1;
    return {
      'first client': Math.min(...arrivals.map((arrival) => arrival?.firstAtMs ?? NaN)) - sentAtMs,
      'last client': Math.max(...arrivals.map((arrival) => arrival?.lastAtMs ?? NaN)) - sentAtMs,
    };
  };
  // The first event compiles code, and gives the clients a cursor.
  await publishToAll();
  const measured = await bench.rounds(rounds, [{ name: 'one event to all' }], publishToAll);
  const probe = await prepared.probe(server.port, small);
  const alone = percentiles(await probe.latencies(steps));
  bench.step(`${inStorm} clients reconnect`);
  const { storm, during } = await measureStorm(storming, probe);
  // All of them are live.
  await publishToAll();
  const { lost } = await staying.disconnect();
  probe.close();

  bench.step(`${inStorm} clients lose their server`);
  await client.query('SELECT pg_stat_statements_reset()');
  const live = storming.expectLive();
  const arriving = storming.expect(eventsWhileDown);
  await server.kill();
  await prepared.publish(eventsWhileDown);
  await prepared.serve({ workers, port: server.port });
  const returnedAtMs = nowMs();
  const after = liveAfter(await live, returnedAtMs);
  if ((await arriving) === null) missed += 1;
  const calls = [...(await countCalls(client))].filter(([id]) => !withoutClients.has(id));
  await storming.disconnect();
  return {
    ...{ idle, missed, lost },
    arrival: spreads(measured.flatMap((each) => each.rounds)),
    storm: { clients: inStorm, ...storm },
    restart: { clients: inStorm, ...after, queries: calls.reduce((sum, [, count]) => sum + count, 0) },
    latencies: [
      { '': 'before the storm', commits: steps.commits, ...alone },
      { '': 'during the storm', commits: during.length, ...percentiles(during) },
    ],
  };
}

/**
 * What connections cost the processes of a new server, in all, while they are idle for `seconds`. As long before that,
 * the garbage of the handshakes is collected.
 */
async function measureIdle(
  { run: { signal }, step }: Bench,
  pids: readonly number[],
  { clients, seconds }: Pick<typeof options, 'clients' | 'seconds'>,
  connect: () => Promise<void>,
) {
  const before = await memoryOf(pids);
  step(`connecting ${clients} clients`);
  await connect();
  step(`idle for 2 x ${seconds} s`);
  await delay(seconds * 1_000, undefined, { signal });
  const cpuMsBefore = await cpuMsOf(pids);
  await delay(seconds * 1_000, undefined, { signal });
  const cpuPercent = ((await cpuMsOf(pids)) - cpuMsBefore) / seconds / 10;
  const after = await memoryOf(pids);
  const kilobytes = (after.residentBytes - before.residentBytes) / clients / 1_000;
  return { 'kB of memory each': kilobytes, '% of a core': cpuPercent };
}

/** The clients lose their connections, while the probe measures the latency of its channel. */
async function measureStorm(receivers: Receivers, probe: Probe) {
  const over = new AbortController();
  const live = receivers.expectLive().finally(() => over.abort());
  const droppedAtMs = nowMs();
  await receivers.drop();
  const during: number[] = [];
  do during.push(...(await probe.latencies({ ...steps, commits: 1 })));
  while (!over.signal.aborted);
  return { storm: liveAfter(await live, droppedAtMs), during };
}

/** In seconds. */
function liveAfter(liveAtMs: readonly number[], sinceMs: number) {
  const seconds = liveAtMs.map((atMs) => Math.max(0, atMs - sinceMs) / 1_000);
  return { 'half are live after': percentile(seconds, 0.5), 'all are live after': percentile(seconds, 1) };
}

/** Returns the number of executions since the reset of each statement, by its id. */
async function countCalls(client: pg.Client): Promise<ReadonlyMap<string, number>> {
  const { rows } = await client.query<{ id: string; calls: number }>(
    `SELECT queryid::text AS id, sum(calls)::integer AS calls FROM pg_stat_statements
     WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
       AND query NOT LIKE '%pg_stat_statements%' GROUP BY queryid`,
  );
  return new Map(rows.map(({ id, calls }) => [id, calls]));
}
