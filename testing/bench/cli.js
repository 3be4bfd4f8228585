import { runCommand } from '../testkit/command.ts';
import { UsageError } from '../testkit/command.ts';
import { parseCommandLine, rejectOtherOptions } from './options.js';
import { boundLine } from './results.js';

/** @import { Options } from './options.js' */
/** @import { Bound } from './results.js' */

const help = `Benchmarks Flagcast with its own embedded PostgreSQL, on this machine.

npm run bench -- <benchmark> [options]

  latency  latency from COMMIT to the message at the client, compared with two baselines (about 2 minutes)
  host-cost  throughput of the host's writers with and without the triggers, and latency with 16 writers
           (about 3 minutes; takes --rounds and --output)
  import   a million audit rows in one statement with 50 clients: latency of another channel, memory
           (about 10 minutes)
  search   60 searches of one user at a time on a million audit rows: what other users wait (about 2 minutes; takes
           --seconds and --output)
  reader   cost of a read with empty tables and with 10 million audit rows (about 6 minutes)
  pixel    latency from COMMIT to the screen of two console windows, compared with a baseline (about 1 minute)
  fanout   processor time of the server for each delivered event, compared with other servers (about 20 minutes)
  burst    300 events at once to 1,000 clients: deliveries, closed connections, memory (about 4 minutes)
  idle     memory and processor time of idle connections (about 6 minutes)
  storm    5,000 clients lose their server and reconnect: duration, queries (about 2 minutes)
  fairness latency of a small channel while a large one is busy (about 2 minutes)
  workers  throughput and distribution of work of serve --workers 2 (about 2 minutes)
  scale    cost of fleets by formulas, compared with simulations and the results of fleet and storm
  soak     5,000 connections under a steady load: growth and leaks (30 minutes, or --minutes)
  fleet    1, 2, 4 and 8 servers with and without the relay: queries, messages, deliveries; with --faults
           8 servers under faults of the reader and NATS (about 8 minutes; needs nats-server)
  all      all of them except import, soak and fleet

fanout to workers take --clients (fanout several: --clients 1000,5000,15000), --rounds and --output FOLDER (default
testing/bench/results); fanout, burst and idle also --targets flagcast,flagcast.v1,ws,prebuilt,io_uring,socket.io,nchan,
mosquitto; fleet takes --clients, --seconds, --faults and --output. They need Linux. nchan and mosquitto are skipped
if they are not installed.

Each benchmark prints a table, writes testing/bench/results/<benchmark>.json and ends with exit code 1 if a bound is missed.
It removes its processes and files, also after Ctrl-C.`;

/**
 * `load`: imports one benchmark, because they need different libraries. `takes`: its options. `isLong`: not part of `all`.
 *
 * @typedef {{
 *   readonly load: () => Promise<(options: Options) => Promise<readonly Bound[]>>,
 *   readonly takes: readonly (keyof Options)[],
 *   readonly isLong?: boolean,
 * }} Benchmark
 */

/** @type {Readonly<Record<string, Benchmark>>} */
const benchmarks = {
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
  search: {
    load: async () => (await import('./search/search.js')).runSearch,
    takes: ['seconds', 'output'],
  },
  reader: { load: async () => (await import('./reader/reader.js')).runReader, takes: [] },
  pixel: { load: async () => (await import('./pixel/pixel.js')).runPixel, takes: [] },
  fanout: {
    load: async () => (await import('./fanout/fanout.js')).runFanout,
    takes: ['clients', 'rounds', 'targets', 'output'],
  },
  burst: {
    load: async () => (await import('./fanout/big-burst.js')).runBurst,
    takes: ['clients', 'rounds', 'targets', 'output'],
  },
  idle: {
    load: async () => (await import('./idle.js')).runIdle,
    takes: ['clients', 'rounds', 'targets', 'output'],
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
  const { benchmark: name, options, help: wantsHelp } = parseCommandLine(args);
  if (wantsHelp) {
    console.log(help);
    return;
  }
  const known = Object.keys(benchmarks);
  if (name !== 'all' && !known.includes(name)) {
    const problem =
      name === '' ? 'The name of a benchmark is missing.' : `There is no benchmark ${JSON.stringify(name)}.`;
    throw new UsageError(`${problem} Use ${known.join(', ')} or all`);
  }
  if (name === 'all') rejectOtherOptions(name, options, []);
  for (const [each, { load, takes, isLong = false }] of Object.entries(benchmarks)) {
    if (name === 'all' ? isLong : name !== each) continue;
    rejectOtherOptions(each, options, takes);
    const run = await load();
    for (const bound of await run(options)) {
      console.log(boundLine(bound));
      if (!bound.holds) process.exitCode = 1;
    }
  }
}

await runCommand('bench', main);
