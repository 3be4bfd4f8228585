import { setTimeout as delay } from 'node:timers/promises';
import { startServer } from '../../testkit/child.ts';
import { createDatabase } from '../../testkit/postgres.ts';
import { atMost, none } from '../../testkit/report.ts';
import { type Bench, benchmark } from '../benchmark.ts';
import { Probe } from '../load/probe.ts';
import { Receivers } from '../load/receivers.ts';
import { commitUntil, connectMany, repeatAtRate } from '../load/writers.ts';
import { percentiles, ratio, rowsOf, spread, spreads } from '../rounds.ts';
import { prepareFlagcast, startFlagcast } from '../targets/flagcast.ts';

/** Not measured: code is compiled and plans are made at first use, and caches are cold after a pause. */
const warmUp = { commits: 30, pauseLimitMs: 5 };
const steps = { commits: 300, pauseLimitMs: 5 };
/** Polling takes about a second for a message; pauses spread the commits over the interval. */
const pollingSteps = { commits: 12, pauseLimitMs: 1_000 };
/** Limits of Flagcast's latency relative to the baseline. */
const p50Limit = 1.4;
const p99Limit = 1.5;
/** The writers: each of their channels has 50 of 5,000 clients; each pauses 50 ms on average. */
const writtenChannels = 100;
const writerPauseLimitMs = 100;
const loadStartMs = 500;
/** The busy channel has as many clients as all of those together. */
const busyChannel = 1 + writtenChannels;
const busyEventsPerSecond = 50;
/** Clients of the channel whose latency is measured meanwhile. */
const probeClients = 5;
/** Limits of its p99: with the writers, in milliseconds; beside the busy channel, relative to that alone. */
const p99WithWritersMs = 30;
const p99OverAlone = 3;
/** A message with this latency waited for the poll, whose interval is 1,000 ms. */
const pollWaitMs = 500;

export const latency = benchmark({
  summary:
    'from COMMIT to the message at the client: beside a baseline, with 16 writers, beside a busy channel (5 minutes)',
  options: { rounds: 5, clients: 5_000, writers: 16 },
  measure: async (bench, { rounds, clients, writers }) => {
    const targets = [
      { name: 'baseline: NOTIFY -> SELECT -> ws', steps, probe: await probeBaseline(bench) },
      { name: 'flagcast, LISTEN', steps, probe: await probeFlagcast(bench, true) },
      { name: 'flagcast, 1 s polling only', steps: pollingSteps, probe: await probeFlagcast(bench, false) },
    ];
    const idle = await bench.rounds(rounds, targets, async ({ probe, steps: own }) => {
      if (own === steps) await probe.latencies(warmUp);
      return percentiles(await probe.latencies(own));
    });
    const { loaded, perSecond, lost, incomplete } = await measureLoaded(bench, rounds, clients, writers);
    const rows = rowsOf(idle);
    const [baseline, flagcast] = rows;
    const over = (figure: 'p50' | 'p99') =>
      (flagcast?.[figure].median ?? NaN) / (baseline?.[figure].median ?? NaN);
    const [alone = [], withWriters = [], besideBusy = []] = loaded.map((each) => each.rounds);
    const { median: overAlone } = ratio(besideBusy, alone, ({ p99 }) => p99);
    const ofWriters = spreads(withWriters);
    return {
      title: `Latency from just before COMMIT is sent to the message, in ms: median of ${rounds} rounds of ${steps.commits} commits, polling ${pollingSteps.commits} (lowest-highest round)`,
      tables: [
        { rows },
        {
          caption: `A channel of ${probeClients} clients on a server with ${2 * clients} others: ${writers} writers commit to ${writtenChannels} channels; a busy channel gets ${busyEventsPerSecond} events/s`,
          rows: rowsOf(loaded),
        },
        {
          rows: [
            { 'rows/s of the writers': spread(perSecond), 'p99 beside the busy one over alone': overAlone },
          ],
        },
      ],
      bounds: [
        atMost('p50 of flagcast with LISTEN over the baseline', over('p50'), p50Limit),
        atMost('p99 of flagcast with LISTEN over the baseline', over('p99'), p99Limit),
        atMost('p99 with the writers', ofWriters.p99.median, p99WithWritersMs, ' ms'),
        none(
          'rounds with the writers in which a message waited for the poll',
          withWriters.filter(({ max }) => max >= pollWaitMs).length,
        ),
        atMost('p99 beside the busy channel over alone', overAlone, p99OverAlone),
        none('rounds with missing events of the busy channel', incomplete),
        none('closed connections', lost),
      ],
    };
  },
});

/** A minimal server whose database has a trigger of its own instead of Flagcast's. */
async function probeBaseline({ run, postgres }: Bench) {
  const { url: databaseUrl, client, channels } = await createDatabase(run, postgres, 'bench_baseline');
  await client.query(`DROP TRIGGER flagcast_log ON audit_log;
    CREATE FUNCTION bench_notify() RETURNS trigger LANGUAGE plpgsql AS
      'BEGIN PERFORM pg_notify(''bench_notify'', NEW.id::text); RETURN NULL; END';
    CREATE TRIGGER bench_notify AFTER INSERT ON audit_log FOR EACH ROW EXECUTE FUNCTION bench_notify();`);
  const program = new URL('../targets/broadcast-server.ts', import.meta.url);
  const { port } = await startServer(run, program, { do: 'start', kind: 'notify', databaseUrl });
  return await Probe.open(run, { url: `ws://127.0.0.1:${port}`, writer: client, channel: channels[0] });
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

/** Measures one channel of a server alone, with writers, and beside a busy channel, in turns. */
async function measureLoaded(bench: Bench, rounds: number, clients: number, count: number) {
  const flagcast = await startFlagcast(bench, { channels: 2 + writtenChannels, clients: 2 * clients });
  const [written, busy] = [new Receivers(bench.run, clients), new Receivers(bench.run, clients)];
  await written.connect(flagcast, { clients, channels: writtenChannels, first: 1 });
  await busy.connect(flagcast, { clients, first: busyChannel });
  const probe = await flagcast.probe(flagcast.port, 0, probeClients);
  const sessions = await connectMany(bench.run, flagcast.database.url, count);
  const perSecond: number[] = [];
  let incomplete = 0;
  const write = async (signal: AbortSignal) => {
    const channel = () => flagcast.channel(1 + Math.floor(Math.random() * writtenChannels));
    perSecond.push(await commitUntil(signal, sessions, { pauseLimitMs: writerPauseLimitMs, channel }));
  };
  const publish = async (signal: AbortSignal) => {
    const times = await repeatAtRate(busyEventsPerSecond, signal, async () => {
      await flagcast.publish([busyChannel]);
    });
    if ((await busy.expect(Array.from({ length: times }, () => busyChannel))) === null) incomplete += 1;
  };
  const targets = [
    { name: 'alone', load: () => undefined },
    { name: `with ${count} writers`, load: write },
    { name: `beside ${clients} busy clients`, load: publish },
  ];
  const loaded = await bench.rounds(rounds, targets, async ({ load }) => {
    const ending = new AbortController();
    const loading = load(ending.signal);
    await delay(loadStartMs, undefined, { signal: bench.run.signal });
    await probe.latencies(warmUp);
    const latencies = await probe.latencies(steps);
    ending.abort();
    await loading;
    return percentiles(latencies);
  });
  const lost = (await written.disconnect()).lost + (await busy.disconnect()).lost;
  return { loaded, perSecond, lost, incomplete };
}
