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
