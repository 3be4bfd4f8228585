import { nowMs } from '../../testkit/child.ts';
import { atMost, none } from '../../testkit/report.ts';
import { type Bench, benchmark } from '../benchmark.ts';
import { Receivers } from '../load/receivers.ts';
import { percentile, percentiles, spreads } from '../rounds.ts';
import { startFlagcast } from '../targets/flagcast.ts';
import { measureIdle } from './idle.ts';

/** Indexes of the channel of all clients and of a small one. */
const large = 0;
const small = 1;
const steps = { commits: 50, pauseLimitMs: 20 };
/** At most half of the clients reconnect. */
const mostInStorm = 20_000;
/** With fewer clients the memory of the processes themselves counts, so there is no bound. */
const boundClients = 10_000;
const boundKilobytes = 6;
const boundCpuPercent = 8;

const options = { clients: 10_000, workers: 2, rounds: 3, seconds: 50 };

export const scale = benchmark({
  summary: 'many connections of serve --workers: memory, one event to all, a reconnect storm (5 minutes)',
  options,
  measure: async (bench, given) => {
    const { clients, workers, rounds, seconds } = given;
    const { idle, arrival, storm, latencies, lost, missed } = await measure(bench, given);
    const bounds = [
      atMost('memory of a connection', idle['kB of memory each'], boundKilobytes, ' kB'),
      atMost('CPU while all are idle', idle['% of a core'], boundCpuPercent, ' %'),
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
      ],
      bounds: [
        ...(clients < boundClients ? [] : bounds),
        none('lost connections', lost),
        none('events that did not reach all', missed),
      ],
    };
  },
});

async function measure(bench: Bench, { clients, workers, rounds, seconds }: typeof options) {
  const flagcast = await startFlagcast(bench, { channels: 2, clients, workers });
  const inStorm = Math.min(mostInStorm, Math.ceil(clients / 2));
  const storming = new Receivers(bench.run, inStorm);
  const staying = new Receivers(bench.run, clients - inStorm);
  const idle = await measureIdle(bench, await flagcast.pids(), { clients, seconds }, async () => {
    const address = { ...flagcast, dialect: 'flagcast.v1' } as const;
    await storming.connect(address, { clients: inStorm, resumes: true });
    await staying.connect(address, { clients: clients - inStorm });
  });

  let missed = 0;
  const publishToAll = async () => {
    const arriving = [storming, staying].map(async (receivers) => await receivers.expect([large]));
    const sentAtMs = nowMs();
    await flagcast.publish([large]);
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
  const probe = await flagcast.probe(flagcast.port, small);
  const alone = percentiles(await probe.latencies(steps));

  bench.step(`${inStorm} clients reconnect`);
  const over = new AbortController();
  const live = storming.expectLive().finally(() => over.abort());
  const droppedAtMs = nowMs();
  await storming.drop();
  const during: number[] = [];
  do during.push(...(await probe.latencies({ ...steps, commits: 1 })));
  while (!over.signal.aborted);
  const liveSeconds = (await live).map((atMs) => (atMs - droppedAtMs) / 1_000);
  // All of them are live.
  await publishToAll();
  await storming.disconnect();
  const { lost } = await staying.disconnect();
  return {
    ...{ idle, missed, lost },
    arrival: spreads(measured.flatMap((each) => each.rounds)),
    storm: {
      clients: inStorm,
      'half are live after': percentile(liveSeconds, 0.5),
      'all are live after': percentile(liveSeconds, 1),
    },
    latencies: [
      { '': 'before the storm', commits: steps.commits, ...alone },
      { '': 'during the storm', commits: during.length, ...percentiles(during) },
    ],
  };
}
