import { setTimeout as delay } from 'node:timers/promises';
import { createClient } from '@flagcast/client';
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
      await feeds.writer.query('SELECT pg_stat_statements_reset()');
      const requestsBefore = feeds.httpRequests();
      const latencies = await feeds.commit(commits.measured);
      const callsOf = async (pattern: string) => {
        const calls = await countCalls(feeds.writer, pattern);
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
    const medians = (figure: 'reads a step' | 'other queries a step') =>
      [ofOne?.[figure].median ?? NaN, ofMany?.[figure].median ?? NaN] as const;
    const [readsOfOne, readsOfMany] = medians('reads a step');
    const [othersOfOne, othersOfMany] = medians('other queries a step');
    return {
      title: `From sending COMMIT of a step to its event in each client's store, in ms: ${environments} environments, median of ${rounds} rounds of ${commits.measured} steps (lowest-highest round)`,
      tables: [{ rows }],
      bounds: [
        atMost(`reads of ${clients} clients over those of one`, readsOfMany / readsOfOne, readsLimit),
        atMost('more queries a step than with one client', othersOfMany - othersOfOne, othersLimit, ''),
        none('HTTP requests', ofMany?.['HTTP requests'].high ?? NaN),
      ],
    };
  },
});

/** Opens clients of the client library with the feed of one user who may view all environments. */
async function startFeeds(bench: Bench, count: number) {
  const { signal } = bench.run;
  const flagcast = await startFlagcast(bench, { channels: environments, clients: count });
  const { client: writer, user } = flagcast.database;
  await writer.query('CREATE EXTENSION pg_stat_statements');
  let httpRequests = 0;
  /** When each client has received the current step. */
  let arrivals: number[] = [];
  bench.step(`connecting ${count} clients`);
  const feeds = Array.from({ length: count }, () => {
    const client = createClient({
      url: flagcast.url,
      getToken: () => flagcast.token(user),
      WebSocket,
      // A user gets two snapshots at a time; the other requests are refused, and repeated.
      onError: () => undefined,
      fetch: async (...request) => {
        httpRequests += 1;
        return await fetch(...request);
      },
    });
    signal.addEventListener('abort', () => client.close());
    const feed = openApprovals(client);
    feed.onEvent(() => arrivals.push(nowMs()));
    return feed;
  });
  const isLive = () => feeds.every((feed) => feed.getState().status.state === 'live');
  if (!(await pollUntil(limitMs, isLive, { signal }))) throw new Error('The feeds are not live');
  const step = async (index: number, id: string): Promise<string> => {
    const channel = flagcast.channel(index % environments);
    if (index % 2 === 0) return await insertRequest(writer, channel, channel.featureId);
    await writer.query("UPDATE pending_changes SET status = 'cancelled' WHERE id = $1", [id]);
    return id;
  };
  return {
    name: `${count} clients`,
    writer,
    httpRequests: () => httpRequests,
    /** Commits steps: requests, each with its cancellation. Returns the milliseconds from COMMIT to each client. */
    commit: async (steps: number): Promise<number[]> => {
      const latencies: number[] = [];
      let id = '';
      for (let index = 0; index < steps; index += 1) {
        await delay(pauseMs, undefined, { signal });
        arrivals = [];
        await writer.query('BEGIN');
        id = await step(index, id);
        const sentAtMs = nowMs();
        await writer.query('COMMIT');
        if (!(await pollUntil(limitMs, () => arrivals.length === count, { signal }))) {
          throw new Error(`The step arrived at ${arrivals.length} of ${count} clients`);
        }
        latencies.push(...arrivals.map((atMs) => atMs - sentAtMs));
      }
      return latencies;
    },
  };
}
