import { setTimeout as delay } from 'node:timers/promises';
import { nowMs } from '../../testkit/child.ts';
import { cpuMsOf, memoryOf } from '../../testkit/process-figures.ts';
import { atMost, none } from '../../testkit/report.ts';
import { type Bench, benchmark } from '../benchmark.ts';
import { costOf, costs, type Fleet } from '../fleet-costs.ts';
import { Receivers } from '../load/receivers.ts';
import { percentile, percentiles, spreads } from '../rounds.ts';
import { startFlagcast } from '../targets/flagcast.ts';
import { quiesceMs, startMs } from './idle.ts';

/** Indexes of the channel of all clients and of a small one. */
const large = 0;
const smallChannel = 1;
const steps = { commits: 50, pauseLimitMs: 20 };
const mostInStorm = 20_000;
/** With 120,000 connections. */
const boundKilobytes = 6;
const boundCpuPercent = 8;
/** Limit of the measured memory relative to the formula. */
const boundMemory = 1.2;

/** Sizes that are calculated. */
const fleets: readonly Fleet[] = [
  { servers: 1, relay: false, connections: 5_000, channelSize: 50, events: 10 },
  { servers: 4, relay: true, connections: 50_000, channelSize: 100, events: 20 },
  { servers: 8, relay: false, connections: 100_000, channelSize: 100, events: 50 },
  { servers: 8, relay: true, connections: 100_000, channelSize: 100, events: 50 },
  { servers: 64, relay: true, connections: 1_000_000, channelSize: 1_000, events: 50 },
  { servers: 64, relay: true, connections: 1_000_000, channelSize: 1_000_000, events: 1 },
];

const options = { clients: 10_000, workers: 2, rounds: 3, seconds: 50 };

export const scale = benchmark({
  summary: 'many connections of serve --workers: memory, one event to all, a storm; the formulas (5 minutes)',
  options,
  measure: async (bench, given) => {
    const { clients, workers, rounds, seconds } = given;
    const { kilobytes, cpuPercent, arrival, storm, small, lost } = await measure(bench, given);
    const formula = {
      kilobytes: costs.connectionBytes / 1_000,
      cpuPercent: (clients * costs.idleMicroseconds) / 1e4,
    };
    return {
      title: `${clients} flagcast.v1 connections of serve --workers ${workers}`,
      tables: [
        {
          caption: `Idle for ${seconds} s`,
          rows: [
            { '': 'measured', 'kB a connection': kilobytes, '% of a core': cpuPercent },
            { '': 'formula', 'kB a connection': formula.kilobytes, '% of a core': formula.cpuPercent },
          ],
        },
        {
          caption: `One event to all, ms from sending COMMIT, median of ${rounds} rounds (lowest-highest round)`,
          rows: [arrival],
        },
        { caption: 'Clients lose their connections and resume, s', rows: [storm] },
        { caption: 'From COMMIT to the message in a small channel, in ms', rows: small },
        { caption: 'Calculated, not measured', rows: fleets.map(calculatedRow) },
      ],
      bounds: [
        atMost('memory of a connection', kilobytes, boundKilobytes, ' kB'),
        atMost('CPU while all are idle', cpuPercent, boundCpuPercent, ' %'),
        atMost('memory of a connection over the formula', kilobytes / formula.kilobytes, boundMemory),
        none('lost connections', lost),
      ],
    };
  },
});

function calculatedRow(fleet: Fleet) {
  const { queries, messages, deliveries, coresOfServer, bytesOfServer } = costOf(fleet);
  return {
    servers: fleet.servers,
    relay: fleet.relay ? 'yes' : 'no',
    connections: fleet.connections,
    'in a channel': fleet.channelSize,
    'events/s': fleet.events,
    'queries/s': Math.round(queries),
    'NATS messages/s': Math.round(messages),
    'deliveries/s': Math.round(deliveries),
    'cores of each': coresOfServer.toFixed(3),
    'GB of each': bytesOfServer / 1e9,
  };
}

async function measure(bench: Bench, { clients, workers, rounds, seconds }: typeof options) {
  const { run, step } = bench;
  const flagcast = await startFlagcast(bench, { channels: 2, clients, workers });
  await delay(startMs, undefined, { signal: run.signal });
  const pids = await flagcast.pids();
  const before = await memoryOf(pids);
  const stormClients = Math.min(mostInStorm, Math.ceil(clients / 2));
  const groups: Receivers[] = [];
  for (const [count, resumes] of [[stormClients, true] as const, [clients - stormClients, false] as const]) {
    step(`connecting ${count} clients`);
    const receivers = new Receivers(run, count);
    await receivers.connect({ ...flagcast, dialect: 'flagcast.v1' }, { clients: count, resumes });
    groups.push(receivers);
  }
  await delay(quiesceMs, undefined, { signal: run.signal });
  step(`idle for ${seconds} s`);
  const cpuMsBefore = await cpuMsOf(pids);
  await delay(seconds * 1_000, undefined, { signal: run.signal });
  const cpuPercent = ((await cpuMsOf(pids)) - cpuMsBefore) / seconds / 10;
  const after = await memoryOf(pids);

  const publishToAll = async () => {
    const arriving = groups.map(async (receivers) => await receivers.expect([large]));
    const sentAtMs = nowMs();
    await flagcast.publish([large]);
    const arrivals = await Promise.all(arriving);
    return {
      'first client': Math.min(...arrivals.map((arrival) => arrival?.firstAtMs ?? NaN)) - sentAtMs,
      'last client': Math.max(...arrivals.map((arrival) => arrival?.lastAtMs ?? NaN)) - sentAtMs,
    };
  };
  // The first event compiles code, and gives the clients a cursor.
  await publishToAll();
  const [measured] = await bench.rounds(rounds, [{ name: 'one event to all' }], publishToAll);
  const probe = await flagcast.probe(flagcast.port, smallChannel);
  const alone = percentiles(await probe.latencies(steps));

  bench.step(`${stormClients} clients reconnect`);
  const [stormed] = groups;
  const over = new AbortController();
  const live = stormed?.expectLive().finally(() => over.abort());
  const droppedAtMs = nowMs();
  await stormed?.drop();
  const during: number[] = [];
  while (!over.signal.aborted) during.push(...(await probe.latencies({ ...steps, commits: 1 })));
  const liveSeconds = ((await live) ?? []).map((atMs) => (atMs - droppedAtMs) / 1_000);
  const counts = await Promise.all(groups.map(async (receivers) => await receivers.disconnect()));
  return {
    kilobytes: (after.residentBytes - before.residentBytes) / clients / 1_000,
    cpuPercent,
    arrival: spreads(measured?.rounds ?? []),
    storm: {
      clients: stormClients,
      'half are live after': percentile(liveSeconds, 0.5),
      'all are live after': percentile(liveSeconds, 1),
    },
    small: [
      { '': 'before the storm', ...alone },
      { '': 'during the storm', ...percentiles(during) },
    ],
    lost: counts.reduce((sum, count) => sum + count.lost, 0),
  };
}
