/**
 * A way in which events come. `name` and `title` tell it; `channels` is what is published at once, the `turn`th
 * time; `times` how often, so that a round is neither over at once nor takes minutes; `intervalMs`
 * from one time to the next, which comes no sooner than all of the last one has arrived.
 *
 * @typedef {{
 *   readonly name: string,
 *   readonly title: string,
 *   readonly channels: (turn: number) => readonly number[],
 *   readonly times: number,
 *   readonly intervalMs: number,
 * }} Pattern
 */

/**
 * So many clients, spread evenly over so many channels, and what is measured with them.
 *
 * @typedef {{ readonly clients: number, readonly channels: number, readonly patterns: readonly Pattern[] }} Setup
 */

/** Deliveries of a round, about. */
const deliveriesOfSingles = 100_000;
const deliveriesOfBursts = 300_000;
/** With few clients, which are a trial and no measurement, it is over soon: so many of them for each time. */
const clientsPerSingle = 10;
const clientsPerBurst = 66;
const clientsPerSpread = 25;
/** A gentle pace: what is sent takes a part of this, for each client. */
const intervalMsPerClient = 0.02;
const leastIntervalMs = 10;
const burstIntervalMsPerClient = 0.04;
const manyChannels = 1_000;
const channelsAtOnce = 100;

/**
 * @param {number} events to one channel, at once
 * @param {number} clients
 * @returns {Pattern}
 */
function burst(events, clients) {
  return {
    name: `burst-${events}`,
    title: `bursts of ${events}`,
    channels: () => Array.from({ length: events }, () => 0),
    times: timesFor(deliveriesOfBursts, events * clients, 2, clients / clientsPerBurst),
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
    times: timesFor(deliveriesOfSingles, clients, 20, clients / clientsPerSingle),
    intervalMs: Math.max(leastIntervalMs, intervalMsPerClient * clients),
  };
}

/**
 * Events of as many channels as come at once, of others each time.
 *
 * @param {number} clients
 * @param {number} channels
 * @returns {Pattern}
 */
function spread(clients, channels) {
  const atOnce = Math.min(channelsAtOnce, channels);
  return {
    name: 'channels',
    title: `${atOnce} events at once, each of another of ${channels} channels`,
    channels: (turn) => Array.from({ length: atOnce }, (_, index) => (turn * atOnce + index) % channels),
    times: timesFor(deliveriesOfSingles, (atOnce * clients) / channels, 5, clients / clientsPerSpread),
    intervalMs: leastIntervalMs + burstIntervalMsPerClient * clients,
  };
}

/**
 * @param {number} wanted
 * @param {number} each
 * @param {number} least
 * @param {number} most
 */
function timesFor(wanted, each, least, most) {
  return Math.max(least, Math.ceil(Math.min(wanted / each, most)));
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

/** So many events a server has sent to a few clients before all: it has run for a while, and its code is compiled. */
const eventsBefore = 3_000;
const clientsBefore = 10;

/**
 * What goes before the first round of a server; little where the whole is only a trial.
 *
 * @param {number} clients of the rounds
 * @returns {Setup}
 */
export function beginning(clients) {
  const times = Math.min(eventsBefore, eventsBefore * (clients / 1_000));
  return {
    clients: Math.min(clients, clientsBefore),
    channels: 1,
    patterns: [{ ...single(clients), times, intervalMs: 0 }],
  };
}

/**
 * What goes before the figures of a turn: code is compiled when it has run a while, and caches are cold after a break.
 *
 * @param {Setup} setup
 * @returns {readonly Pattern[]}
 */
export function warmUp({ clients, channels }) {
  return channels > 1
    ? [{ ...spread(clients, channels), times: 5 }]
    : [
        { ...single(clients), times: 10 },
        { ...burst(20, clients), times: 1 },
      ];
}
