import { setTimeout as delay } from 'node:timers/promises';
import { cpuMsOf, memoryOf, resetPeak } from '../../testkit/process-figures.ts';
import { atMost, type Bound, none } from '../../testkit/report.ts';
import { type Bench, benchmark } from '../benchmark.ts';
import { Receivers } from '../load/receivers.ts';
import type { Table } from '../report.ts';
import { type Measured, ratio, rowsOf, spread } from '../rounds.ts';
import { chooseTargets, isFlagcast, targetKinds } from '../targets/all.ts';
import type { RunningTarget, Target } from '../targets/target.ts';

/** Limits of a figure of Flagcast over that of a target, with these numbers of clients in one channel. */
const boundClients = [1_000, 5_000];
const limits: readonly Limit[] = [
  { pattern: 'single events', own: 'flagcast', kind: 'nchan', limit: 0.9 },
  { pattern: 'single events', own: 'flagcast', kind: 'ws', limit: 0.55 },
  { pattern: 'single events', own: 'flagcast', kind: 'socket.io', limit: 0.4 },
  { pattern: 'single events', own: 'flagcast', kind: 'io_uring', limit: 1.2 },
  { pattern: 'single events', own: 'flagcast-writes', kind: 'nchan', limit: 1.1 },
  { pattern: 'single events', own: 'flagcast-writes', kind: 'ws', limit: 0.75 },
  { pattern: 'single events', own: 'flagcast-writes', kind: 'prebuilt', limit: 1.15 },
  // Two workers, each on its own core, deliver at least 1.7 times what one does.
  {
    pattern: 'single events',
    own: 'flagcast-workers',
    kind: 'flagcast',
    limit: 1 / 1.7,
    figure: 'µs of the busiest',
  },
  { pattern: 'bursts of 20', own: 'flagcast', kind: 'nchan', limit: 0.15 },
  { pattern: 'bursts of 20', own: 'flagcast', kind: 'socket.io', limit: 0.06 },
];
/** The same with 1,000 clients in as many channels. */
const limitsOfManyChannels: readonly Limit[] = [{ own: 'flagcast', kind: 'ws', limit: 2 }];
/** Limit of the memory that bursts of this size take with 1,000 clients, in MB. */
const largeBurst = { events: 300, clients: 1_000, megabytes: 60 };

interface Limit {
  readonly pattern?: string;
  readonly own: string;
  readonly kind: string;
  readonly limit: number;
  /** Default: the processor time of all processes. */
  readonly figure?: keyof Figures;
}

type Running = RunningTarget & Pick<Target, 'kind' | 'name'>;

/** Bursts of events. Each burst goes to the channels after those of the previous one. */
interface Pattern {
  readonly title: string;
  /** The number of events in a burst. */
  readonly size: number;
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

export const fanout = benchmark({
  summary:
    'processor time of the server for each delivered event, and memory, beside other servers (20 minutes)',
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
  const { residentBytes } = await memoryOf(running.pids);
  const measure = async (pattern: Pattern) => ({
    ...(await measurePattern({ receivers, running, signal: run.signal }, pattern, setup)),
    'MB above idle': ((await memoryOf(running.pids)).peakBytes - residentBytes) / 1e6,
  });
  // Caches are cold after other servers have run.
  for (const pattern of setup.patterns) await measure({ ...pattern, times: pattern.size === 1 ? 10 : 1 });
  const figures = [];
  for (const pattern of setup.patterns) figures.push(await measure(pattern));
  await receivers.disconnect();
  return figures;
}

async function measurePattern(
  {
    receivers,
    running,
    signal,
  }: { readonly receivers: Receivers; readonly running: Running; readonly signal: AbortSignal },
  { size, times, intervalMs }: Pattern,
  { clients, channels }: Setup,
) {
  const before = await receivers.count();
  await resetPeak(running.pids);
  const cpuOfEach = async () => await Promise.all(running.pids.map(async (pid) => await cpuMsOf([pid])));
  const cpuMsBefore = await cpuOfEach();
  let deliveryMs = 0;
  let due = 0;
  for (let burst = 0; burst < times; burst += 1) {
    const published = Array.from({ length: size }, (_, index) => (burst * size + index) % channels);
    const startedAtMs = performance.now();
    const arriving = receivers.expect(published);
    await running.publish(published);
    const arrival = await arriving;
    due += (size * clients) / channels;
    deliveryMs += performance.now() - startedAtMs;
    // The rest of the pattern would not arrive either.
    if (arrival === null) break;
    const restMs = startedAtMs + intervalMs - performance.now();
    await delay(Math.max(1, restMs), undefined, { signal });
  }
  const cpuMsAfter = await cpuOfEach();
  const { events, bytes, lost } = await receivers.count();
  const delivered = events - before.events;
  const cpuUs = cpuMsAfter.map((ms, index) => ((ms - (cpuMsBefore[index] ?? 0)) * 1_000) / delivered);
  return {
    'µs of CPU per event': cpuUs.reduce((sum, us) => sum + us, 0),
    'µs of the busiest': Math.max(...cpuUs),
    // Of the time with undelivered events.
    'events/s': (delivered * 1_000) / deliveryMs,
    '% missing': (1 - delivered / due) * 100,
    closed: lost,
    bytes: (bytes - before.bytes) / delivered,
  };
}

type Figures = Awaited<ReturnType<typeof measureSetup>>[number];
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

function boundsOf({ clients, channels }: Setup, { title }: Pattern, measured: MeasuredPattern): Bound[] {
  const label = `${clients} clients, ${title}`;
  const own = measured.filter(isOurs);
  const lost = own.flatMap(({ rounds }) => rounds.map((round) => round['% missing'] + round.closed));
  const arrived = own.length === 0 ? [] : [none(`${label}: missing and closed`, spread(lost).high)];
  if (!boundClients.includes(clients)) return arrived;
  const limited = channels > 1 ? limitsOfManyChannels : limits.filter(({ pattern }) => pattern === title);
  const roundsOf = (kind: string) => measured.find(({ target }) => target.kind === kind)?.rounds;
  const ratios = limited.flatMap(({ own: kind, kind: otherKind, limit, figure = 'µs of CPU per event' }) => {
    const [ours, others] = [roundsOf(kind), roundsOf(otherKind)];
    if (ours === undefined || others === undefined) return [];
    const { median } = ratio(ours, others, (figures) => figures[figure]);
    return [atMost(`${label}: ${kind} over ${otherKind}`, median, limit)];
  });
  const isLargeBurst = clients === largeBurst.clients && title === `bursts of ${largeBurst.events}`;
  const peaks = own.map(({ target, rounds }) => {
    const { high } = spread(rounds.map((round) => round['MB above idle']));
    return atMost(`${label}: memory of ${target.kind} above idle`, high, largeBurst.megabytes, ' MB');
  });
  return [...arrived, ...ratios, ...(isLargeBurst ? peaks : [])];
}

const manyChannels = 1_000;
const channelsAtOnce = 100;
/** Each server sends this number of events to a few clients before the first round, so that its code is compiled. */
const warmUp = { events: 3_000, clients: 10 };
/** With fewer clients each pattern has only its least number of bursts: a trial run is short. */
const trialClients = 1_000;

/** One setup for each number of clients in one channel, and one with many channels. */
function setupsFor(counts: readonly number[]): readonly Setup[] {
  const [fewest = 1] = counts;
  const channels = Math.min(manyChannels, fewest);
  const atOnce = Math.min(channelsAtOnce, channels);
  const timesFor = (clients: number, least: number, times: number) =>
    clients < trialClients ? least : Math.max(least, Math.ceil(times));
  // The pause for each client is longer than the server needs to send to it.
  const intervalMs = (clients: number) => 10 + 0.04 * clients;
  const burst = (size: number, clients: number) => ({
    title: `bursts of ${size}`,
    size,
    times: timesFor(clients, 2, 300_000 / size / clients),
    intervalMs: intervalMs(clients),
  });
  const ofOneChannel = counts.map((clients) => ({
    clients,
    channels: 1,
    patterns: [
      single(timesFor(clients, 20, 100_000 / clients), clients),
      burst(20, clients),
      burst(largeBurst.events, clients),
    ],
  }));
  const manyAtOnce = {
    title: `${atOnce} events at once, in different ones of ${channels} channels`,
    size: atOnce,
    times: timesFor(fewest, 5, 40),
    intervalMs: intervalMs(fewest),
  };
  return [...ofOneChannel, { clients: fewest, channels, patterns: [manyAtOnce] }];
}

function single(times: number, clients: number): Pattern {
  return { title: 'single events', size: 1, times, intervalMs: Math.max(10, 0.02 * clients) };
}

/** The warm-up of a server before its first round; shorter in a trial run. */
function serverWarmUp(clients: number): Setup {
  const times = warmUp.events * Math.min(1, clients / trialClients);
  const patterns = [{ ...single(times, clients), intervalMs: 0 }];
  return { clients: Math.min(clients, warmUp.clients), channels: 1, patterns };
}
