import { setTimeout as delay } from 'node:timers/promises';
import { V1Client } from '../../testkit/clients/v1-client.ts';
import { createMembers } from '../../testkit/postgres.ts';
import { memoryOf } from '../../testkit/process-figures.ts';
import { atMost, none } from '../../testkit/report.ts';
import { writeMany } from '../../testkit/writers.ts';
import { benchmark } from '../benchmark.ts';
import { percentile } from '../rounds.ts';
import { prepareFlagcast } from '../targets/flagcast.ts';

const searches = 60;
const otherUsers = 5;
const quietMs = 10_000;
const p95LimitMs = 500;

export const search = benchmark({
  summary: `${searches} searches of one user at a time in a large history: what other users wait (2 minutes)`,
  options: { rows: 1_000_000, seconds: 30 },
  measure: async (bench, { rows, seconds }) => {
    const prepared = await prepareFlagcast(bench, { channels: 1, clients: 1 });
    const { client } = prepared.database;
    const channel = prepared.channel(0);
    bench.step(`writing ${rows} rows`);
    await writeMany(client, channel, rows);
    await client.query('ANALYZE audit_log');
    const viewers = await createMembers(client, channel.projectId, 1 + otherUsers, 'project_viewer');
    const [viewer = '', ...others] = viewers.map(prepared.token);
    const { port, pid } = await prepared.serve();
    const query = { project_id: channel.projectId, env_id: channel.environmentId, username: 'nobody' };
    const url = `http://127.0.0.1:${port}/api/audit?${new URLSearchParams(query).toString()}`;

    bench.step('without searches');
    const quiet = await serveOthers(port, others, quietMs);
    const before = await memoryOf([pid]);
    bench.step(`${searches} searches at a time`);
    const end = new AbortController();
    const searching = Array.from(
      { length: searches },
      async () => await searchUntil(end.signal, url, viewer),
    );
    const busy = await serveOthers(port, others, seconds * 1_000);
    end.abort();
    const answers = (await Promise.all(searching)).flat();
    const after = await memoryOf([pid]);

    const answered = answers.filter(({ status }) => status === 200).map(({ ms }) => ms);
    const row = (name: string, samples: readonly number[]) => {
      const [p50 = NaN, p95 = NaN, max = NaN] = [0.5, 0.95, 1].map((part) => percentile(samples, part));
      return { '': name, requests: samples.length, p50, p95, max };
    };
    const [me, connects] = [row('/api/auth/me', busy.me), row('WebSocket connect', busy.connects)];
    const megabytes = (after.residentBytes - before.residentBytes) / 2 ** 20;
    return {
      title: `${rows} audit rows, ${searches} searches of one user at a time for ${seconds} s, ${otherUsers} other users; in ms`,
      tables: [
        {
          caption: 'Without searches',
          rows: [row('/api/auth/me', quiet.me), row('WebSocket connect', quiet.connects)],
        },
        { caption: 'With searches', rows: [me, connects, row('searches that were answered', answered)] },
        {
          rows: [
            { 'searches refused': answers.length - answered.length, 'MB of the server more': megabytes },
          ],
        },
      ],
      bounds: [
        atMost('p95 of /api/auth/me of other users', me.p95, p95LimitMs, ' ms'),
        atMost('p95 of WebSocket connects of other users', connects.p95, p95LimitMs, ' ms'),
        none('requests of other users that were refused', quiet.refused + busy.refused),
      ],
    };
  },
});

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
