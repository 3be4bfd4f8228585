import { readFile } from 'node:fs/promises';
import { barChart } from '../plot.js';
import { bound, figure, markdownTable, saveFile, saveResult } from '../results.js';
import { percentile } from '../statistics.js';
import { costOf, costs, readsPerSecond } from './costs.js';
import { simulateReader, simulateStorm, simulateTakeover } from './simulations.js';

/** @import { Options } from '../options.js' */
/** @import { Bound } from '../results.js' */
/** @import { Fleet } from './costs.js' */

/** What `npm run bench -- fleet` and `storm` measured. */
const measurements = new URL('../../../docs/performance/', import.meta.url);
/** Maximum relative difference of formula, simulation and measurement. */
const boundDifference = 0.2;
const simulatedSeconds = 600;
/** Processor time of an attempt in `storm`, whose clients share a core. */
const measuredAttemptSeconds = 0.00015;
const seeds = [1, 2, 3, 4, 5];

/** `events` were committed in `seconds`; the other figures are per second. @typedef {{ readonly servers: number, readonly relay: boolean, readonly seconds: number, readonly events: number, readonly reads: number, readonly queries: number, readonly messages: number }} MeasuredFleet */
/** @typedef {{ readonly clients: number, readonly awaySeconds: number, readonly allSeconds: number }} MeasuredStorm */

/** @type {readonly Fleet[]} */
const fleets = [
  { servers: 1, relay: false, connections: 5_000, channelSize: 50, events: 10 },
  { servers: 4, relay: true, connections: 50_000, channelSize: 100, events: 20 },
  { servers: 8, relay: false, connections: 100_000, channelSize: 100, events: 50 },
  { servers: 8, relay: true, connections: 100_000, channelSize: 100, events: 50 },
  { servers: 64, relay: false, connections: 1_000_000, channelSize: 1_000, events: 50 },
  { servers: 64, relay: true, connections: 1_000_000, channelSize: 1_000, events: 50 },
  { servers: 64, relay: true, connections: 1_000_000, channelSize: 1_000_000, events: 1 },
];

/** Clients that reconnect to `servers` at the same time. */
const storms = [
  { name: '1 of 8 servers with 12,500 each is lost', clients: 12_500, servers: 7, awaySeconds: 0 },
  { name: '1 of 64 servers with 15,625 each is lost', clients: 15_625, servers: 63, awaySeconds: 0 },
  {
    name: '64 servers with 1,000,000 are unavailable for 5 s',
    clients: 1_000_000,
    servers: 64,
    awaySeconds: 5,
  },
];

/**
 * Compares the cost of fleets by the formulas with simulations and measurements, and computes sizes that were not measured.
 *
 * @param {Options} options
 * @returns {Promise<readonly Bound[]>}
 */
export async function runScale({ output }) {
  const compared = compareFleets(
    /** @type {readonly MeasuredFleet[]} */ (await measurementsOf('fleet.json')),
  );
  const measuredStorms = /** @type {readonly MeasuredStorm[]} */ (await measurementsOf('storms.json'));
  const comparedStorms = measuredStorms.map((storm) => ({
    ...storm,
    simulated: stormOf({ ...storm, servers: 1, attemptSeconds: measuredAttemptSeconds }),
  }));
  const costed = fleets.map((fleet) => ({ ...fleet, ...costOf(fleet) }));
  const reconnects = storms.map((storm) => ({ ...storm, seconds: stormOf(storm) }));
  console.log(`Reads and queries of a fleet per second\n\n${fleetTable(compared)}`);
  console.log('\nSeconds until all clients of one server are live again\n');
  console.log(
    markdownTable(
      ['clients', 'unavailable', 'measured', 'simulated'],
      comparedStorms.map(({ clients, awaySeconds, allSeconds, simulated }) =>
        [clients, awaySeconds, allSeconds, simulated].map((value) => figure(value)),
      ),
    ),
  );
  console.log(`\nComputed, not measured\n\n${costTable(costed)}\n\n${reconnectTable(reconnects)}`);
  console.log(`\n${takeoverTable()}`);

  const bounds = boundsOf(compared, comparedStorms);
  await saveFile('scale.svg', queriesChart(), output);
  const file = await saveResult(
    'scale',
    {
      ...{ bounds, costs, readsOf30Events: readsPerSecond(30), compared, comparedStorms },
      ...{ fleets: costed, reconnects },
    },
    output,
  );
  console.log(`\nWritten to ${file}`);
  return bounds;
}

/** @typedef {ReturnType<typeof compareFleets>[number]} ComparedFleet */

/** @param {readonly MeasuredFleet[]} measured */
function compareFleets(measured) {
  return measured.map(({ servers, relay, seconds, events: committed, reads, queries, messages }) => {
    const events = committed / seconds;
    const formula = costOf({ servers, relay, events, connections: 0, channelSize: 0 });
    const commits = events * costs.commitsPerEvent;
    const ofOne = median(seeds.map((seed) => simulateReader({ commits, seconds: simulatedSeconds, seed })));
    const simulated = relay ? ofOne : servers * ofOne;
    return { servers, relay, events, reads, queries, messages, formula, simulated };
  });
}

/** @param {readonly ComparedFleet[]} compared */
function fleetTable(compared) {
  const head = ['servers', 'relay', 'events/s', 'reads', 'formula', 'simulated', 'queries', 'formula'];
  return markdownTable(
    [...head, 'NATS', 'formula'],
    compared.map((each) => [
      String(each.servers),
      each.relay ? 'yes' : 'no',
      figure(each.events),
      figure(each.reads),
      figure(each.formula.reads),
      figure(each.simulated),
      figure(each.queries),
      figure(each.formula.queries),
      each.relay ? figure(each.messages) : '',
      each.relay ? figure(each.formula.messages) : '',
    ]),
  );
}

/** @param {readonly (Fleet & ReturnType<typeof costOf>)[]} costed */
function costTable(costed) {
  const head = ['servers', 'relay', 'connections', 'per channel', 'events/s', 'queries/s', 'NATS messages/s'];
  return markdownTable(
    [...head, 'deliveries/s', 'cores per server', 'GB per server'],
    costed.map((each) => [
      String(each.servers),
      each.relay ? 'yes' : 'no',
      String(each.connections),
      String(each.channelSize),
      String(each.events),
      each.queries.toFixed(0),
      each.messages.toFixed(0),
      each.deliveries.toFixed(0),
      each.coresOfServer.toFixed(3),
      (each.bytesOfServer / 1e9).toFixed(2),
    ]),
  );
}

/** @param {readonly { readonly name: string, readonly seconds: number }[]} reconnects */
function reconnectTable(reconnects) {
  return markdownTable(
    ['', 'seconds until all are live'],
    reconnects.map(({ name, seconds }) => [name, seconds.toFixed(1)]),
  );
}

function takeoverTable() {
  const rows = [2, 8, 64].map((servers) => {
    const seconds = Array.from({ length: 1_000 }, (_, seed) => simulateTakeover({ servers, seed }));
    return [String(servers), median(seconds).toFixed(2), percentile(seconds, 1).toFixed(2)];
  });
  return markdownTable(['servers', 'seconds until a takeover, median', 'the slowest of 1,000'], rows);
}

/**
 * @param {readonly ComparedFleet[]} compared
 * @param {readonly (MeasuredStorm & { readonly simulated: number })[]} comparedStorms
 */
function boundsOf(compared, comparedStorms) {
  const relayed = compared.filter(({ relay }) => relay);
  /** @type {readonly (readonly [name: string, pairs: readonly (readonly number[])[]])[]} */
  const comparisons = [
    ['reads: formula vs. simulation', compared.map(({ formula, simulated }) => [formula.reads, simulated])],
    ['reads: formula vs. measurement', compared.map(({ formula, reads }) => [formula.reads, reads])],
    ['queries: formula vs. measurement', compared.map(({ formula, queries }) => [formula.queries, queries])],
    [
      'NATS messages: formula vs. measurement',
      relayed.map(({ formula, messages }) => [formula.messages, messages]),
    ],
    [
      'storms: simulation vs. measurement',
      comparedStorms.map(({ simulated, allSeconds }) => [simulated, allSeconds]),
    ],
  ];
  return comparisons.map(([name, pairs]) =>
    bound(`${name}, relative difference`, largestDifference(pairs), boundDifference, ''),
  );
}

function queriesChart() {
  return barChart(
    'Queries per second of all servers, with 30 events/s',
    [false, true].map((relay) => ({
      title: relay ? 'with the relay' : 'without the relay',
      bars: [1, 8, 64].map((servers) => {
        const { queries } = costOf({ servers, relay, events: 30, connections: 0, channelSize: 0 });
        return {
          label: `${servers} servers`,
          ours: relay,
          figure: { median: queries, low: queries, high: queries },
        };
      }),
    })),
  );
}

/** @param {string} name */
async function measurementsOf(name) {
  /** @type {unknown} */
  const saved = JSON.parse(await readFile(new URL(name, measurements), 'utf8'));
  return /** @type {{ readonly measured: unknown }} */ (saved).measured;
}

/** @param {Omit<Parameters<typeof simulateStorm>[0], 'seed'>} storm */
function stormOf(storm) {
  const few = storm.clients > 100_000 ? seeds.slice(0, 1) : seeds;
  return median(few.map((seed) => simulateStorm({ ...storm, seed })));
}

/** @param {readonly number[]} values */
function median(values) {
  return percentile(values, 0.5);
}

/**
 * Returns the largest difference within a pair, relative to its second value.
 *
 * @param {readonly (readonly number[])[]} pairs
 */
function largestDifference(pairs) {
  return Math.max(...pairs.map(([one = NaN, other = NaN]) => Math.abs(one - other) / other));
}
