import { readFile } from 'node:fs/promises';
import { loadavg } from 'node:os';
import path from 'node:path';
import { runBounded } from '../bench/bounded-run.js';
import { runCommand } from '../bench/command.js';
import { clearProgress, markdownTable, saveResult } from '../bench/results.js';
import { runChaos } from './chaos.js';
import { parseCommandLine } from './options.js';

/** @import { Report } from './verdicts.js' */

const help = `Lets servers, a PostgreSQL of their own and clients of every kind run into faults, and compares every client
with the database in the end.

npm run chaos -- [options]

  --minutes 5     how long faults are inflicted, from 0.1
  --seed S        which ones, when and on whom; drawn where it is not given
  --servers 2     at least 2: the first one is never ended, so that leaks in it can be told
  --clients 200   of all kinds, at least 8
  --no-browser    without the console in a Chromium
  --verbose       a line for each fault
  --output FOLDER for chaos-<seed>.json, in place of chaos/results

Ends with exit code 1 when anything was lost, repeated, invented, out of order or foreign, when a client is
stuck or its state differs, or when a server leaks; then it prints the timeline of the first events concerned.
The faults of a seed are always the same ones; what they meet is not. Nothing stays behind, also after Ctrl-C.`;

/** Beside the faults: starting, catching up and leaving, in milliseconds. */
const besideMs = 600_000;

/** @param {readonly string[]} args */
async function main(args) {
  const options = parseCommandLine(args);
  if (options.help) {
    console.log(help);
    return;
  }
  const startedAtMs = performance.now();
  const busyness = loadavg()[0] ?? 0;
  const report = await runBounded(
    options.minutes * 60_000 + besideMs,
    async (run) => await runChaos(run, options),
  );
  clearProgress();
  const cpuSeconds = await processorSeconds();
  const seconds = (performance.now() - startedAtMs) / 1_000;
  print(report);
  console.log(
    `${seconds.toFixed(0)} s${cpuSeconds === null ? '' : `, ${cpuSeconds.toFixed(0)} s of processor time`}; load average at the start ${busyness.toFixed(1)}`,
  );
  const folder = options.output ?? path.join(import.meta.dirname, 'results');
  const file = await saveResult(`chaos-${report.seed}`, { ...report, seconds, cpuSeconds }, folder);
  console.log(`${file}\n${report.command}`);
  if (!report.holds) process.exitCode = 1;
}

/** @param {Report} report */
function print({
  clients,
  verdicts,
  faults,
  faultCount,
  deliveries,
  committed,
  sentAway,
  leftOut,
  details,
  seed,
  holds,
}) {
  const kinds = Object.entries(clients).map(([kind, { count, deliveries: told, segments }]) => [
    kind,
    String(count),
    String(told),
    String(segments),
  ]);
  console.log(
    markdownTable(['clients', 'count', 'deliveries', 'connections or resumptions without a gap'], kinds),
  );
  console.log(`\n${committed} events were committed, ${deliveries} deliveries`);
  console.log(`sent away, by HTTP status or close code: ${JSON.stringify(sentAway)}\n`);
  console.log(
    markdownTable(
      ['fault', 'times'],
      Object.entries({ ...faults, all: faultCount }).map(([kind, count]) => [kind, String(count)]),
    ),
  );
  for (const [what, why] of Object.entries(leftOut)) console.log(`left out: ${what} (${why})`);
  console.log('');
  console.log(
    markdownTable(
      ['verdict', 'found', ''],
      verdicts.map(({ name, count, note }) => [name, String(count), note]),
    ),
  );
  console.log(`\nseed ${seed}: ${holds ? 'everything holds' : 'NOT everything holds'}`);
  for (const detail of details) console.log(detail);
}

/** What this process and all that it started have used, once they have ended; null where the system does not tell. */
async function processorSeconds() {
  if (process.platform !== 'linux') return null;
  const stat = await readFile('/proc/self/stat', 'utf8');
  // From the 14th field on: user, system, children's user, children's system; in hundredths of a second.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return fields.slice(11, 15).reduce((sum, field) => sum + Number(field) / 100, 0);
}

await runCommand('chaos', main);
