import path from 'node:path';
import { runBounded } from '../bench/bounded-run.js';
import { runCommand } from '../bench/command.js';
import { requireFigures } from '../bench/process-figures.js';
import {
  bound,
  boundLine,
  clearProgress,
  markdownTable,
  saveResult,
  showProgress,
} from '../bench/results.js';
import { attackServer } from './attacks/run.js';
import { parseCommandLine } from './options.js';
import { fuzzParsers } from './parsers/run.js';

/** @import { AttackResults } from './attacks/run.js' */
/** @import { ParserResults } from './parsers/run.js' */

const help = `Gives Flagcast what nobody should send, and looks that it stands.

npm run fuzz -- [options]

  --inputs N    inputs to what reads messages, cursors, headers, tokens, settings (default 1000000)
  --attacks N   attacks on a server over raw sockets, while two clients that behave look on
                (default 20000); needs Linux
  --seed S      the same seed makes the same inputs and attacks (default: another one each time)
  --first N     the number of the first of them (default 0): with --inputs 1 or --attacks 1, that one again
  --minutes N   end after so long though some are left (default 60)
  --output DIR  the folder of fuzz.json (default fuzz/results)

Prints a table and ends with exit code 1 where a bound does not hold; fuzz.json then has the very input.
Nothing stays behind, also after Ctrl-C.`;

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
      ...(parsers === null
        ? []
        : [bound('inputs that a parser did not stand', parsers.faults.length, 0, '')]),
      ...(server?.bounds ?? []),
    ];
    for (const each of bounds) {
      console.log(boundLine(each));
      if (!each.holds) process.exitCode = 1;
    }
    const folder = output ?? path.join(import.meta.dirname, 'results');
    const file = await saveResult('fuzz', { seed, first, bounds, parsers, attacks: server }, folder);
    console.log(`Written to ${file}`);
  });
}

/** @param {ParserResults} results */
function showParsers({ inputs, seconds, parsers, faults }) {
  clearProgress();
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
  clearProgress();
  const {
    attacks,
    seconds,
    outcomes,
    faults,
    complaints,
    residentMegabytes,
    heapMegabytes,
    openFiles,
    bystanders,
  } = results;
  console.log(
    `\n${attacks} attacks in ${seconds.toFixed(0)} s; at most ${results.heldAtMost} connections held at a time, ${results.heldEndedByServer} of them ended by the server\n`,
  );
  /** @type {Map<string, { outcome: string, times: number }[]>} */
  const byAttack = new Map();
  for (const [key, times] of Object.entries(outcomes)) {
    const at = key.lastIndexOf(': ');
    const attack = key.slice(0, at);
    const ends = byAttack.get(attack) ?? [];
    byAttack.set(attack, [...ends, { outcome: key.slice(at + 2), times }]);
  }
  const rows = [...byAttack]
    .sort(([one], [other]) => (one < other ? -1 : 1))
    .map(([attack, ends]) => [
      attack,
      String(ends.reduce((sum, { times }) => sum + times, 0)),
      ends.map(({ outcome, times }) => `${outcome} (${times})`).join(', '),
    ]);
  console.log(markdownTable(['attack', 'times', 'how it ended'], rows));
  for (const { index, kind, name, problem, sent } of faults) {
    console.log(`\nFAULT attack ${index}, ${kind}: ${name}: ${problem}\n  ${sent.slice(0, shownInput)}`);
  }
  for (const line of complaints) console.log(`LOG ${line}`);
  const { before, peak, after } = residentMegabytes;
  console.log(
    `\nmemory of the server: ${before.toFixed(0)} MB before, ${peak.toFixed(0)} MB at the most, ${after.toFixed(0)} MB after`,
  );
  console.log(
    `its heap, after garbage was collected: ${heapMegabytes.before.toFixed(1)} MB before, ${heapMegabytes.after.toFixed(1)} MB after`,
  );
  console.log(
    `files of the server: ${openFiles.before} before, ${openFiles.peak} seen at the most, ${openFiles.after} after`,
  );
  console.log(
    `bystanders: ${bystanders.written} changes written, ${bystanders.events} events in all, the slowest came after ${bystanders.slowestMs.toFixed(0)} ms\n`,
  );
}

await runCommand('fuzz', main);
