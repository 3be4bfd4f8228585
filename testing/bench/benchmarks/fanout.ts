import { setTimeout as delay } from 'node:timers/promises';
import { cpuMsOf } from '../../testkit/process-figures.ts';
import { atMost, type Bound, none } from '../../testkit/report.ts';
import { type Bench, benchmark } from '../benchmark.ts';
import { Receivers } from '../load/receivers.ts';
import type { Table } from '../report.ts';
import { type Measured, ratio, rowsOf, spread } from '../rounds.ts';
import { chooseTargets, isFlagcast, targetKinds } from '../targets/all.ts';
import type { RunningTarget, Target } from '../targets/target.ts';

/** Limits of the processor time of Flagcast over that of a target, with one channel and these numbers of clients. */
const boundClients = [1_000, 5_000];
const limits = [
  { pattern: 'single', kind: 'nchan', limit: 0.95 },
  { pattern: 'single', kind: 'ws', limit: 0.7 },
  { pattern: 'single', kind: 'socket.io', limit: 0.4 },
  { pattern: 'burst-20', kind: 'nchan', limit: 0.15 },
  { pattern: 'burst-20', kind: 'socket.io', limit: 0.06 },
];

type Running = RunningTarget & Pick<Target, 'kind' | 'name'>;

export const fanout = benchmark({
  summary: 'processor time of the server for each delivered event, beside other servers (20 minutes)',
  options: { clients: [1_000, 5_000], rounds: 5, targets: targetKinds },
  measure: async (bench, { clients, rounds, targets }) => {
    const most = Math.max(...clients);
    const setups = setupsFor(clients);
    const channels = Math.max(...setups.map((setup) => setup.channels));
    const receivers = new Receivers(bench.run, most);
    const running: Running[] = [];
    for (const { kind, name, start } of await chooseTargets(bench, targets)) {
      running.push({ kind, name, ...(await start(bench, { channels, clients: most })) });
    }
    for (const target of running) await measureSetup(bench, receivers, target, serverWarmUp(most));
    const tables: Table[] = [];
    const bounds: Bound[] = [];
    for (const setup of setups) {
      const measured = await bench.rounds(
        rounds,
        running,
        async (target) => await measureSetup(bench, receivers, target, setup),
      );
      for (const [index, pattern] of setup.patterns.entries()) {
        const ofPattern = measured.map(({ target, rounds: own }) => ({
          target,
          rounds: own.flatMap((figures) => figures[index] ?? []),
        }));
        tables.push(tableOf(setup, pattern, ofPattern));
        bounds.push(...boundsOf(setup, pattern, ofPattern));
      }
    }
    const title = `Processor time of the server for each delivered event, in µs: median of ${rounds} rounds (lowest-highest round)`;
    return { title, tables, bounds };
  },
});

/** Connects the clients, measures each pattern in its order, and disconnects the clients. */
async function measureSetup({ run }: Bench, receivers: Receivers, running: Running, setup: Setup) {
  await receivers.connect(running, setup);
  const figures: Figures[] = [];
  for (const pattern of roundWarmUp(setup))
    await measurePattern(run.signal, receivers, running, pattern, setup);
  for (const pattern of setup.patterns) {
    figures.push(await measurePattern(run.signal, receivers, running, pattern, setup));
  }
  await receivers.disconnect();
  return figures;
}

async function measurePattern(
  signal: AbortSignal,
  receivers: Receivers,
  running: Running,
  pattern: Pattern,
  { clients, channels }: Setup,
) {
  const before = await receivers.count();
  const cpuMsBefore = await cpuMsOf(running.pids);
  let deliveryMs = 0;
  let due = 0;
  for (let burst = 0; burst < pattern.times; burst += 1) {
    const published = pattern.channels(burst);
    const startedAtMs = performance.now();
    const arriving = receivers.expect(published);
    await running.publish(published);
    const arrival = await arriving;
    due += (published.length * clients) / channels;
    deliveryMs += performance.now() - startedAtMs;
    // The rest of the pattern would not arrive either.
    if (arrival === null) break;
    const restMs = startedAtMs + pattern.intervalMs - performance.now();
    await delay(Math.max(1, restMs), undefined, { signal });
  }
  const cpuMs = (await cpuMsOf(running.pids)) - cpuMsBefore;
  const { events, bytes, lost } = await receivers.count();
  const delivered = events - before.events;
  return {
    'µs of CPU per event': (cpuMs * 1_000) / delivered,
    // Of the time with undelivered events.
    'events/s': (delivered * 1_000) / deliveryMs,
    '% missing': (1 - delivered / due) * 100,
    closed: lost,
    bytes: (bytes - before.bytes) / delivered,
  };
}

type Figures = Awaited<ReturnType<typeof measurePattern>>;
type MeasuredPattern = readonly Measured<Running, Figures>[];

const cpuUsOf = (figures: Figures) => figures['µs of CPU per event'];

const isOurs = ({ target }: MeasuredPattern[number]) => isFlagcast({ target: target.name });

/** The ratios of each dialect and writer of Flagcast to the other targets are columns. */
function tableOf({ clients }: Setup, { title }: Pattern, measured: MeasuredPattern): Table {
  const rows = rowsOf(measured).map((row, index) => {
    const rounds = measured[index]?.rounds ?? [];
    const ratios = measured
      .filter(isOurs)
      .map((own) => [
        `${own.target.kind} over it`,
        own.target.name === row.target ? '' : ratio(own.rounds, rounds, cpuUsOf),
      ]);
    return { ...row, ...(Object.fromEntries(ratios) as Record<string, string>) };
  });
  return { caption: `${clients} clients, ${title}`, rows };
}

function boundsOf({ clients, channels }: Setup, { name }: Pattern, measured: MeasuredPattern): Bound[] {
  const label = `${name}, ${clients} clients`;
  const own = measured.filter(isOurs);
  const lost = own.flatMap(({ rounds }) => rounds.map((round) => round['% missing'] + round.closed));
  const arrived = own.length === 0 ? [] : [none(`${label}: missing and closed`, spread(lost).high)];
  const ours = own.find(({ target }) => target.kind === 'flagcast');
  if (ours === undefined || channels > 1 || !boundClients.includes(clients)) return arrived;
  const limited = limits.flatMap(({ pattern, kind, limit }) => {
    const other = measured.find(({ target }) => pattern === name && kind === target.kind);
    if (other === undefined) return [];
    return [atMost(`${label}: over ${kind}`, ratio(ours.rounds, other.rounds, cpuUsOf).median, limit)];
  });
  return [...arrived, ...limited];
}

/** A pattern of events. */
interface Pattern {
  readonly name: string;
  readonly title: string;
  /** The channels that burst number `burst` publishes to. */
  readonly channels: (burst: number) => readonly number[];
  /** The number of bursts in a round. */
  readonly times: number;
  /** The least interval of the bursts; the next burst also waits until the previous one has arrived. */
  readonly intervalMs: number;
}

/** `clients` distributed evenly over `channels`, and the patterns to measure. */
interface Setup {
  readonly clients: number;
  readonly channels: number;
  readonly patterns: readonly Pattern[];
}

const manyChannels = 1_000;
const channelsAtOnce = 100;
/** Approximate deliveries of a round. */
const deliveries = { ofSingles: 100_000, ofBursts: 300_000 };
/** Each server sends these events before the first round, so that its code is compiled. */
const warmUpEvents = 3_000;
const warmUpClients = 10;

/** The pause for each client is longer than the server needs to send to it. */
const burstIntervalMs = (clients: number) => 10 + 0.04 * clients;

/** `most` limits the number of bursts with few clients, so that a trial run is short. */
const timesFor = (wanted: number, least: number, most: number) =>
  Math.max(least, Math.ceil(Math.min(wanted, most)));

const single = (clients: number): Pattern => ({
  name: 'single',
  title: 'single events',
  channels: () => [0],
  times: timesFor(deliveries.ofSingles / clients, 20, clients / 10),
  intervalMs: Math.max(10, 0.02 * clients),
});

/** Bursts of `events` to one channel. */
const burst = (events: number, clients: number): Pattern => ({
  name: `burst-${events}`,
  title: `bursts of ${events}`,
  channels: () => Array.from({ length: events }, () => 0),
  times: timesFor(deliveries.ofBursts / events / clients, 2, clients / 66),
  intervalMs: burstIntervalMs(clients),
});

/** Each burst has one event for each of up to 100 channels; the next burst uses the next channels. */
function manyAtOnce(clients: number, channels: number): Pattern {
  const atOnce = Math.min(channelsAtOnce, channels);
  return {
    name: 'channels',
    title: `${atOnce} events at once, in different ones of ${channels} channels`,
    channels: (number) => Array.from({ length: atOnce }, (_, index) => (number * atOnce + index) % channels),
    times: timesFor((deliveries.ofSingles * channels) / atOnce / clients, 5, clients / 25),
    intervalMs: burstIntervalMs(clients),
  };
}

/** One setup for each number of clients in one channel, and one with many channels. */
function setupsFor(counts: readonly number[]): readonly Setup[] {
  const [fewest = 1] = counts;
  const channels = Math.min(manyChannels, fewest);
  return [
    ...counts.map((clients) => ({
      clients,
      channels: 1,
      patterns: [single(clients), burst(20, clients), burst(100, clients)],
    })),
    { clients: fewest, channels, patterns: [manyAtOnce(fewest, channels)] },
  ];
}

/** The warm-up of a server before its first round; shorter in a trial run with few clients. */
function serverWarmUp(clients: number): Setup {
  const times = warmUpEvents * Math.min(1, clients / 1_000);
  const patterns = [{ ...single(clients), times, intervalMs: 0 }];
  return { clients: Math.min(clients, warmUpClients), channels: 1, patterns };
}

/** The warm-up before each round: caches are cold after other servers have run. */
function roundWarmUp({ clients, channels }: Setup): readonly Pattern[] {
  if (channels > 1) return [{ ...manyAtOnce(clients, channels), times: 5 }];
  return [
    { ...single(clients), times: 10 },
    { ...burst(20, clients), times: 1 },
  ];
}
