import path from 'node:path';
import { runBounded } from '../testkit/bounded-run.ts';
import { runCommand } from '../testkit/command.ts';
import { requireFigures } from '../testkit/process-figures.ts';
import { atMost, holds, boundLine, markdownTable, saveResult, showProgress } from '../testkit/report.ts';
import { attackServer } from './attacks/run.js';
import { parseCommandLine } from './options.js';
import { fuzzParsers } from './parsers/run.js';

/** @import { AttackResults } from './attacks/run.js' */
/** @import { ParserResults } from './parsers/run.js' */

const help = `Sends Flagcast invalid and hostile input, and checks that it keeps its promises.

npm run fuzz -- [options]

  --inputs N    number of inputs for the parsers of messages, cursors, headers, tokens, settings (default 1000000)
  --attacks N   number of attacks on a server over raw sockets, with two control clients (default 20000); needs
                Linux
  --seed S      seed of the inputs and attacks (default: random)
  --first N     number of the first input or attack (default 0); with --inputs 1 or --attacks 1 repeats that one
  --minutes N   time limit (default 60)
  --output DIR  folder of fuzz.json (default testing/fuzz/results)

Prints a table and ends with exit code 1 if a bound is missed; fuzz.json then has the input. Removes its processes
and files, also after Ctrl-C.`;

const graceMs = 5 * 60_000;
const shownInput = 200;

/** @param {readonly string[]} args */
async function main(args) {
  const { inputs, attacks, seed, first, minutes, output, help: wantsHelp } = parseCommandLine(args);
  if (wantsHelp) {
    console.log(help);
    return;
  }
  if (attacks > 0) requireFigures();
  const endsAtMs = performance.now() + minutes * 60_000;
  await runBounded(minutes * 60_000 + graceMs, async (run) => {
    console.log(`seed ${seed}`);
    const parsers =
      inputs === 0
        ? null
        : await fuzzParsers({
            inputs,
            first,
            seed,
            endsAtMs,
            signal: run.signal,
            onProgress: (given, faults) =>
              showProgress(`fuzz: ${given} of ${inputs} inputs, ${faults} faults`),
          });
    if (parsers !== null) showParsers(parsers);
    const server =
      attacks === 0
        ? null
        : await attackServer(run, {
            attacks,
            first,
            seed,
            endsAtMs,
            onProgress: (made, faults, resident) =>
              showProgress(
                `fuzz: ${made} of ${attacks} attacks, ${faults} faults, ${resident.toFixed(0)} MB`,
              ),
          });
    if (server !== null) showAttacks(server);
    const bounds = [
      ...(parsers === null ? [] : [atMost('inputs that a parser failed on', parsers.faults.length, 0, '')]),
      ...(server?.bounds ?? []),
    ];
    for (const each of bounds) {
      console.log(boundLine(each));
      if (!holds(each)) process.exitCode = 1;
    }
    const folder = output ?? path.join(import.meta.dirname, 'results');
    const file = await saveResult('fuzz', { seed, first, bounds, parsers, attacks: server }, folder);
    console.log(`Written to ${file}`);
  });
}

/** @param {ParserResults} results */
function showParsers({ inputs, seconds, parsers, faults }) {
  showProgress('');
  console.log(`\n${inputs} inputs in ${seconds.toFixed(0)} s\n`);
  const rows = parsers.map(({ parser, inputs: given, bytes, slowestMs, largeMs }) => [
    parser,
    String(given),
    String(Math.round(bytes / 1_000)),
    slowestMs.toFixed(1),
    largeMs.toFixed(1),
    String(faults.filter((fault) => fault.parser === parser).length),
  ]);
  console.log(markdownTable(['parser', 'inputs', 'kB', 'slowest, ms', 'large, ms', 'faults'], rows));
  for (const { parser, index, bytes, problem, input } of faults) {
    console.log(
      `\nFAULT ${parser}, input ${index ?? 'large'} of ${bytes} bytes: ${problem}\n  ${input.slice(0, shownInput)}`,
    );
  }
}

/** @param {AttackResults} results */
function showAttacks(results) {
  showProgress('');
  const {
    attacks,
    seconds,
    outcomes,
    faults,
    warnings,
    residentMegabytes,
    heapMegabytes,
    openFiles,
    controlClients,
  } = results;
  console.log(
    `\n${attacks} attacks in ${seconds.toFixed(0)} s; up to ${results.maxHeld} connections held open, ${results.heldClosedByServer} of them closed by the server\n`,
  );
  /** @type {Map<string, { outcome: string, times: number }[]>} */
  const byAttack = new Map();
  for (const [key, times] of Object.entries(outcomes)) {
    const at = key.lastIndexOf(': ');
    const attack = key.slice(0, at);
    const counts = byAttack.get(attack) ?? [];
    byAttack.set(attack, [...counts, { outcome: key.slice(at + 2), times }]);
  }
  const rows = [...byAttack]
    .sort(([one], [other]) => (one < other ? -1 : 1))
    .map(([attack, counts]) => [
      attack,
      String(counts.reduce((sum, { times }) => sum + times, 0)),
      counts.map(({ outcome, times }) => `${outcome} (${times})`).join(', '),
    ]);
  console.log(markdownTable(['attack', 'times', 'outcomes'], rows));
  for (const { index, kind, name, problem, sent } of faults) {
    console.log(`\nFAULT attack ${index}, ${kind}: ${name}: ${problem}\n  ${sent.slice(0, shownInput)}`);
  }
  for (const line of warnings) console.log(`LOG ${line}`);
  const { before, peak, after } = residentMegabytes;
  console.log(
    `\nmemory of the server: ${before.toFixed(0)} MB before, ${peak.toFixed(0)} MB peak, ${after.toFixed(0)} MB after`,
  );
  console.log(
    `its heap after garbage collection: ${heapMegabytes.before.toFixed(1)} MB before, ${heapMegabytes.after.toFixed(1)} MB after`,
  );
  console.log(
    `open files of the server: ${openFiles.before} before, ${openFiles.peak} highest sample, ${openFiles.after} after`,
  );
  console.log(
    `control clients: ${controlClients.written} changes written, ${controlClients.events} events, the slowest arrived after ${controlClients.slowestMs.toFixed(0)} ms\n`,
  );
}

await runCommand('fuzz', main);
