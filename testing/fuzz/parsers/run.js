import { setImmediate as nextTick } from 'node:timers/promises';
import { randomJson, mutate } from '../hostile-input.js';
import { SeededRandom } from '../../testkit/random.ts';
import { parsers } from './parsers.js';

/** @import { Parser } from './parsers.js' */

/**
 * An input that a parser failed on. `index`: null for a large input. `input`: the bytes in hex, at most `maxShownBytes`.
 *
 * @typedef {{ parser: string, index: number | null, bytes: number, problem: string, input: string }} ParserFault
 */

/**
 * @typedef {{
 *   readonly parser: string,
 *   readonly inputs: number,
 *   readonly bytes: number,
 *   readonly slowestMs: number,
 *   readonly largeMs: number,
 * }} ParserFigures
 * `slowestMs`: the longest time of a random input. `largeMs`: the longest time of a large input (1 MB in a full run).
 */

/** @typedef {{ inputs: number, seconds: number, parsers: readonly ParserFigures[], faults: readonly ParserFault[] }} ParserResults */

const maxShownBytes = 65_536;
/** A parser gets no more inputs after this number of faults. */
const maxFaults = 10;
/** Time limits of a parser for random and for large inputs, in milliseconds. */
const inputLimitMs = 50;
const largeLimitMs = 250;
/**
 * A slow input is repeated and its processor time measured, because the machine may have been busy.
 */
const attempts = 5;
const largeBytes = 1_048_576;
const mediumBytes = 65_536;
/** Runs with this number of inputs use the largest inputs. */
const fullRun = 1_000_000;
/** The event loop runs after each batch, so that Ctrl-C works. */
const batchSize = 4_096;

/**
 * Passes inputs to all parsers.
 *
 * @param {{
 *   readonly inputs: number,
 *   readonly first: number,
 *   readonly seed: number,
 *   readonly endsAtMs: number,
 *   readonly signal: AbortSignal,
 *   readonly onProgress: (inputs: number, faults: number) => void,
 * }} options `endsAtMs`: time limit, by performance.now()
 * @returns {Promise<ParserResults>}
 */
export async function fuzzParsers({ inputs, first, seed, endsAtMs, signal, onProgress }) {
  const startedAtMs = performance.now();
  /** @type {ParserFault[]} */
  const faults = [];
  const figures = new Map(
    parsers.map((parser) => [parser, { inputs: 0, bytes: 0, slowestMs: 0, largeMs: 0 }]),
  );
  const weighted = parsers.flatMap((parser) =>
    Array.from({ length: Math.max(1, 16 / (parser.rarity ?? 1)) }, () => parser),
  );
  let given = 0;
  for (; given < inputs; given += 1) {
    if (given % batchSize === 0) {
      onProgress(given, faults.length);
      await nextTick();
      signal.throwIfAborted();
      if (performance.now() > endsAtMs) break;
    }
    const index = first + given;
    const random = new SeededRandom(seed, index);
    const parser = random.pick(weighted);
    const figure = figures.get(parser);
    if (
      figure === undefined ||
      faults.filter(({ parser: name }) => name === parser.name).length >= maxFaults
    ) {
      continue;
    }
    const bytes = random.oneIn(8) ? Buffer.from(randomJson(random)) : mutate(random, parser.corpus);
    const { problem, tookMs } = await runParser(parser, bytes, inputLimitMs);
    figure.inputs += 1;
    figure.bytes += bytes.length;
    figure.slowestMs = Math.max(figure.slowestMs, tookMs);
    if (problem !== null) faults.push(fault(parser, index, bytes, problem));
  }
  // No large inputs if a single input is repeated, and no 1 MB inputs in a short run.
  const sizes = inputs < 2 ? [] : inputs < fullRun ? [mediumBytes] : [mediumBytes, largeBytes];
  if (sizes.length > 0) {
    for (const [parser, figure] of figures) {
      const { largeMs, found } = await tryLarge(parser, sizes, signal);
      figure.largeMs = largeMs;
      faults.push(...found);
    }
  }
  return {
    inputs: given,
    seconds: (performance.now() - startedAtMs) / 1_000,
    parsers: [...figures].map(([{ name }, figure]) => ({ parser: name, ...figure })),
    faults,
  };
}

/**
 * @param {Parser} parser
 * @param {Buffer} bytes
 * @param {number} limitMs
 */
async function runParser(parser, bytes, limitMs) {
  let fastestMs = Infinity;
  for (let attempt = 0; attempt < attempts; attempt += 1) {
    const startedAtMs = performance.now();
    const cpuBefore = attempt === 0 ? null : process.cpuUsage();
    try {
      const running = parser.run(bytes);
      if (running !== undefined) await running;
    } catch (error) {
      const problem = error instanceof Error ? (error.stack ?? error.message) : String(error);
      return { problem, tookMs: performance.now() - startedAtMs };
    }
    const tookMs = cpuBefore === null ? performance.now() - startedAtMs : cpuMsSince(cpuBefore);
    fastestMs = Math.min(fastestMs, tookMs);
    if (fastestMs < limitMs) return { problem: null, tookMs: fastestMs };
  }
  return { problem: `took ${fastestMs.toFixed(0)} ms, the limit is ${limitMs} ms`, tookMs: fastestMs };
}

/** @param {NodeJS.CpuUsage} before */
function cpuMsSince(before) {
  const { user, system } = process.cpuUsage(before);
  return (user + system) / 1_000;
}

/**
 * Runs the parser on inputs of 64 kB and 1 MB of a repeated piece that could cause quadratic time. The time must be
 * proportional to the length.
 *
 * @param {Parser} parser
 * @param {readonly number[]} sizes
 * @param {AbortSignal} signal
 */
async function tryLarge(parser, sizes, signal) {
  const [good = Buffer.of()] = parser.corpus;
  const pieces = [
    'x',
    '[',
    '{"a":',
    '"',
    '\\',
    ' ',
    ',',
    '.',
    'a.',
    'eyJ',
    '|',
    '%',
    '&a=',
    'a://',
    '=',
    '\n',
    '💥',
    '1',
    '1.',
  ];
  /** @type {ParserFault[]} */
  const found = [];
  let largeMs = 0;
  for (const piece of pieces.map((text) => Buffer.from(text))) {
    for (const prefix of [Buffer.of(), good.subarray(0, good.length >> 1)]) {
      for (const size of sizes) {
        await nextTick();
        signal.throwIfAborted();
        const bytes = Buffer.concat([prefix, Buffer.alloc(size, piece)]).subarray(0, size);
        const { problem, tookMs } = await runParser(parser, bytes, (largeLimitMs * size) / largeBytes + 25);
        largeMs = Math.max(largeMs, tookMs);
        if (problem === null) continue;
        const repeated = `${size} bytes of ${JSON.stringify(piece.toString())}: ${problem}`;
        found.push(fault(parser, null, bytes.subarray(0, 64), repeated));
        break;
      }
    }
  }
  return { largeMs, found };
}

/**
 * @param {Parser} parser
 * @param {number | null} index
 * @param {Buffer} bytes
 * @param {string} problem
 * @returns {ParserFault}
 */
function fault({ name }, index, bytes, problem) {
  const input = bytes.subarray(0, maxShownBytes).toString('hex');
  return { parser: name, index, bytes: bytes.length, problem, input };
}
