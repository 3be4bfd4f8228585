import { cpuMsOf } from '../../testkit/process-figures.ts';
import { atLeast, none } from '../../testkit/report.ts';
import { benchmark } from '../benchmark.ts';
import { Receivers } from '../load/receivers.ts';
import { rowsOf } from '../rounds.ts';
import { type PreparedFlagcast, prepareFlagcast } from '../targets/flagcast.ts';

const warmUpEvents = 50;
const eventsPerRound = 200;
/** Least capacity of two processes, each on its own core, relative to one. */
const boundCapacity = 1.7;

export const workers = benchmark({
  summary: 'throughput and distribution of work of serve --workers (2 minutes)',
  options: { clients: 1_000, rounds: 5, workers: 2 },
  measure: async (bench, { clients, rounds, workers: most }) => {
    const prepared = await prepareFlagcast(bench, { channels: 1, clients });
    const receivers = new Receivers(bench.run, clients);
    const targets = [1, most].map((count) => ({ name: `${count} workers`, count }));
    const measured = await bench.rounds(rounds, targets, async ({ count }) => {
      return await measureWorkers(prepared, receivers, count, clients);
    });
    const rows = rowsOf(measured);
    const [one = NaN, several = NaN] = rows.map((row) => row['µs of the busiest'].median);
    return {
      title: `serve --workers: ${eventsPerRound} events, each after all ${clients} clients have received the previous one: median of ${rounds} rounds (lowest-highest round)`,
      tables: [{ rows }],
      bounds: [
        // The clients' processes share the cores with the servers, so the busiest process determines the capacity.
        atLeast(
          `deliveries of ${most} workers, each on its own core, over one`,
          one / several,
          boundCapacity,
        ),
        ...rows.flatMap(({ target, missing, lost }) => [
          none(`${target}: missing events`, missing.high),
          none(`${target}: closed connections`, lost.high),
        ]),
      ],
    };
  },
});

async function measureWorkers(
  prepared: PreparedFlagcast,
  receivers: Receivers,
  count: number,
  clients: number,
) {
  const server = await prepared.serve({ workers: count });
  await receivers.connect({ ...prepared, port: server.port }, { clients });
  // Events that are committed during a delivery would be batched, the more the busier the machine is.
  const publish = async (events: number) => {
    for (let event = 0; event < events; event += 1) {
      const arriving = receivers.expect([0]);
      await prepared.publish([0]);
      await arriving;
    }
  };
  await publish(warmUpEvents);
  // With several workers, the first process is the primary, which only supervises.
  const serving = (await server.pids()).slice(count === 1 ? 0 : 1);
  const cpuMs = async () => await Promise.all(serving.map(async (pid) => await cpuMsOf([pid])));
  const before = await receivers.count();
  const cpuMsBefore = await cpuMs();
  const startedAtMs = performance.now();
  await publish(eventsPerRound);
  const tookMs = performance.now() - startedAtMs;
  const cpuMsAfter = await cpuMs();
  const { events, lost } = await receivers.disconnect();
  await server.end();
  const delivered = events - before.events;
  const usOfEach = cpuMsAfter.map((ms, index) => ((ms - (cpuMsBefore[index] ?? 0)) * 1_000) / delivered);
  const totalUs = usOfEach.reduce((sum, us) => sum + us, 0);
  const busiestUs = Math.max(...usOfEach);
  return {
    'deliveries/s': (delivered * 1_000) / tookMs,
    'µs of all': totalUs,
    'µs of the busiest': busiestUs,
    'its share in %': (busiestUs / totalUs) * 100,
    missing: eventsPerRound * clients - delivered,
    lost,
  };
}
