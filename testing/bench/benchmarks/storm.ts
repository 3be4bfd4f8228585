import { setTimeout as delay } from 'node:timers/promises';
import { nowMs } from '../../testkit/child.ts';
import { atMost, none } from '../../testkit/report.ts';
import { benchmark } from '../benchmark.ts';
import { Receivers } from '../load/receivers.ts';
import { countCalls } from '../load/statements.ts';
import { percentile, spreads } from '../rounds.ts';
import { prepareFlagcast } from '../targets/flagcast.ts';

/** Events that are committed while the server is down. */
const missed = [0, 0, 0];
/** Statements of a server without clients are recorded for this long, in milliseconds; they do not count. */
const baselineMs = 5_000;
const boundSeconds = 5;
const boundQueries = 10;

export const storm = benchmark({
  summary: 'clients lose their server and resume: duration, queries (2 minutes)',
  options: { clients: 5_000, rounds: 5 },
  settings: { shared_preload_libraries: 'pg_stat_statements' },
  measure: async (bench, { clients, rounds }) => {
    const prepared = await prepareFlagcast(bench, { channels: 1, clients });
    const { database, publish, serve } = prepared;
    await database.client.query('CREATE EXTENSION pg_stat_statements');
    let server = await serve();
    const { port } = server;
    await publish(missed);
    await delay(baselineMs, undefined, { signal: bench.run.signal });
    const withoutClients = await countCalls(database.client);
    bench.step(`connecting ${clients} clients`);
    const receivers = new Receivers(bench.run, clients);
    await receivers.connect({ ...prepared, port, dialect: 'flagcast.v1' }, { clients, resumes: true });
    const measured = await bench.rounds(rounds, [{ name: `${clients} clients` }], async () => {
      // After this event every client has a current cursor.
      const current = receivers.expect([0]);
      await publish([0]);
      await current;
      await database.client.query('SELECT pg_stat_statements_reset()');
      const live = receivers.expectLive();
      const arriving = receivers.expect(missed);
      const killedAtMs = nowMs();
      await server.kill();
      await publish(missed);
      server = await serve({ port });
      const returnedAtMs = nowMs();
      const seconds = (await live).map((atMs) => Math.max(0, atMs - returnedAtMs) / 1_000);
      const missing = (await arriving) === null ? 1 : 0;
      const calls = [...(await countCalls(database.client))].filter(([id]) => !withoutClients.has(id));
      return {
        'server unavailable, s': (returnedAtMs - killedAtMs) / 1_000,
        'until half are live, s': percentile(seconds, 0.5),
        'until all are live, s': percentile(seconds, 1),
        queries: calls.reduce((total, [, count]) => total + count, 0),
        'with missing events': missing,
      };
    });
    await receivers.disconnect();
    const figures = spreads(measured.flatMap((each) => each.rounds));
    return {
      title: `${clients} flagcast.v1 clients lose their server: median of ${rounds} rounds (lowest-highest round)`,
      tables: [{ rows: [figures] }],
      bounds: [
        atMost(
          `until all ${clients} are live again`,
          figures['until all are live, s'].median,
          boundSeconds,
          ' s',
        ),
        atMost('queries for the reconnects', figures.queries.median, boundQueries, ''),
        none('rounds with missing events', figures['with missing events'].high),
      ],
    };
  },
});
