import type { FlagIds } from '../../testkit/channel.ts';
import { createDatabase } from '../../testkit/postgres.ts';
import { atLeast, atMost } from '../../testkit/report.ts';
import { writeMany } from '../../testkit/writers.ts';
import { benchmark } from '../benchmark.ts';
import { commitUntil, connectMany } from '../load/writers.ts';
import { ratio, spread } from '../rounds.ts';

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
export const hostCost = benchmark({
  summary: "the host's writers with and without the triggers (3 minutes)",
  options: { rounds: 5, seconds: 3 },
  measure: async (bench, { rounds, seconds }) => {
    const { run } = bench;
    const without = await createDatabase(run, bench.postgres, 'bench_without');
    // CASCADE drops the triggers of Flagcast with their functions.
    for (const name of ['audit', 'request', 'decision', 'channel', 'rights']) {
      await without.client.query(`DROP FUNCTION flagcast.log_${name} CASCADE`);
    }
    const flagcast = await createDatabase(run, bench.postgres, 'bench_with');
    const target = async (name: string, url: string, channel: FlagIds) => ({
      ...{ name, channel },
      sessions: await connectMany(run, url, most),
    });
    const ours = await target('with', flagcast.url, flagcast.channels[0]);
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
    return {
      title: `Writers with and without the triggers: median of ${rounds} rounds in turns (lowest-highest round)`,
      tables: [{ rows: [...rows, bulk] }],
      bounds: [
        ...bounds,
        atMost('rows in one statement, with triggers over without', bulk.ratio.median, bulkLimit),
      ],
    };
  },
});
