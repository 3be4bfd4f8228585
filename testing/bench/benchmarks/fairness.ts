import { atMost, none } from '../../testkit/report.ts';
import { benchmark } from '../benchmark.ts';
import { Receivers } from '../load/receivers.ts';
import { repeatAtRate } from '../load/writers.ts';
import { percentiles, ratio, rowsOf, spread } from '../rounds.ts';
import { startFlagcast } from '../targets/flagcast.ts';

const smallClients = 5;
const steps = { commits: 100, pauseLimitMs: 40 };
const warmUpCommits = 20;
const largeEventsPerSecond = 50;
/** Limit of the small channel's p99 while the large one is busy, relative to its p99 alone. */
const boundOverAlone = 3;
/** Indexes of the two channels. */
const large = 0;
const small = 1;

export const fairness = benchmark({
  summary: 'latency of a small channel while a large one is busy (2 minutes)',
  options: { clients: 5_000, rounds: 5 },
  measure: async (bench, { clients, rounds }) => {
    const flagcast = await startFlagcast(bench, { channels: 2, clients });
    const receivers = new Receivers(bench.run, clients);
    await receivers.connect(flagcast, { clients });
    const probe = await flagcast.probe(flagcast.port, small, smallClients);
    await probe.latencies({ ...steps, commits: warmUpCommits });

    const perSecond: number[] = [];
    let incomplete = 0;
    const alone = { name: 'alone' };
    const busy = { name: `with ${clients} busy clients` };
    const measured = await bench.rounds(rounds, [busy, alone], async (target) => {
      if (target === alone) return percentiles(await probe.latencies(steps));
      const before = await receivers.count();
      const startedAtMs = performance.now();
      const ending = new AbortController();
      const publishing = repeatAtRate(largeEventsPerSecond, ending.signal, async () => {
        await flagcast.publish([large]);
      });
      const latencies = await probe.latencies(steps);
      ending.abort();
      const published = Array.from({ length: await publishing }, () => large);
      if (!(await receivers.expect(published))) incomplete += 1;
      const { events } = await receivers.count();
      perSecond.push(((events - before.events) * 1_000) / (performance.now() - startedAtMs));
      return percentiles(latencies);
    });
    const { lost } = await receivers.disconnect();
    const [ofBusy = [], ofAlone = []] = measured.map((each) => each.rounds);
    const over = ratio(ofBusy, ofAlone, ({ p99 }) => p99);
    return {
      title: `Latency from COMMIT to the message in a channel of ${smallClients} clients, in ms, alone and while another of ${clients} clients gets ${largeEventsPerSecond} events/s: median of ${rounds} rounds (lowest-highest round)`,
      tables: [
        { rows: rowsOf(measured) },
        { rows: [{ 'p99 over alone': over, 'deliveries/s of the large channel': spread(perSecond) }] },
      ],
      bounds: [
        atMost(
          'p99 of the small channel while the large one is busy over alone',
          over.median,
          boundOverAlone,
        ),
        none('closed connections of the large channel', lost),
        none('rounds with missing events of the large channel', incomplete),
      ],
    };
  },
});
