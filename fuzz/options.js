import { parseArgs } from 'node:util';
import { UsageError } from '../bench/options.js';

/**
 * `inputs`, `attacks`: how many. `first`: the number of the first of them. `minutes`: when to end though
 * some are left. `output`: the folder of the results.
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
    inputs: wholeNumber('--inputs', values.inputs, 1_000_000, 1e9),
    attacks: wholeNumber('--attacks', values.attacks, 20_000, 1e8),
    seed: wholeNumber('--seed', values.seed, Date.now() % 2 ** 31, 2 ** 31 - 1),
    first: wholeNumber('--first', values.first, 0, 1e9),
    minutes: wholeNumber('--minutes', values.minutes, 60, 10_000),
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
 * @param {number} otherwise
 * @param {number} most
 */
function wholeNumber(option, text, otherwise, most) {
  if (text === undefined) return otherwise;
  if (/^\d+$/.test(text) && Number(text) <= most) return Number(text);
  throw new UsageError(`${option} takes a whole number from 0 to ${most}, not ${JSON.stringify(text)}`);
}
