import path from 'node:path';
import { runBounded } from '../testkit/bounded-run.ts';
import { numberOption, parseOptions, runCommand, UsageError } from '../testkit/command.ts';
import { requireFigures } from '../testkit/process-figures.ts';
import { boundLine, holds, markdownTable, none, saveResult, showProgress } from '../testkit/report.ts';
import { type AttackResults, attackServer } from './attacks/run.ts';
import { parsers } from './parsers/parsers.ts';
import { fuzzParsers, type ParserResult } from './parsers/run.ts';

const help = `Sends Flagcast invalid and hostile input, and checks that it keeps its promises.

npm run fuzz -- [options]

  --inputs N     number of inputs for the parsers of messages, cursors, headers, tokens, settings (default 1000000)
  --attacks N    number of attacks on a server over raw sockets, with two control clients (default 20000); needs
                 Linux
  --seed S       seed of the inputs and attacks (default: random)
  --first N      number of the first attack (default 0)
  --parser NAME  only this parser
  --path PATH    only the input at this path of fast-check
  --minutes N    time limit (default 60)
  --output DIR   folder of fuzz.json (default testing/fuzz/results)

Prints a table, and for each fault the command that repeats it. Ends with exit code 1 if a bound is missed; fuzz.json
then has the input. Removes its processes and files, also after Ctrl-C.`;

const graceMs = 5 * 60_000;
const shownInput = 200;
const text = { type: 'string' } as const;

async function main(args: readonly string[]): Promise<void> {
  const options = parseOptions(args, {
    ...{ help: { type: 'boolean', short: 'h' }, parser: text, path: text },
    ...{ inputs: text, attacks: text, seed: text, first: text, minutes: text, output: text },
  });
  if (options.help === true) {
    console.log(help);
    return;
  }
  const number = (
    name: 'inputs' | 'attacks' | 'seed' | 'first' | 'minutes',
    most: number,
    value: number,
  ): number => numberOption(`--${name}`, options[name] ?? String(value), { least: 0, most });
  const inputs = number('inputs', 1e9, 1_000_000);
  const attacks = number('attacks', 1e8, 20_000);
  const seed = number('seed', 2 ** 31 - 1, Date.now() % 2 ** 31);
  const first = number('first', 1e9, 0);
  const minutes = number('minutes', 10_000, 60);
  const { parser: only, output = path.join(import.meta.dirname, 'results') } = options;
  if (!parsers.some(({ name }) => name === (only ?? name))) {
    throw new UsageError(`--parser takes one of: ${parsers.map(({ name }) => name).join('; ')}`);
  }
  if (attacks > 0) requireFigures();
  const endsAtMs = performance.now() + minutes * 60_000;
  await runBounded(minutes * 60_000 + graceMs, async (run) => {
    console.log(`seed ${seed}`);
    const onProgress = (progress: string): void => showProgress(`fuzz: ${progress}`);
    const common = { seed, endsAtMs, signal: run.signal, onProgress };
    const inputOptions = { ...common, inputs, only, path: options.path };
    const results = inputs === 0 ? [] : await fuzzParsers(inputOptions);
    showParsers(results, seed);
    const server = attacks === 0 ? null : await attackServer(run, { ...common, attacks, first });
    if (server !== null) showAttacks(server, seed);
    const failed = results.filter(({ faults }) => faults.length > 0);
    const bounds = [none('parsers that failed', failed.length), ...(server?.bounds ?? [])];
    for (const bound of bounds) console.log(boundLine(bound));
    if (!bounds.every(holds)) process.exitCode = 1;
    const file = await saveResult('fuzz', { seed, first, bounds, parsers: results, attacks: server }, output);
    console.log(`Written to ${file}`);
  });
}

function showParsers(results: readonly ParserResult[], seed: number): void {
  showProgress('');
  const rows = results.map(({ parser, inputs, slowestMs, largeMs, faults }) => [
    ...[parser, inputs, slowestMs.toFixed(1), largeMs.toFixed(1), faults.length],
  ]);
  console.log(markdownTable(['parser', 'inputs', 'slowest, ms', 'large, ms', 'faults'], rows));
  for (const { parser, faults } of results) {
    for (const { bytes, problem, input, path: inputPath } of faults) {
      const repeat = `--attacks 0 --seed ${seed} --parser '${parser}'${inputPath === null ? '' : ` --path ${inputPath}`}`;
      showFault(`${parser}, ${bytes} bytes: ${problem}`, input, repeat);
    }
  }
}

function showAttacks(results: AttackResults, seed: number): void {
  showProgress('');
  const { attacks, seconds, outcomes, mostHeld, closedByServer, faults, warnings, controlClients } = results;
  const rows = Object.entries(outcomes).sort(([one], [other]) => (one < other ? -1 : 1));
  console.log(markdownTable(['attack and outcome', 'times'], rows));
  for (const { index, name, problem, sent } of faults) {
    showFault(
      `attack ${index}, ${name}: ${problem}`,
      sent,
      `--inputs 0 --seed ${seed} --first ${index} --attacks 1`,
    );
  }
  for (const line of warnings) console.log(`LOG ${line}`);
  const { events, slowestMs, differences, interruptions } = controlClients;
  for (const line of [...differences, ...interruptions]) console.log(`CONTROL CLIENTS ${line}`);
  console.log(`
${attacks} attacks in ${seconds.toFixed(0)} s; up to ${mostHeld} connections held open, ${closedByServer} of them closed by the server
control clients: ${events} events, the slowest arrived after ${slowestMs.toFixed(0)} ms
`);
}

function showFault(problem: string, input: string, repeat: string): void {
  console.log(`\nFAULT ${problem}\n  ${input.slice(0, shownInput)}\n  npm run fuzz -- ${repeat}`);
}

await runCommand('fuzz', main);
