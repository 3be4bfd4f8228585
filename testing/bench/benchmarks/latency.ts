import { setTimeout as delay } from 'node:timers/promises';
import { atMost } from '../../testkit/report.ts';
import { type Bench, benchmark } from '../benchmark.ts';
import { Probe } from '../load/probe.ts';
import { Receivers } from '../load/receivers.ts';
import { commitUntil, connectMany } from '../load/writers.ts';
import { percentiles, rowsOf } from '../rounds.ts';
import { prepareFlagcast, startFlagcast } from '../targets/flagcast.ts';
import { startBaseline } from './baselines.ts';

/** Not measured: code is compiled and plans are made at first use, and caches are cold after a pause. */
const warmUp = { commits: 30, pauseLimitMs: 5 };
const steps = { commits: 300, pauseLimitMs: 5 };
/** Polling takes about a second for a message; pauses spread the commits over the interval. */
const pollingSteps = { commits: 12, pauseLimitMs: 1_000 };
/** Limits of Flagcast's latency relative to NOTIFY and one SELECT by primary key. */
const p50Limit = 1.4;
const p99Limit = 1.5;
/** The load: each of its channels has 50 of 5,000 clients; each writer pauses 50 ms on average. */
const loadChannels = 100;
const writerPauseLimitMs = 100;
const loadStartMs = 500;

export const latency = benchmark({
  summary: 'from COMMIT to the message at the client, beside two baselines, and under load (4 minutes)',
  options: { rounds: 5, clients: 5_000, writers: 16 },
  measure: async (bench, { rounds, clients, writers }) => {
    const targets = [
      { name: 'baseline 1: NOTIFY -> ws', steps, probe: await probeBaseline(bench, 'message') },
      { name: 'baseline 2: NOTIFY -> SELECT -> ws', steps, probe: await probeBaseline(bench, 'id') },
      { name: 'flagcast, LISTEN', steps, probe: await probeFlagcast(bench, true) },
      { name: 'flagcast, 1 s polling only', steps: pollingSteps, probe: await probeFlagcast(bench, false) },
    ];
    const idle = await bench.rounds(rounds, targets, async ({ probe, steps: own }) => {
      if (own === steps) await probe.latencies(warmUp);
      return percentiles(await probe.latencies(own));
    });
    const { loaded, commitsPerSecond } = await measureLoaded(bench, rounds, clients, writers);
    const rows = rowsOf(idle);
    const [, baseline, flagcast] = rows;
    const over = (figure: 'p50' | 'p99') =>
      (flagcast?.[figure].median ?? NaN) / (baseline?.[figure].median ?? NaN);
    const load = `${writers} writers commit ${commitsPerSecond} rows/s to ${loadChannels} channels with ${clients} clients`;
    return {
      title: `Latency from just before COMMIT is sent to the message, in ms: median of ${rounds} rounds of ${steps.commits} commits, polling ${pollingSteps.commits} (lowest-highest round)`,
      tables: [{ rows }, { caption: `The load: ${load}`, rows: rowsOf(loaded) }],
      bounds: [
        atMost('p50 of flagcast with LISTEN over p50 of baseline 2', over('p50'), p50Limit),
        atMost('p99 of flagcast with LISTEN over p99 of baseline 2', over('p99'), p99Limit),
      ],
    };
  },
});

async function probeBaseline(bench: Bench, payload: 'message' | 'id') {
  const { database, url } = await startBaseline(bench, payload);
  return await Probe.open(bench.run, { url, writer: database.client, channel: database.channels[0] });
}

async function probeFlagcast(bench: Bench, notifies: boolean) {
  const prepared = await prepareFlagcast(bench, { channels: 1, clients: 1 });
  // The trigger runs in the writer's session, with the settings of the database.
  const off =
    "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET flagcast.notify = off', current_database()); END $$";
  if (!notifies) await prepared.database.client.query(off);
  const { port } = await prepared.serve();
  return await prepared.probe(port, 0);
}

/** Measures one server with and without load, in turns. */
async function measureLoaded(bench: Bench, rounds: number, clients: number, count: number) {
  const flagcast = await startFlagcast(bench, { channels: 1 + loadChannels, clients });
  const receivers = new Receivers(bench.run, clients);
  await receivers.connect(flagcast, { clients, channels: loadChannels, first: 1 });
  const probe = await flagcast.probe(flagcast.port, 0);
  const sessions = await connectMany(bench.run, flagcast.database.url, count);
  const perSecond: number[] = [];
  const idle = { name: 'without load' };
  const loaded = await bench.rounds(rounds, [idle, { name: 'under load' }], async (target) => {
    const ending = new AbortController();
    const writing = commitUntil(ending.signal, target === idle ? [] : sessions, {
      pauseLimitMs: writerPauseLimitMs,
      channel: () => flagcast.channel(1 + Math.floor(Math.random() * loadChannels)),
    });
    await delay(loadStartMs, undefined, { signal: bench.run.signal });
    await probe.latencies(warmUp);
    const latencies = await probe.latencies(steps);
    ending.abort();
    perSecond.push(await writing);
    return percentiles(latencies);
  });
  return { loaded, commitsPerSecond: Math.round(Math.max(...perSecond)) };
}
