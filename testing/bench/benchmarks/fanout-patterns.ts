/** A pattern of events. */
export interface Pattern {
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
export interface Setup {
  readonly clients: number;
  readonly channels: number;
  readonly patterns: readonly Pattern[];
}

/** Approximate deliveries of a round. */
const deliveriesOfSingles = 100_000;
const deliveriesOfBursts = 300_000;
/** Limits the number of bursts with few clients, so that a trial run is short. */
const clientsPerSingle = 10;
const clientsPerBurst = 66;
const clientsPerSpread = 25;
/** Interval for each client, longer than the server needs to send to it. */
const intervalMsPerClient = 0.02;
const leastIntervalMs = 10;
const burstIntervalMsPerClient = 0.04;
const manyChannels = 1_000;
const channelsAtOnce = 100;
/** Each server sends these events before the first round, so that its code is compiled. */
const warmUpEvents = 3_000;
const warmUpClients = 10;

/** Bursts of `events` to one channel. */
function burst(events: number, clients: number): Pattern {
  return {
    name: `burst-${events}`,
    title: `bursts of ${events}`,
    channels: () => Array.from({ length: events }, () => 0),
    times: timesFor(deliveriesOfBursts, events * clients, 2, clients / clientsPerBurst),
    intervalMs: leastIntervalMs + burstIntervalMsPerClient * clients,
  };
}

function single(clients: number): Pattern {
  return {
    name: 'single',
    title: 'single events',
    channels: () => [0],
    times: timesFor(deliveriesOfSingles, clients, 20, clients / clientsPerSingle),
    intervalMs: Math.max(leastIntervalMs, intervalMsPerClient * clients),
  };
}

/** Each burst has one event for each of up to 100 channels; the next burst uses the next channels. */
function manyAtOnce(clients: number, channels: number): Pattern {
  const atOnce = Math.min(channelsAtOnce, channels);
  return {
    name: 'channels',
    title: `${atOnce} events at once, in different ones of ${channels} channels`,
    channels: (number) => Array.from({ length: atOnce }, (_, index) => (number * atOnce + index) % channels),
    times: timesFor(deliveriesOfSingles, (atOnce * clients) / channels, 5, clients / clientsPerSpread),
    intervalMs: leastIntervalMs + burstIntervalMsPerClient * clients,
  };
}

/** Returns the number of bursts for `deliveries`, between `least` and `most`. */
function timesFor(deliveries: number, perBurst: number, least: number, most: number): number {
  return Math.max(least, Math.ceil(Math.min(deliveries / perBurst, most)));
}

/** One setup for each number of clients in one channel, and one with many channels. */
export function setupsFor(counts: readonly number[]): readonly Setup[] {
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
export function serverWarmUp(clients: number): Setup {
  const times = warmUpEvents * Math.min(1, clients / 1_000);
  const patterns = [{ ...single(clients), times, intervalMs: 0 }];
  return { clients: Math.min(clients, warmUpClients), channels: 1, patterns };
}

/** The warm-up before each round: caches are cold after other servers have run. */
export function roundWarmUp({ clients, channels }: Setup): readonly Pattern[] {
  if (channels > 1) return [{ ...manyAtOnce(clients, channels), times: 5 }];
  return [
    { ...single(clients), times: 10 },
    { ...burst(20, clients), times: 1 },
  ];
}
