import { runCommand, UsageError } from '../testkit/command.ts';
import type { Benchmark } from './benchmark.ts';
import { fanout } from './benchmarks/fanout.ts';
import { fleet } from './benchmarks/fleet.ts';
import { hostCost } from './benchmarks/host-cost.ts';
import { importRows } from './benchmarks/import.ts';
import { latency } from './benchmarks/latency.ts';
import { pixel } from './benchmarks/pixel.ts';
import { reader } from './benchmarks/reader.ts';
import { scale } from './benchmarks/scale.ts';
import { soak } from './benchmarks/soak.ts';
import { optionsHelp } from './options.ts';

const benchmarks: Readonly<Record<string, Benchmark>> = {
  latency,
  'host-cost': hostCost,
  import: importRows,
  reader,
  pixel,
  fanout,
  scale,
  fleet,
  soak,
};

const names = Object.keys(benchmarks);

function help(): string {
  const lines = Object.entries(benchmarks).map(([name, { summary, options }]) => {
    const defaults = Object.entries(options).map(([option, value]) => ` --${option} ${String(value)}`);
    return `  ${name.padEnd(9)} ${summary}\n           ${defaults.join('')}`;
  });
  return `Measures Flagcast with its own embedded PostgreSQL, on this machine. Needs Linux.

npm run bench -- <benchmark> [options]

${lines.join('\n')}
  all       all of them except ${names.filter((name) => benchmarks[name]?.isLong).join(', ')}

Each benchmark takes the options that are shown with their defaults above, and --output:
${optionsHelp}
  --output    folder of the results, default testing/bench/results

Each prints its tables, writes <benchmark>.json and ends with exit code 1 if a bound is missed. Targets that are not
installed are skipped. The processes and files of a run are removed, also after Ctrl-C.`;
}

await runCommand('bench', async ([wanted = '', ...args]) => {
  if (['-h', '--help'].some((option) => [wanted, ...args].includes(option))) {
    console.log(help());
    return;
  }
  const chosen = Object.entries(benchmarks).filter(([name, { isLong }]) =>
    wanted === 'all' ? isLong !== true : name === wanted,
  );
  if (chosen.length === 0) {
    throw new UsageError(`There is no benchmark ${JSON.stringify(wanted)}. Use ${names.join(', ')} or all`);
  }
  for (const [name, { start }] of chosen) {
    if (!(await start(name, args))) process.exitCode = 1;
  }
});
