/**
 * A pattern of events. `channels`: the channels that burst number `burst` publishes to. `times`: number of bursts in a
 * round. `intervalMs`: minimum interval of the bursts; the next burst also waits until the previous one has arrived.
 *
 * @typedef {{
 *   readonly name: string,
 *   readonly title: string,
 *   readonly channels: (burst: number) => readonly number[],
 *   readonly times: number,
 *   readonly intervalMs: number,
 * }} Pattern
 */

/**
 * `clients` distributed evenly over `channels`, and the patterns to measure.
 *
 * @typedef {{ readonly clients: number, readonly channels: number, readonly patterns: readonly Pattern[] }} Setup
 */

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

/**
 * @param {number} events published to one channel at once
 * @param {number} clients
 * @returns {Pattern}
 */
function burst(events, clients) {
  return {
    name: `burst-${events}`,
    title: `bursts of ${events}`,
    channels: () => Array.from({ length: events }, () => 0),
    times: timesFor(deliveriesOfBursts, events * clients, { minimum: 2, maximum: clients / clientsPerBurst }),
    intervalMs: leastIntervalMs + burstIntervalMsPerClient * clients,
  };
}

/**
 * @param {number} clients
 * @returns {Pattern}
 */
function single(clients) {
  return {
    name: 'single',
    title: 'single events',
    channels: () => [0],
    times: timesFor(deliveriesOfSingles, clients, { minimum: 20, maximum: clients / clientsPerSingle }),
    intervalMs: Math.max(leastIntervalMs, intervalMsPerClient * clients),
  };
}

/**
 * Each burst has one event for each of up to 100 channels; the next burst uses the next channels.
 *
 * @param {number} clients
 * @param {number} channels
 * @returns {Pattern}
 */
function spread(clients, channels) {
  const atOnce = Math.min(channelsAtOnce, channels);
  return {
    name: 'channels',
    title: `${atOnce} events at once, in different ones of ${channels} channels`,
    channels: (burst) => Array.from({ length: atOnce }, (_, index) => (burst * atOnce + index) % channels),
    times: timesFor(deliveriesOfSingles, (atOnce * clients) / channels, {
      minimum: 5,
      maximum: clients / clientsPerSpread,
    }),
    intervalMs: leastIntervalMs + burstIntervalMsPerClient * clients,
  };
}

/**
 * Returns the number of bursts for `deliveries`, between `minimum` and `maximum`.
 *
 * @param {number} deliveries
 * @param {number} perBurst
 * @param {{ readonly minimum: number, readonly maximum: number }} limits
 */
function timesFor(deliveries, perBurst, { minimum, maximum }) {
  return Math.max(minimum, Math.ceil(Math.min(deliveries / perBurst, maximum)));
}

/**
 * @param {readonly number[]} counts of clients
 * @returns {readonly Setup[]}
 */
export function setupsFor(counts) {
  const [fewest = 1] = counts;
  const channels = Math.min(manyChannels, fewest);
  return [
    ...counts.map((clients) => ({
      clients,
      channels: 1,
      patterns: [single(clients), burst(20, clients), burst(100, clients)],
    })),
    { clients: fewest, channels, patterns: [spread(fewest, channels)] },
  ];
}

/** Each server sends these events before the first round, so that its code is compiled. */
const warmUpEvents = 3_000;
const warmUpClients = 10;

/**
 * The warm-up of a server before its first round; shorter in a trial run with few clients.
 *
 * @param {number} clients of the rounds
 * @returns {Setup}
 */
export function serverWarmUp(clients) {
  const times = Math.min(warmUpEvents, warmUpEvents * (clients / 1_000));
  return {
    clients: Math.min(clients, warmUpClients),
    channels: 1,
    patterns: [{ ...single(clients), times, intervalMs: 0 }],
  };
}

/**
 * The warm-up before each round: caches are cold after other servers have run.
 *
 * @param {Setup} setup
 * @returns {readonly Pattern[]}
 */
export function roundWarmUp({ clients, channels }) {
  return channels > 1
    ? [{ ...spread(clients, channels), times: 5 }]
    : [
        { ...single(clients), times: 10 },
        { ...burst(20, clients), times: 1 },
      ];
}
