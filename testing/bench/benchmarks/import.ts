import { setTimeout as delay } from 'node:timers/promises';
import { memoryOf } from '../../testkit/process-figures.ts';
import { atMost, none } from '../../testkit/report.ts';
import { writeMany } from '../../testkit/writers.ts';
import { benchmark } from '../benchmark.ts';
import { Receivers } from '../load/receivers.ts';
import { percentiles } from '../rounds.ts';
import { startFlagcast } from '../targets/flagcast.ts';

/** Indexes of the channel of the import and of another one. */
const imported = 0;
const other = 1;
const pauseLimitMs = 100;
const warmUpCommits = 30;
/** Time limit for all clients to receive the import, in milliseconds. */
const arrivalLimitMs = 40 * 60_000;
const otherP99LimitMs = 500;
const memoryLimitMb = 150;

export const importRows = benchmark({
  summary: 'many audit rows in one statement: latency of another channel, memory (10 minutes)',
  isLong: true,
  options: { clients: 50, rows: 1_000_000 },
  measure: async (bench, { clients, rows }) => {
    const flagcast = await startFlagcast(bench, { channels: 2, clients });
    const receivers = new Receivers(bench.run, clients);
    await receivers.connect(flagcast, { clients });
    const probe = await flagcast.probe(flagcast.port, other);
    await probe.latencies({ commits: warmUpCommits, pauseLimitMs });
    const { residentBytes } = await memoryOf([flagcast.pid]);

    bench.step(`${rows} rows in one statement`);
    const startedAtMs = performance.now();
    const latencies: number[] = [];
    let peakBytes = residentBytes;
    const arrival = new AbortController();
    const measuring = (async () => {
      while (!arrival.signal.aborted) {
        latencies.push(...(await probe.latencies({ commits: 1, pauseLimitMs })));
        peakBytes = Math.max(peakBytes, (await memoryOf([flagcast.pid])).residentBytes);
      }
    })();
    await writeMany(flagcast.database.client, flagcast.channel(imported), rows);
    const committedMs = performance.now() - startedAtMs;
    let count = await receivers.count();
    while (
      count.events < rows * clients &&
      count.lost === 0 &&
      performance.now() - startedAtMs < arrivalLimitMs
    ) {
      await delay(1_000, undefined, { signal: bench.run.signal });
      count = await receivers.count();
      bench.step(`${count.events} of ${rows * clients} deliveries`);
    }
    const seconds = (performance.now() - startedAtMs) / 1_000;
    arrival.abort();
    await measuring;

    const delays = percentiles(latencies);
    const growthMb = (peakBytes - residentBytes) / 2 ** 20;
    return {
      title: `${rows} rows in one statement, ${clients} clients of their channel`,
      tables: [
        {
          rows: [
            {
              'committed after, s': committedMs / 1_000,
              'delivered after, s': seconds,
              'deliveries/s': count.events / seconds,
              'MB above idle': growthMb,
            },
          ],
        },
        { caption: 'Another channel meanwhile, in ms', rows: [{ commits: latencies.length, ...delays }] },
      ],
      bounds: [
        atMost('p99 of another channel during the import', delays.p99, otherP99LimitMs, ' ms'),
        atMost('growth of the resident memory of the server', growthMb, memoryLimitMb, ' MB'),
        none('missing events', rows * clients - count.events),
        none('closed connections', count.lost),
      ],
    };
  },
});
