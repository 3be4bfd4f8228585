import { setTimeout as delay } from 'node:timers/promises';
import { V1Client } from '../../testkit/clients/v1-client.ts';
import { pollUntil } from '../../testkit/poll.ts';
import { createMembers } from '../../testkit/postgres.ts';
import { memoryOf } from '../../testkit/process-figures.ts';
import { atMost, none } from '../../testkit/report.ts';
import { writeMany } from '../../testkit/writers.ts';
import { type Bench, benchmark } from '../benchmark.ts';
import { Receivers } from '../load/receivers.ts';
import { percentile, percentiles } from '../rounds.ts';
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
/** Searches of one user at a time, and the users who wait for other answers meanwhile. */
const searches = 60;
const otherUsers = 5;
const quietMs = 10_000;
const p95LimitMs = 500;

type Flagcast = Awaited<ReturnType<typeof startFlagcast>>;

export const importRows = benchmark({
  summary: 'many audit rows in one statement, and searches in them: latency of others, memory (10 minutes)',
  isLong: true,
  options: { clients: 50, rows: 1_000_000, seconds: 30 },
  measure: async (bench, { clients, rows, seconds }) => {
    const flagcast = await startFlagcast(bench, { channels: 2, clients });
    const { delivered, delays, committed, missing, lost } = await measureImport(
      bench,
      flagcast,
      clients,
      rows,
    );
    const { tables, waiting, refused } = await measureSearches(bench, flagcast, seconds);
    return {
      title: `${rows} rows in one statement, ${clients} clients of their channel; then ${searches} searches in them of one user at a time for ${seconds} s, ${otherUsers} other users`,
      tables: [
        { rows: [delivered] },
        { caption: 'Another channel meanwhile, in ms', rows: [{ commits: committed, ...delays }] },
        ...tables,
      ],
      bounds: [
        atMost('p99 of another channel during the import', delays.p99, otherP99LimitMs, ' ms'),
        atMost(
          'growth of the resident memory of the server',
          delivered['MB above idle'],
          memoryLimitMb,
          ' MB',
        ),
        none('missing events', missing),
        none('closed connections', lost),
        ...waiting.map((row) => atMost(`p95 of ${row['']} of other users`, row.p95, p95LimitMs, ' ms')),
        none('requests of other users that were refused', refused),
      ],
    };
  },
});

async function measureImport({ run, step }: Bench, flagcast: Flagcast, clients: number, rows: number) {
  const receivers = new Receivers(run, clients);
  await receivers.connect(flagcast, { clients });
  const probe = await flagcast.probe(flagcast.port, other);
  await probe.latencies({ commits: warmUpCommits, pauseLimitMs });
  const megabytes = async () => (await memoryOf([flagcast.pid])).residentBytes / 2 ** 20;
  const idleMb = await megabytes();
  step(`${rows} rows in one statement`);
  const startedAtMs = performance.now();
  const secondsSince = () => (performance.now() - startedAtMs) / 1_000;
  const latencies: number[] = [];
  let peakMb = idleMb;
  const arrival = new AbortController();
  const measuring = (async () => {
    while (!arrival.signal.aborted) {
      latencies.push(...(await probe.latencies({ commits: 1, pauseLimitMs })));
      peakMb = Math.max(peakMb, await megabytes());
    }
  })();
  await writeMany(flagcast.database.client, flagcast.channel(imported), rows);
  const committedAfter = secondsSince();
  let count = await receivers.count();
  const hasArrived = async () => {
    count = await receivers.count();
    step(`${count.events} of ${rows * clients} deliveries`);
    return count.events >= rows * clients || count.lost > 0;
  };
  await pollUntil(arrivalLimitMs, hasArrived, { signal: run.signal, intervalMs: 1_000 });
  const deliveredAfter = secondsSince();
  arrival.abort();
  await measuring;
  await receivers.disconnect();
  return {
    delivered: {
      'committed after, s': committedAfter,
      'delivered after, s': deliveredAfter,
      'deliveries/s': count.events / deliveredAfter,
      'MB above idle': peakMb - idleMb,
    },
    delays: percentiles(latencies),
    committed: latencies.length,
    missing: rows * clients - count.events,
    lost: count.lost,
  };
}

/** One user searches the history, of which no row matches; others load `/api/auth/me` and connect. */
async function measureSearches({ step }: Bench, flagcast: Flagcast, seconds: number) {
  const { port, database, token } = flagcast;
  const channel = flagcast.channel(imported);
  await database.client.query('ANALYZE audit_log');
  const viewers = await createMembers(database.client, channel.projectId, 1 + otherUsers, 'project_viewer');
  const [viewer = '', ...others] = viewers.map(token);
  const query = { project_id: channel.projectId, env_id: channel.environmentId, username: 'nobody' };
  const url = `http://127.0.0.1:${port}/api/audit?${new URLSearchParams(query).toString()}`;
  step('without searches');
  const quiet = await serveOthers(port, others, quietMs);
  step(`${searches} searches at a time`);
  const end = new AbortController();
  const searching = Array.from({ length: searches }, async () => await searchUntil(end.signal, url, viewer));
  const busy = await serveOthers(port, others, seconds * 1_000);
  end.abort();
  const answers = (await Promise.all(searching)).flat();
  const answered = answers.filter(({ status }) => status === 200).map(({ ms }) => ms);
  const row = (name: string, samples: readonly number[]) => {
    const [p50 = NaN, p95 = NaN, max = NaN] = [0.5, 0.95, 1].map((part) => percentile(samples, part));
    return { '': name, requests: samples.length, p50, p95, max };
  };
  const rowsOf = ({ me, connects }: typeof quiet) => [
    row('/api/auth/me', me),
    row('WebSocket connects', connects),
  ];
  const waiting = rowsOf(busy);
  return {
    tables: [
      { caption: 'Without searches, in ms', rows: rowsOf(quiet) },
      { caption: 'With searches, in ms', rows: [...waiting, row('searches that were answered', answered)] },
      { rows: [{ 'searches refused': answers.length - answered.length }] },
    ],
    waiting,
    refused: quiet.refused + busy.refused,
  };
}

/** Returns the milliseconds and the status of a request, and its response. */
async function request(url: string, token: string) {
  const startedAtMs = performance.now();
  const response = await fetch(url, { headers: { Authorization: `Bearer ${token}` } });
  const body = (await response.json()) as { readonly next?: string | null };
  return { status: response.status, ms: performance.now() - startedAtMs, body };
}

/** One search after another, each a page further, from the start again at the end. */
async function searchUntil(ended: AbortSignal, url: string, token: string) {
  const answers = [];
  let before = '';
  while (!ended.aborted) {
    const { status, ms, body } = await request(`${url}${before}`, token);
    if (status === 200) before = typeof body.next === 'string' ? `&before=${body.next}` : '';
    answers.push({ status, ms });
  }
  return answers;
}

/** Each user loads `/api/auth/me` and connects, a few times a second. Returns the milliseconds of each request. */
async function serveOthers(port: number, tokens: readonly string[], durationMs: number) {
  const service = { me: [] as number[], connects: [] as number[], refused: 0 };
  const endAtMs = performance.now() + durationMs;
  const serve = async (token: string) => {
    while (performance.now() < endAtMs) {
      const { status, ms } = await request(`http://127.0.0.1:${port}/api/auth/me`, token);
      service.me.push(ms);
      const connectedMs = await connectOnce(port, token);
      service.connects.push(...connectedMs);
      if (status !== 200 || connectedMs.length === 0) service.refused += 1;
      await delay(100 + Math.random() * 100);
    }
  };
  await Promise.all(tokens.map(serve));
  return service;
}

/** Returns the milliseconds until the first message; nothing if the connection was refused. */
async function connectOnce(port: number, token: string): Promise<readonly number[]> {
  const startedAtMs = performance.now();
  try {
    const client = await V1Client.connect(`ws://127.0.0.1:${port}/api/ws`, { token });
    client.socket.once('message', () => client.socket.terminate());
    await client.closed;
    return client.messages.length > 0 ? [performance.now() - startedAtMs] : [];
  } catch {
    return [];
  }
}
