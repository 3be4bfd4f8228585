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
const measurements = new URL('../../docs/performance/', import.meta.url);
/** Formula, simulation and measurement are to agree so well. */
const boundApart = 0.2;
const simulatedSeconds = 600;
/** What an attempt costs the one processor that all clients of `storm` share. */
const measuredAttemptSeconds = 0.00015;
const seeds = [1, 2, 3, 4, 5];

/** `events` were committed in `seconds`; the others are for each second. @typedef {{ readonly servers: number, readonly relay: boolean, readonly seconds: number, readonly events: number, readonly reads: number, readonly queries: number, readonly messages: number }} MeasuredFleet */
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

/** Clients that come back at once, to so many servers. */
const storms = [
  { what: '1 of 8 servers with 12,500 each is lost', clients: 12_500, servers: 7, awaySeconds: 0 },
  { what: '1 of 64 servers with 15,625 each is lost', clients: 15_625, servers: 63, awaySeconds: 0 },
  { what: '64 servers with 1,000,000 are away for 5 s', clients: 1_000_000, servers: 64, awaySeconds: 5 },
];

/**
 * What fleets cost by the formulas, beside a simulation and what was measured, and for sizes that were not.
 *
 * @param {Options} options
 * @returns {Promise<readonly Bound[]>}
 */
export async function runScale({ output }) {
  const measured = /** @type {readonly MeasuredFleet[]} */ (await measurementsOf('fleet.json'));
  const measuredStorms = /** @type {readonly MeasuredStorm[]} */ (await measurementsOf('storms.json'));
  const compared = measured.map(
    ({ servers, relay, seconds, events: committed, reads, queries, messages }) => {
      const events = committed / seconds;
      const formula = costOf({ servers, relay, events, connections: 0, channelSize: 0 });
      const commits = events * costs.commitsPerEvent;
      const ofOne = median(seeds.map((seed) => simulateReader({ commits, seconds: simulatedSeconds, seed })));
      const simulated = relay ? ofOne : servers * ofOne;
      return { servers, relay, events, reads, queries, messages, formula, simulated };
    },
  );
  const comparedStorms = measuredStorms.map((storm) => ({
    ...storm,
    simulated: stormOf({ ...storm, servers: 1, attemptSeconds: measuredAttemptSeconds }),
  }));

  console.log('Reads and queries of a fleet in a second: measured, by the formula, simulated\n');
  console.log(
    markdownTable(
      [
        'servers',
        'relay',
        'events/s',
        'reads',
        'formula',
        'simulated',
        'queries',
        'formula',
        'NATS',
        'formula',
      ],
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
    ),
  );
  console.log('\nUntil all clients of one server are live again, in seconds\n');
  console.log(
    markdownTable(
      ['clients', 'away', 'measured', 'simulated'],
      comparedStorms.map(({ clients, awaySeconds, allSeconds, simulated }) =>
        [clients, awaySeconds, allSeconds, simulated].map((value) => figure(value)),
      ),
    ),
  );
  console.log('\nWhat was not measured\n');
  const costed = fleets.map((fleet) => ({ ...fleet, ...costOf(fleet) }));
  console.log(
    markdownTable(
      [
        'servers',
        'relay',
        'connections',
        'in a channel',
        'events/s',
        'queries/s',
        'NATS messages/s',
        'deliveries/s',
        'cores of each',
        'GB of each',
      ],
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
    ),
  );
  const comebacks = storms.map((storm) => ({ ...storm, seconds: stormOf(storm) }));
  console.log(
    `\n${markdownTable(
      ['', 'seconds until all are live'],
      comebacks.map(({ what, seconds }) => [what, seconds.toFixed(1)]),
    )}`,
  );

  const takeovers = [2, 8, 64].map((servers) => {
    const seconds = Array.from({ length: 1_000 }, (_, seed) => simulateTakeover({ servers, seed }));
    return { servers, half: percentile(seconds, 0.5), slowest: percentile(seconds, 1) };
  });
  console.log(
    `\n${markdownTable(
      ['servers', 'seconds until the killed reader is replaced, median', 'the slowest of 1,000'],
      takeovers.map(({ servers, half, slowest }) => [String(servers), half.toFixed(2), slowest.toFixed(2)]),
    )}`,
  );

  const bounds = [
    bound(
      'reads: the formula apart from the simulation',
      apart(compared.map(({ formula, simulated }) => [formula.reads, simulated])),
      boundApart,
      '',
    ),
    bound(
      'reads: the formula apart from what was measured',
      apart(compared.map(({ formula, reads }) => [formula.reads, reads])),
      boundApart,
      '',
    ),
    bound(
      'queries: the formula apart from what was measured',
      apart(compared.map(({ formula, queries }) => [formula.queries, queries])),
      boundApart,
      '',
    ),
    bound(
      'NATS messages: the formula apart from what was measured',
      apart(
        compared.filter(({ relay }) => relay).map(({ formula, messages }) => [formula.messages, messages]),
      ),
      boundApart,
      '',
    ),
    bound(
      'storms: the simulation apart from what was measured',
      apart(comparedStorms.map(({ simulated, allSeconds }) => [simulated, allSeconds])),
      boundApart,
      '',
    ),
  ];
  const chart = barChart(
    'Queries in a second, all servers together, with 30 events/s',
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
  await saveFile('scale.svg', chart, output);
  const file = await saveResult(
    'scale',
    {
      bounds,
      costs,
      readsOf30Events: readsPerSecond(30),
      compared,
      comparedStorms,
      fleets: costed,
      comebacks,
    },
    output,
  );
  console.log(`\nWritten to ${file}`);
  return bounds;
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
 * By how much the first of a pair is apart from the second, as a share of it: the largest of all pairs.
 *
 * @param {readonly (readonly number[])[]} pairs
 */
function apart(pairs) {
  return Math.max(...pairs.map(([one = NaN, other = NaN]) => Math.abs(one - other) / other));
}
