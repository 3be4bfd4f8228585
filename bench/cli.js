import { InterruptedError } from './bounded-run.js';
import { runLatency } from './latency/latency.js';
import { runPixel } from './pixel/pixel.js';
import { runReader } from './reader/reader.js';
import { boundLine, clearProgress } from './results.js';

/** @import { Bound } from './results.js' */

const help = `Measures Flagcast against an embedded PostgreSQL of its own, on this machine.

npm run bench -- <measurement>

  latency  from a commit to the message at the client, beside two floors (about 2 minutes)
  reader   what one read costs with 10 thousand and with 2 million audit rows (about 3 minutes)
  pixel    from a commit to the screen of two windows of the console, beside a floor (about 1 minute)
  all      one after the other

Each prints a table, writes bench/results/<measurement>.json and ends with exit code 1 when a
figure that has to hold does not. Nothing stays behind, also after Ctrl-C.`;

/** @type {Readonly<Record<string, readonly (() => Promise<readonly Bound[]>)[]>>} */
const measurements = {
  latency: [runLatency],
  reader: [runReader],
  pixel: [runPixel],
  all: [runLatency, runReader, runPixel],
};

/** @param {readonly string[]} args */
async function main(args) {
  if (args.includes('--help') || args.includes('-h')) {
    console.log(help);
    return;
  }
  const [name = ''] = args;
  const chosen = Object.hasOwn(measurements, name) ? measurements[name] : undefined;
  if (chosen === undefined || args.length !== 1) {
    const problem =
      args.length > 1
        ? 'One measurement at a time.'
        : name === ''
          ? 'Which measurement?'
          : `There is no measurement ${JSON.stringify(name)}.`;
    console.error(`bench: ${problem} Say latency, reader, pixel or all; npm run bench -- --help tells more`);
    process.exitCode = 2;
    return;
  }
  for (const measure of chosen) {
    for (const bound of await measure()) {
      console.log(boundLine(bound));
      if (!bound.holds) process.exitCode = 1;
    }
  }
}

try {
  await main(process.argv.slice(2));
} catch (error) {
  clearProgress();
  process.exitCode = error instanceof InterruptedError ? error.exitCode : 1;
  console.error(`bench: ${error instanceof Error ? error.message : String(error)}`);
}
