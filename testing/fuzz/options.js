import { parseArgs } from 'node:util';
import { UsageError } from '../testkit/command.ts';

/**
 * `inputs`, `attacks`: their numbers. `first`: the number of the first one. `minutes`: time limit. `output`: folder of the
 * results.
 *
 * @typedef {{ inputs: number, attacks: number, seed: number, first: number, minutes: number, output: string | undefined, help: boolean }} FuzzOptions
 */

/**
 * @param {readonly string[]} args
 * @returns {FuzzOptions}
 * @throws UsageError
 */
export function parseCommandLine(args) {
  const values = parse(args);
  return {
    inputs: wholeNumber('--inputs', values.inputs, { fallback: 1_000_000, maximum: 1e9 }),
    attacks: wholeNumber('--attacks', values.attacks, { fallback: 20_000, maximum: 1e8 }),
    seed: wholeNumber('--seed', values.seed, { fallback: Date.now() % 2 ** 31, maximum: 2 ** 31 - 1 }),
    first: wholeNumber('--first', values.first, { fallback: 0, maximum: 1e9 }),
    minutes: wholeNumber('--minutes', values.minutes, { fallback: 60, maximum: 10_000 }),
    output: values.output,
    help: values.help ?? false,
  };
}

/** @param {readonly string[]} args */
function parse(args) {
  try {
    const { values } = parseArgs({
      args: [...args],
      options: {
        help: { type: 'boolean', short: 'h' },
        inputs: { type: 'string' },
        attacks: { type: 'string' },
        seed: { type: 'string' },
        first: { type: 'string' },
        minutes: { type: 'string' },
        output: { type: 'string' },
      },
    });
    return values;
  } catch (error) {
    throw new UsageError(error instanceof Error ? error.message : String(error));
  }
}

/**
 * @param {string} option
 * @param {string | undefined} text
 * @param {{ readonly fallback: number, readonly maximum: number }} limits
 */
function wholeNumber(option, text, { fallback, maximum }) {
  if (text === undefined) return fallback;
  if (/^\d+$/.test(text) && Number(text) <= maximum) return Number(text);
  throw new UsageError(`${option} takes a whole number from 0 to ${maximum}, not ${JSON.stringify(text)}`);
}
