import { setTimeout as delay } from 'node:timers/promises';
import { PlainClient } from '../../testkit/clients/plain-client.ts';
import { V1Client } from '../../testkit/clients/v1-client.ts';
import { createMembers } from '../../testkit/postgres.ts';
import { memoryOf, openFilesOf } from '../../testkit/process-figures.ts';
import { atMost, none } from '../../testkit/report.ts';
import type { TestUser } from '../../testkit/tokens.ts';
import { type Bench, benchmark } from '../benchmark.ts';
import { Receivers } from '../load/receivers.ts';
import { repeatAtRate } from '../load/writers.ts';
import { percentile } from '../rounds.ts';
import { startFlagcast } from '../targets/flagcast.ts';

const channels = 10;
const eventsPerSecond = 20;
/** Users who have the same feature open. Each says so every 4 s; the server forgets a view after 8.5 s. */
const viewerCount = 50;
const announcementsPerSecond = viewerCount / 4;
/** Short-lived connections: how many a second, and how long each stays, in milliseconds. */
const visitsPerSecond = 10;
const stayMs = 1_000;
const sampleIntervalMs = 15_000;
/** Pause in milliseconds, longer than idle connections are kept open for reuse. */
const idleCloseMs = 15_000;
/** A row of the event log can be this much older than the retention: old rows are deleted once a minute. */
const retentionSlackSeconds = 75;
const boundGrowth = 1.05;
const boundDelayMs = 50;

export const soak = benchmark({
  summary: 'a steady load on many connections: growth of memory and event log, leaks, delays (30 minutes)',
  isLong: true,
  options: { clients: 5_000, minutes: 30 },
  measure: async (bench, { clients, minutes }) => {
    const { signal } = bench.run;
    // Rows of the event log expire while the run lasts.
    const retentionMinutes = Math.ceil(minutes / 3);
    const env = { FLAGCAST_LOG_RETENTION: `${retentionMinutes}m` };
    const flagcast = await startFlagcast(bench, { channels, clients, env });
    const { port, pid } = flagcast;
    await delay(idleCloseMs, undefined, { signal });
    const filesBefore = await openFilesOf(pid);
    const groups = [];
    for (const dialect of ['text', 'flagcast.v1'] as const) {
      const receivers = new Receivers(bench.run, clients / 2);
      await receivers.connect({ ...flagcast, dialect }, { clients: Math.ceil(clients / 2), channels });
      groups.push(receivers);
    }
    const ending = new AbortController();
    const publishing = repeatAtRate(eventsPerSecond, ending.signal, async (number) => {
      await flagcast.publish([number % channels]);
    });
    const url = `ws://127.0.0.1:${port}${flagcast.path(0)}`;
    const visits: Promise<boolean>[] = [];
    const visiting = repeatAtRate(
      visitsPerSecond,
      ending.signal,
      (number) => void visits.push(visit(url, flagcast.headers, number % 2 === 0)),
    );
    const viewers = await openViewers(bench, flagcast);
    const announcing = repeatAtRate(announcementsPerSecond, ending.signal, (number) =>
      viewers[number % viewerCount]?.announce(`field-${number % 3}`),
    );
    const firstRows = await countLogRows(flagcast);
    const samples = await takeSamples(bench, flagcast, minutes);
    const unseen = viewers.filter(({ seen }) => seen !== viewerCount).length;
    ending.abort();
    await announcing;
    for (const { client } of viewers) await client.close();
    await visiting;
    const failed = (await Promise.all(visits)).filter((succeeded) => !succeeded).length;
    const published = Array.from({ length: await publishing }, (_, number) => number % channels);

    const arrivals = await Promise.all(groups.map(async (receivers) => await receivers.expect(published)));
    const counts = await Promise.all(groups.map(async (receivers) => await receivers.disconnect()));
    await delay(idleCloseMs, undefined, { signal });
    const leakedFiles = (await openFilesOf(pid)) - filesBefore;
    const quarters = quartersOf(samples);
    const [, second, , last] = quarters.map((quarter) => quarter['MB resident (median)']);
    const mostRows = Math.max(...samples.map(({ logRows }) => logRows));
    const slowestMs = Math.max(...samples.slice(1).map(({ delayMs }) => delayMs));
    const deliveries = counts.reduce((sum, { events }) => sum + events, 0);
    return {
      title: `${clients} connections, half plain and half flagcast.v1, on ${channels} channels for ${minutes} minutes: ${published.length} events, ${deliveries} deliveries, ${visits.length} short-lived connections, ${viewerCount} users with the same feature open`,
      tables: [{ rows: quarters }],
      bounds: [
        // The first quarter is the warm-up: replay buffers fill, and code is compiled.
        atMost('memory of the last quarter over the second', (last ?? NaN) / (second ?? NaN), boundGrowth),
        atMost(
          `event loop delay, highest p99 of ${sampleIntervalMs / 1_000} s`,
          slowestMs,
          boundDelayMs,
          ' ms',
        ),
        atMost(
          'rows of the event log',
          mostRows,
          firstRows + eventsPerSecond * (60 * retentionMinutes + retentionSlackSeconds),
          '',
        ),
        none('leaked open files', leakedFiles),
        none('groups of clients with missing events', arrivals.filter((arrival) => arrival === null).length),
        none('closed connections', Math.max(...counts.map(({ lost }) => lost))),
        none('failed short-lived connections', failed),
        none('users who do not see all who have the same feature open', unseen),
      ],
    };
  },
});

/** Connects users who may view the first channel. `seen`: how many users have the feature open, by its newest message. */
async function openViewers(
  { run }: Bench,
  { port, database, channel, token }: Awaited<ReturnType<typeof startFlagcast>>,
) {
  const { projectId, environmentId, featureId } = channel(0);
  const ids = { project_id: projectId, env_id: environmentId };
  const members = await createMembers(database.client, projectId, viewerCount, 'project_viewer');
  const open = async (member: TestUser) => {
    let seen = 0;
    const client = await V1Client.connect(`ws://127.0.0.1:${port}/api/ws`, {
      token: token(member),
      query: ids,
      onMessage: (message) => {
        if ('count' in message) seen = message.count;
      },
    });
    run.defer(() => client.socket.terminate());
    const announce = (field: string) =>
      client.send({ type: 'announce', view: member.id, ...ids, feature_id: featureId, field });
    return {
      client,
      announce,
      get seen() {
        return seen;
      },
    };
  };
  return await Promise.all(members.map(open));
}

async function takeSamples(
  { run, step }: Bench,
  flagcast: Awaited<ReturnType<typeof startFlagcast>>,
  minutes: number,
) {
  const { pid } = flagcast;
  /** Since the previous call. */
  const delayMs = async () =>
    (await flagcast.metric('flagcast_event_loop_delay_seconds{statistic="p99"}')) * 1_000;
  const samples = [];
  const startedAtMs = performance.now();
  const count = Math.floor((minutes * 60_000) / sampleIntervalMs);
  await delayMs();
  for (let number = 1; number <= count; number += 1) {
    const restMs = startedAtMs + number * sampleIntervalMs - performance.now();
    await delay(Math.max(1, restMs), undefined, { signal: run.signal });
    samples.push({
      megabytes: (await memoryOf([pid])).residentBytes / 1e6,
      openFiles: await openFilesOf(pid),
      delayMs: await delayMs(),
      logRows: await countLogRows(flagcast),
    });
    step(`${number} of ${count}: ${JSON.stringify(samples.at(-1))}`);
  }
  return samples;
}

async function countLogRows({ database }: Awaited<ReturnType<typeof startFlagcast>>): Promise<number> {
  const { rows } = await database.client.query<{ count: number }>(
    'SELECT count(*)::int AS count FROM flagcast.event_log',
  );
  return rows[0]?.count ?? NaN;
}

type Sample = Awaited<ReturnType<typeof takeSamples>>[number];

function quartersOf(samples: readonly Sample[]) {
  const quarter = Math.ceil(samples.length / 4);
  return [0, 1, 2, 3].map((number) => {
    const part = samples.slice(number * quarter, (number + 1) * quarter);
    const valuesOf = (figure: keyof Sample) => part.map((sample) => sample[figure]);
    return {
      quarter: number + 1,
      'MB resident (median)': percentile(valuesOf('megabytes'), 0.5),
      'open files (highest)': Math.max(...valuesOf('openFiles')),
      'event loop p99, ms (highest)': Math.max(...valuesOf('delayMs')),
      'rows of the event log (highest)': Math.max(...valuesOf('logRows')),
    };
  });
}

/** Connects for a moment, then closes or resets the connection. Resolves with whether it was open. */
async function visit(
  url: string,
  headers: Readonly<Record<string, string>>,
  closes: boolean,
): Promise<boolean> {
  try {
    const { socket, closed } = await PlainClient.connect(url, {}, { headers });
    await delay(stayMs);
    if (closes) socket.close();
    else socket.terminate();
    await closed;
    return true;
  } catch {
    return false;
  }
}
