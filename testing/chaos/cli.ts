import { readFile } from 'node:fs/promises';
import { loadavg } from 'node:os';
import path from 'node:path';
import { runBounded } from '../testkit/bounded-run.ts';
import { runCommand } from '../testkit/command.ts';
import { markdownTable, saveResult, showProgress } from '../testkit/report.ts';
import { runChaos } from './chaos.ts';
import type { Report } from './checker.ts';
import { parseCommandLine } from './options.ts';

const help = `Runs servers, their own PostgreSQL and clients of every kind under injected faults, then compares every client
with the database.

npm run chaos -- [options]

  --minutes 5     duration of the faults, from 0.1
  --seed S        seed of the faults, their times and targets; default: random
  --servers 2     number of servers, at least 2; no fault ends the first one, so that its leaks can be measured
  --clients 200   number of clients of channels, at least 9; those of approvals and presence are more
  --no-browser    run without the console in a Chromium
  --relay         the servers share one reader through NATS, which faults stop; needs nats-server
  --verbose       print a line for each fault
  --output FOLDER write chaos-<seed>.json there; default: testing/chaos/results

Ends with exit code 1 when an event was lost, repeated, invented, out of order or foreign, when a client is stuck, its
state differs or it shows others than are there, or when a server leaks. It then prints timelines of the first anomalies. A seed always gives the
same faults, but not the same timing of the system. The run removes its processes and files, also after Ctrl-C.`;

/** Time limit for everything except the faults: start, catching up and end, in milliseconds. */
const overheadMs = 600_000;

async function main(args: readonly string[]): Promise<void> {
  const options = parseCommandLine(args);
  if (options.help) {
    console.log(help);
    return;
  }
  const startedAtMs = performance.now();
  const loadAverage = loadavg()[0] ?? 0;
  const report = await runBounded(
    options.minutes * 60_000 + overheadMs,
    async (run) => await runChaos(run, options),
  );
  showProgress('');
  const cpuSeconds = await processorSeconds();
  const seconds = (performance.now() - startedAtMs) / 1_000;
  print(report);
  console.log(
    `${seconds.toFixed(0)} s${cpuSeconds === null ? '' : `, ${cpuSeconds.toFixed(0)} s of processor time`}; load average at the start ${loadAverage.toFixed(1)}`,
  );
  const folder = options.output ?? path.join(import.meta.dirname, 'results');
  const file = await saveResult(`chaos-${report.seed}`, { ...report, seconds, cpuSeconds }, folder);
  console.log(`${file}\n${report.command}`);
  if (!report.valid) process.exitCode = 1;
}

function print(report: Report): void {
  const { clients, checks, details } = report;
  const kinds = Object.entries(clients).map(([kind, { count, deliveries: received, segments }]) => [
    kind,
    count,
    received,
    segments,
  ]);
  console.log(markdownTable(['clients', 'count', 'deliveries', 'segments without a gap'], kinds));
  console.log(`\n${report.committed} events were committed, ${report.deliveries} deliveries`);
  console.log(`rejected connections, by HTTP status or close code: ${JSON.stringify(report.rejected)}\n`);
  console.log(
    markdownTable(['fault', 'times'], Object.entries({ ...report.faults, all: report.faultCount })),
  );
  for (const [name, reason] of Object.entries(report.skipped)) console.log(`skipped: ${name} (${reason})`);
  console.log('');
  console.log(
    markdownTable(
      ['check', 'found', ''],
      checks.map(({ name, count, note }) => [name, count, note]),
    ),
  );
  console.log(`\nseed ${report.seed}: ${report.valid ? 'all checks passed' : 'checks FAILED'}`);
  for (const detail of details) console.log(detail);
}

/** Processor time of this process and of its ended child processes; null where the system has no /proc. */
async function processorSeconds(): Promise<number | null> {
  if (process.platform !== 'linux') return null;
  const stat = await readFile('/proc/self/stat', 'utf8');
  // proc(5): fields 14-17 are utime, stime, cutime and cstime, in hundredths of a second.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return fields.slice(11, 15).reduce((sum, field) => sum + Number(field) / 100, 0);
}

await runCommand('chaos', main);
