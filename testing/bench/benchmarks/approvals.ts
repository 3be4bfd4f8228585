import { setTimeout as delay } from 'node:timers/promises';
import { type Client, createClient } from '@flagcast/client';
import { approvals as openApprovals } from '@flagcast/client/approvals';
import { WebSocket } from 'ws';
import { nowMs } from '../../testkit/child.ts';
import { pollUntil } from '../../testkit/poll.ts';
import { atMost, none } from '../../testkit/report.ts';
import { insertRequest } from '../../testkit/writers.ts';
import { type Bench, benchmark } from '../benchmark.ts';
import { countCalls } from '../load/statements.ts';
import { percentiles, rowsOf } from '../rounds.ts';
import { startFlagcast } from '../targets/flagcast.ts';

const environments = 60;
const commits = { warmUp: 20, measured: 100 };
/** The pause before each step, in milliseconds, so that each has a read of its own. */
const pauseMs = 100;
/** Time limit for all feeds to be live, and for an event to arrive, in milliseconds. */
const limitMs = 60_000;
/** The reads of many clients over those of one. */
const readsLimit = 1.2;
/** Queries that come with time, such as rechecks of rights. */
const othersLimit = 0.1;

export const approvals = benchmark({
  summary:
    'requests in 60 environments to clients with the approvals feed: latency, reads, HTTP requests (2 minutes)',
  options: { clients: 200, rounds: 3 },
  settings: { shared_preload_libraries: 'pg_stat_statements' },
  measure: async (bench, { clients, rounds }) => {
    const one = await startFeeds(bench, 1);
    const many = await startFeeds(bench, clients);
    const measured = await bench.rounds(rounds, [one, many], async (feeds) => {
      await feeds.commit(commits.warmUp);
      await feeds.database.client.query('SELECT pg_stat_statements_reset()');
      const requestsBefore = feeds.httpRequests();
      const latencies = await feeds.commit(commits.measured);
      const callsOf = async (pattern: string) => {
        const calls = await countCalls(feeds.database.client, pattern);
        return [...calls.values()].reduce((sum, count) => sum + count, 0) / commits.measured;
      };
      const { p50, p99 } = percentiles(latencies);
      const reads = await callsOf(String.raw`^\s*SELECT.*flagcast\.event_log`);
      return {
        ...{ p50, p99 },
        // Most are the reads in the 100 ms after one that has found something.
        'reads a step': reads,
        // The writer and its triggers execute no other SELECT.
        'other queries a step': (await callsOf(String.raw`^\s*(SELECT|WITH)`)) - reads,
        'HTTP requests': feeds.httpRequests() - requestsBefore,
      };
    });
    const rows = rowsOf(measured);
    const [ofOne, ofMany] = rows;
    const median = (row: typeof ofOne, figure: 'reads a step' | 'other queries a step'): number =>
      row?.[figure].median ?? NaN;
    const others = median(ofMany, 'other queries a step') - median(ofOne, 'other queries a step');
    return {
      title: `From sending COMMIT of a step to its event in each client's store, in ms: ${environments} environments, median of ${rounds} rounds of ${commits.measured} steps (lowest-highest round)`,
      tables: [{ rows }],
      bounds: [
        atMost(
          `reads of ${clients} clients over those of one`,
          median(ofMany, 'reads a step') / median(ofOne, 'reads a step'),
          readsLimit,
        ),
        atMost(`more queries a step with ${clients} clients than with one`, others, othersLimit, ''),
        none('HTTP requests', ofMany?.['HTTP requests'].high ?? NaN),
      ],
    };
  },
});

/** Opens clients of the client library with the feed of one user who may view all environments. */
async function startFeeds(bench: Bench, count: number) {
  const flagcast = await startFlagcast(bench, { channels: environments, clients: count });
  await flagcast.database.client.query('CREATE EXTENSION pg_stat_statements');
  let httpRequests = 0;
  const arrivals = new Map<string, number[]>();
  bench.step(`connecting ${count} clients`);
  const feeds = Array.from({ length: count }, () => {
    const client: Client = createClient({
      url: flagcast.url,
      getToken: () => flagcast.token(flagcast.database.user),
      WebSocket,
      // A user gets two snapshots at a time; the other requests are refused, and repeated.
      onError: () => undefined,
      fetch: async (...request) => {
        httpRequests += 1;
        return await fetch(...request);
      },
    });
    bench.run.defer(async () => {
      client.close();
      await Promise.resolve();
    });
    const feed = openApprovals(client);
    feed.onEvent(({ pending_change_id: id, action }) => arrivals.get(`${id} ${action}`)?.push(nowMs()));
    return feed;
  });
  const { signal } = bench.run;
  const isLive = () => feeds.every((feed) => feed.getState().status.state === 'live');
  if (!(await pollUntil(limitMs, isLive, { signal }))) throw new Error('The feeds are not live');
  return {
    name: `${count} clients`,
    database: flagcast.database,
    httpRequests: () => httpRequests,
    /** Commits steps: requests, each with its cancellation. Returns the milliseconds from COMMIT to each client. */
    commit: async (steps: number): Promise<number[]> => {
      const latencies: number[] = [];
      let id = '';
      for (let index = 0; index < steps; index += 1) {
        await delay(pauseMs, undefined, { signal });
        const received: number[] = [];
        await flagcast.database.client.query('BEGIN');
        if (index % 2 === 0) {
          const channel = flagcast.channel(index % environments);
          id = await insertRequest(flagcast.database.client, channel, channel.featureId);
        } else await flagcast.database.client.query(cancel, [id]);
        arrivals.set(`${id} ${index % 2 === 0 ? 'pending' : 'cancelled'}`, received);
        const sentAtMs = nowMs();
        await flagcast.database.client.query('COMMIT');
        if (!(await pollUntil(limitMs, () => received.length === count, { signal }))) {
          throw new Error(`The step arrived at ${received.length} of ${count} clients`);
        }
        latencies.push(...received.map((atMs) => atMs - sentAtMs));
      }
      return latencies;
    },
  };
}

const cancel = "UPDATE pending_changes SET status = 'cancelled' WHERE id = $1";
