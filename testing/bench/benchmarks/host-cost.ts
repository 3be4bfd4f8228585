import type pg from 'pg';
import type { FlagIds } from '../../testkit/channel.ts';
import { createDatabase } from '../../testkit/postgres.ts';
import { atLeast, atMost, none } from '../../testkit/report.ts';
import { writeMany } from '../../testkit/writers.ts';
import { type Bench, benchmark } from '../benchmark.ts';
import { commitUntil, connectMany } from '../load/writers.ts';
import { percentiles, ratio, spread } from '../rounds.ts';
import { type PreparedFlagcast, prepareFlagcast } from '../targets/flagcast.ts';

/** Numbers of writers, with the least throughput with the triggers relative to without. */
const cases = [
  { count: 1, limit: 0.78 },
  { count: 4, limit: 0.78 },
  { count: 16, limit: 0.8 },
];
const most = 16;
const bulkRows = 100_000;
const bulkLimit = 2;
const warmUpMs = 1_000;
/** Duration of the latency measurement relative to a round. */
const deliveryRounds = 3;
const deliveryP99LimitMs = 30;
/** A message with this latency waited for the poll, whose interval is 1,000 ms. */
const pollWaitMs = 500;

export const hostCost = benchmark({
  summary: "the host's writers with and without the triggers, and latency with 16 writers (3 minutes)",
  options: { rounds: 5, seconds: 3 },
  measure: async (bench, { rounds, seconds }) => {
    const { run } = bench;
    const without = await createDatabase(run, bench.postgres, 'bench_without');
    // CASCADE drops the triggers of Flagcast with their functions.
    for (const name of ['audit', 'request', 'decision', 'channel', 'rights']) {
      await without.client.query(`DROP FUNCTION flagcast.log_${name} CASCADE`);
    }
    const prepared = await prepareFlagcast(bench, { channels: 1, clients: 1 });
    const target = async (name: string, url: string, channel: FlagIds) => ({
      ...{ name, channel },
      sessions: await connectMany(run, url, most),
    });
    const ours = await target('with', prepared.database.url, prepared.channel(0));
    const targets = [ours, await target('without', without.url, without.channels[0])];
    const compare = async (
      name: string,
      measure: (each: typeof ours, isWarmUp: boolean) => Promise<number>,
    ) => {
      bench.step(name);
      for (const each of targets) await measure(each, true);
      const measured = await bench.rounds(rounds, targets, async (each) => await measure(each, false));
      const [own = [], others = []] = measured.map((each) => each.rounds);
      return {
        '': name,
        without: spread(others),
        with: spread(own),
        ratio: ratio(own, others, (value) => value),
      };
    };
    const rows = [];
    const bounds = [];
    for (const { count, limit } of cases) {
      const name = `${count} writers, commits/s`;
      const row = await compare(name, async ({ sessions, channel }, isWarmUp) => {
        const signal = AbortSignal.timeout(isWarmUp ? warmUpMs : seconds * 1_000);
        return await commitUntil(signal, sessions.slice(0, count), { channel: () => channel });
      });
      rows.push(row);
      bounds.push(atLeast(`${name}, with triggers over without`, row.ratio.median, limit));
    }
    const bulk = await compare(
      `${bulkRows} rows in one statement, ms`,
      async ({ sessions, channel }, isWarmUp) => {
        const [session = without.client] = sessions;
        const startedAtMs = performance.now();
        await writeMany(session, channel, isWarmUp ? 1_000 : bulkRows);
        return performance.now() - startedAtMs;
      },
    );
    const delivery = await measureDelivery(bench, prepared, ours.sessions, deliveryRounds * seconds);
    return {
      title: `Writers with and without the triggers: median of ${rounds} rounds in turns (lowest-highest round)`,
      tables: [
        { rows: [...rows, bulk] },
        { caption: `From COMMIT to the message with ${most} writers, in ms`, rows: [delivery] },
      ],
      bounds: [
        ...bounds,
        atMost('rows in one statement, with triggers over without', bulk.ratio.median, bulkLimit),
        atMost('p99 from COMMIT to the message', delivery.p99, deliveryP99LimitMs, ' ms'),
        none('messages that waited for the poll', delivery['waited for the poll']),
        none('lost messages', delivery.lost),
      ],
    };
  },
});

/** Measures the latency to a plain client of the channel that all writers write to. */
async function measureDelivery(
  { step }: Bench,
  prepared: PreparedFlagcast,
  sessions: readonly pg.Client[],
  seconds: number,
) {
  step(`latency with ${most} writers`);
  const { port } = await prepared.serve();
  const probe = await prepared.probe(port, 0);
  const arrivals: Promise<number | null>[] = [];
  await commitUntil(AbortSignal.timeout(seconds * 1_000), sessions, {
    channel: () => prepared.channel(0),
    onCommit: (entityId, sentAtMs) => {
      const arriving = probe.arrivals(entityId).then(([atMs = NaN]) => atMs - sentAtMs);
      arrivals.push(arriving.catch(() => null));
    },
  });
  const delays = (await Promise.all(arrivals)).filter((delayMs) => delayMs !== null);
  return {
    commits: arrivals.length,
    ...percentiles(delays),
    lost: arrivals.length - delays.length,
    'waited for the poll': delays.filter((delayMs) => delayMs >= pollWaitMs).length,
  };
}
