import { runCommand } from './command.js';
import { parseCommandLine, refuseOthers, UsageError } from './options.js';
import { boundLine } from './results.js';

/** @import { Options } from './options.js' */
/** @import { Bound } from './results.js' */

const help = `Measures Flagcast against an embedded PostgreSQL of its own, on this machine.

npm run bench -- <measurement> [options]

  latency  from a commit to the message at the client, beside two floors (about 2 minutes)
  host-cost  what the triggers cost the writers of the host, and commit to message while 16 of them are at work
           (about 3 minutes; takes --rounds and --output)
  import   a million audit rows in one statement while 50 clients watch: another channel, memory (about 10 minutes)
  reader   what one read costs with empty tables and with 10 million audit rows (about 6 minutes)
  pixel    from a commit to the screen of two windows of the console, beside a floor (about 1 minute)
  fanout   processor time of the server for each event that reaches a client, beside other servers
           (about 20 minutes)
  burst    300 events at once to 1,000 clients: what arrives, who is cut off, memory (about 4 minutes)
  idle     memory and processor time of connections on which nothing happens (about 6 minutes)
  storm    5,000 clients lose their server and come back: how long, how many queries (about 2 minutes)
  fairness events of a small channel beside a large one (about 2 minutes)
  workers  what serve --workers 2 adds: deliveries, and how the work is split (about 2 minutes)
  scale    what fleets cost by formulas, beside a simulation and what fleet and storm measured
  soak     5,000 connections and a steady load: what grows, what is left behind (30 minutes, or --minutes)
  fleet    1, 2, 4 and 8 servers with and without the relay: queries, messages, what clients are told;
           with --faults 8 of them while the reader and NATS are broken (about 8 minutes; needs nats-server)
  all      one after the other, without soak and fleet

Those from fanout to workers take --clients (fanout several: --clients 1000,5000,15000), --rounds and --output FOLDER
in place of bench/results; fanout, burst and idle also --contenders flagcast,flagcast.v1,ws,prebuilt,ring,
socket.io,nchan,mosquitto; fleet --clients, --seconds, --faults and --output. They need Linux; nchan and
mosquitto are left out where they are not installed.

Each prints a table, writes bench/results/<measurement>.json and ends with exit code 1 when a
figure that has to hold does not. Nothing stays behind, also after Ctrl-C.`;

/**
 * `load` fetches the code of one measurement only: they need different libraries. `isLong`: not one of `all`.
 *
 * @typedef {{
 *   readonly load: () => Promise<(options: Options) => Promise<readonly Bound[]>>,
 *   readonly takes: readonly (keyof Options)[],
 *   readonly isLong?: boolean,
 * }} Measurement
 */

/** @type {Readonly<Record<string, Measurement>>} */
const measurements = {
  latency: { load: async () => (await import('./latency/latency.js')).runLatency, takes: [] },
  'host-cost': {
    load: async () => (await import('./host-cost/host-cost.js')).runHostCost,
    takes: ['rounds', 'output'],
  },
  import: {
    load: async () => (await import('./import/import.js')).runImport,
    takes: ['clients', 'output'],
    isLong: true,
  },
  reader: { load: async () => (await import('./reader/reader.js')).runReader, takes: [] },
  pixel: { load: async () => (await import('./pixel/pixel.js')).runPixel, takes: [] },
  fanout: {
    load: async () => (await import('./fanout/fanout.js')).runFanout,
    takes: ['clients', 'rounds', 'contenders', 'output'],
  },
  burst: {
    load: async () => (await import('./fanout/big-burst.js')).runBurst,
    takes: ['clients', 'rounds', 'contenders', 'output'],
  },
  idle: {
    load: async () => (await import('./idle.js')).runIdle,
    takes: ['clients', 'rounds', 'contenders', 'output'],
  },
  storm: {
    load: async () => (await import('./storm/storm.js')).runStorm,
    takes: ['clients', 'rounds', 'output'],
  },
  fairness: {
    load: async () => (await import('./fairness/fairness.js')).runFairness,
    takes: ['clients', 'rounds', 'output'],
  },
  workers: {
    load: async () => (await import('./workers/workers.js')).runWorkers,
    takes: ['clients', 'rounds', 'output'],
  },
  scale: {
    load: async () => (await import('./scale/scale.js')).runScale,
    takes: ['output'],
  },
  soak: {
    load: async () => (await import('./soak/soak.js')).runSoak,
    takes: ['clients', 'minutes', 'output'],
    isLong: true,
  },
  fleet: {
    load: async () => (await import('./fleet/fleet.js')).runFleet,
    takes: ['clients', 'seconds', 'faults', 'output'],
    isLong: true,
  },
};

/** @param {readonly string[]} args */
async function main(args) {
  const { measurement: name, options, help: wantsHelp } = parseCommandLine(args);
  if (wantsHelp) {
    console.log(help);
    return;
  }
  const known = Object.keys(measurements);
  if (name !== 'all' && !known.includes(name)) {
    const problem = name === '' ? 'Which measurement?' : `There is no measurement ${JSON.stringify(name)}.`;
    throw new UsageError(`${problem} Say ${known.join(', ')} or all`);
  }
  if (name === 'all') refuseOthers(name, options, []);
  for (const [each, { load, takes, isLong = false }] of Object.entries(measurements)) {
    if (name === 'all' ? isLong : name !== each) continue;
    refuseOthers(each, options, takes);
    const run = await load();
    for (const bound of await run(options)) {
      console.log(boundLine(bound));
      if (!bound.holds) process.exitCode = 1;
    }
  }
}

await runCommand('bench', main);
