import { setImmediate as nextTick } from 'node:timers/promises';
import fc from 'fast-check';
import { hostileJson, mutated } from '../hostile-input.ts';
import { type Parser, parsers } from './parsers.ts';

export type ParserResult = Awaited<ReturnType<typeof fuzzParsers>>[number];

export interface FuzzOptions {
  readonly seed: number;
  /** By performance.now(). */
  readonly endsAtMs: number;
  readonly signal: AbortSignal;
  readonly onProgress: (progress: string) => void;
}

interface ParserOptions extends FuzzOptions {
  /** The number of inputs of all parsers. */
  readonly inputs: number;
  /** Only this parser, and only the input at this path of fast-check. */
  readonly only: string | undefined;
  readonly path: string | undefined;
}

const maxShownBytes = 65_536;
/** Time limits for a random input and for a large one, in milliseconds. */
const inputLimitMs = 50;
const largeLimitMs = 250;
/** A slow input is repeated and its processor time measured, because the machine may have been busy. */
const attempts = 5;
/** The large inputs of a short run, and of one with at least a million inputs. */
const shortRun = [65_536];
const fullRun = [65_536, 1_048_576];
/** The event loop runs after so many inputs, so that Ctrl-C works. */
const batchSize = 4_096;
/** Repeated, they could cause quadratic time. */
const pieces = 'x [ " \\ , . | % = 1 {"a": a. eyJ &a= a:// 1. 💥'.split(' ').concat(' ', '\n');

/** Passes inputs to the parsers: in proportion to their speed. */
export async function fuzzParsers(options: ParserOptions) {
  const chosen = parsers.filter(({ name }) => name === (options.only ?? name));
  const total = chosen.reduce((sum, { rarity }) => sum + 1 / rarity, 0);
  const results = [];
  for (const parser of chosen) {
    options.onProgress(parser.name);
    const numRuns = Math.ceil(options.inputs / parser.rarity / total);
    const random = await runRandom(parser, numRuns, options);
    const large = options.path === undefined ? await runLarge(parser, options) : { largeMs: 0, faults: [] };
    results.push({ parser: parser.name, ...random, ...large, faults: [...random.faults, ...large.faults] });
  }
  return results;
}

async function runRandom(parser: Parser, numRuns: number, { seed, path, endsAtMs, signal }: ParserOptions) {
  const json = hostileJson.map((text) => Buffer.from(text));
  const input = fc.oneof({ arbitrary: json, weight: 1 }, { arbitrary: mutated(parser.corpus), weight: 7 });
  let [inputs, slowestMs] = [0, 0];
  const property = fc.asyncProperty(input, async (bytes) => {
    if (performance.now() > endsAtMs) return;
    inputs += 1;
    if (inputs % batchSize === 0) await nextTick();
    signal.throwIfAborted();
    slowestMs = Math.max(slowestMs, await runWithin(inputLimitMs, parser, bytes));
  });
  const replay = path === undefined ? {} : { path };
  const result = await fc.check(property, { seed, numRuns, ...replay });
  signal.throwIfAborted();
  const { counterexample, counterexamplePath, errorInstance } = result;
  const faults =
    counterexample === null ? [] : [faultOf(errorInstance, counterexample[0], counterexamplePath)];
  return { inputs, slowestMs, faults };
}

/** Large inputs of a repeated piece. The time must be proportional to the length. */
async function runLarge(parser: Parser, { inputs, signal }: ParserOptions) {
  const [valid = Buffer.of()] = parser.corpus;
  const sizes = inputs < 1_000_000 ? shortRun : fullRun;
  let largeMs = 0;
  for (const piece of pieces) {
    for (const prefix of [Buffer.of(), valid.subarray(0, valid.length >> 1)]) {
      for (const size of sizes) {
        await nextTick();
        signal.throwIfAborted();
        const bytes = Buffer.concat([prefix, Buffer.alloc(size, piece)]).subarray(0, size);
        const limitMs = (largeLimitMs * size) / 1_048_576 + 25;
        try {
          largeMs = Math.max(largeMs, await runWithin(limitMs, parser, bytes));
        } catch (error) {
          return { largeMs, faults: [faultOf(error, bytes, null)] };
        }
      }
    }
  }
  return { largeMs, faults: [] };
}

/** Resolves with the time in milliseconds. Rejects if the parser fails, or takes longer in each attempt. */
async function runWithin(limitMs: number, parser: Parser, bytes: Buffer): Promise<number> {
  let fastestMs = Infinity;
  for (let attempt = 0; attempt < attempts && fastestMs > limitMs; attempt += 1) {
    const startedAtMs = performance.now();
    const cpuBefore = attempt === 0 ? null : process.cpuUsage();
    const running = parser.run(bytes);
    if (running !== undefined) await running;
    const { user, system } = cpuBefore === null ? { user: Infinity, system: 0 } : process.cpuUsage(cpuBefore);
    fastestMs = Math.min(fastestMs, performance.now() - startedAtMs, (user + system) / 1_000);
  }
  if (fastestMs <= limitMs) return fastestMs;
  throw new Error(`took ${fastestMs.toFixed(0)} ms, the limit is ${limitMs.toFixed(0)} ms`);
}

/** `path`: for fast-check; null for a large input. */
function faultOf(error: unknown, bytes: Buffer, path: string | null) {
  const problem = error instanceof Error ? (error.stack ?? error.message) : String(error);
  const input = bytes.subarray(0, maxShownBytes).toString('hex');
  return { problem, bytes: bytes.length, input, path };
}
