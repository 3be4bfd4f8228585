import { setImmediate as nextTurn } from 'node:timers/promises';
import { anyJson, mutate } from '../hostile.js';
import { SeededRandom } from '../random.js';
import { parsers } from './parsers.js';

/** @import { Parser } from './parsers.js' */

/**
 * What one input did that none may do. `input` is the bytes in hex, at most `maxShownBytes` of them.
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
 * `slowestMs`: of all inputs. `largeMs`: the longest that a large input takes, of 1 MB in a full run.
 */

/** @typedef {{ inputs: number, seconds: number, parsers: readonly ParserFigures[], faults: readonly ParserFault[] }} ParserResults */

const maxShownBytes = 65_536;
/** After so many faults a parser is known to be broken. */
const maxFaults = 10;
/** How long a parser may take: for any of the random inputs, and for the large ones, in milliseconds. */
const inputLimitMs = 50;
const largeLimitMs = 250;
/**
 * An input that took too long is tried again, by the processor time that it takes: the machine may have been
 * busy with something else.
 */
const attempts = 5;
const largeBytes = 1_048_576;
const mediumBytes = 65_536;
/** From so many inputs on the large ones are the largest. */
const fullRun = 1_000_000;
/** The event loop, and with it a Ctrl-C, gets its turn after so many inputs. */
const stretch = 4_096;

/**
 * Gives inputs to all parsers.
 *
 * @param {{
 *   readonly inputs: number,
 *   readonly first: number,
 *   readonly seed: number,
 *   readonly endsAtMs: number,
 *   readonly signal: AbortSignal,
 *   readonly onProgress: (inputs: number, faults: number) => void,
 * }} options `endsAtMs`: when to end though inputs are left, by performance.now()
 * @returns {Promise<ParserResults>}
 */
export async function fuzzParsers({ inputs, first, seed, endsAtMs, signal, onProgress }) {
  const startedAtMs = performance.now();
  /** @type {ParserFault[]} */
  const faults = [];
  const figures = new Map(
    parsers.map((parser) => [parser, { inputs: 0, bytes: 0, slowestMs: 0, largeMs: 0 }]),
  );
  const turns = parsers.flatMap((parser) =>
    Array.from({ length: Math.max(1, 16 / (parser.rarity ?? 1)) }, () => parser),
  );
  let given = 0;
  for (; given < inputs; given += 1) {
    if (given % stretch === 0) {
      onProgress(given, faults.length);
      await nextTurn();
      signal.throwIfAborted();
      if (performance.now() > endsAtMs) break;
    }
    const index = first + given;
    const random = new SeededRandom(seed, index);
    const parser = random.pick(turns);
    const figure = figures.get(parser);
    if (
      figure === undefined ||
      faults.filter(({ parser: name }) => name === parser.name).length >= maxFaults
    ) {
      continue;
    }
    const bytes = random.once(8) ? Buffer.from(anyJson(random)) : mutate(random, parser.corpus);
    const { problem, tookMs } = await tried(parser, bytes, inputLimitMs);
    figure.inputs += 1;
    figure.bytes += bytes.length;
    figure.slowestMs = Math.max(figure.slowestMs, tookMs);
    if (problem !== null) faults.push(fault(parser, index, bytes, problem));
  }
  // Whoever repeats one input wants nothing else, and a short run is to be short.
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
async function tried(parser, bytes, limitMs) {
  let fastestMs = Infinity;
  for (let attempt = 0; attempt < attempts; attempt += 1) {
    const startedAtMs = performance.now();
    const usedBefore = attempt === 0 ? null : process.cpuUsage();
    try {
      const running = parser.run(bytes);
      if (running !== undefined) await running;
    } catch (error) {
      const problem = error instanceof Error ? (error.stack ?? error.message) : String(error);
      return { problem, tookMs: performance.now() - startedAtMs };
    }
    const tookMs = usedBefore === null ? performance.now() - startedAtMs : usedMsSince(usedBefore);
    fastestMs = Math.min(fastestMs, tookMs);
    if (fastestMs < limitMs) return { problem: null, tookMs: fastestMs };
  }
  return { problem: `took ${fastestMs.toFixed(0)} ms, at most ${limitMs} ms is allowed`, tookMs: fastestMs };
}

/** @param {NodeJS.CpuUsage} before */
function usedMsSince(before) {
  const { user, system } = process.cpuUsage(before);
  return (user + system) / 1_000;
}

/**
 * Inputs of 64 kB and 1 MB made of what makes a parser go over the same place again and again, if anything
 * does: time has to grow with the length, not with its square.
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
    for (const beginning of [Buffer.of(), good.subarray(0, good.length >> 1)]) {
      for (const size of sizes) {
        await nextTurn();
        signal.throwIfAborted();
        const bytes = Buffer.concat([beginning, Buffer.alloc(size, piece)]).subarray(0, size);
        const { problem, tookMs } = await tried(parser, bytes, (largeLimitMs * size) / largeBytes + 25);
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
