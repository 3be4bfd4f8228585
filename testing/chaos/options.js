import { parseArgs } from 'node:util';
import { UsageError } from '../testkit/command.ts';

/**
 * @typedef {{
 *   readonly minutes: number,
 *   readonly seed: number,
 *   readonly servers: number,
 *   readonly clients: number,
 *   readonly browser: boolean,
 *   readonly verbose: boolean,
 *   readonly output: string | undefined,
 *   readonly help: boolean,
 * }} ChaosOptions
 */

const most = { minutes: 240, seed: 4_294_967_295, servers: 8, clients: 2_000 };

/**
 * @param {readonly string[]} args
 * @returns {ChaosOptions}
 * @throws UsageError
 */
export function parseCommandLine(args) {
  const values = parse(args);
  return {
    minutes: number('--minutes', values.minutes ?? '5', 0.1, most.minutes, false),
    seed: number('--seed', values.seed ?? String(Math.floor(Math.random() * 1e6)), 0, most.seed, true),
    servers: number('--servers', values.servers ?? '2', 2, most.servers, true),
    clients: number('--clients', values.clients ?? '200', 8, most.clients, true),
    browser: values['no-browser'] !== true,
    verbose: values.verbose === true,
    output: values.output,
    help: values.help === true,
  };
}

/** @param {readonly string[]} args */
function parse(args) {
  try {
    return parseArgs({
      args: [...args],
      options: {
        help: { type: 'boolean', short: 'h' },
        minutes: { type: 'string' },
        seed: { type: 'string' },
        servers: { type: 'string' },
        clients: { type: 'string' },
        'no-browser': { type: 'boolean' },
        verbose: { type: 'boolean' },
        output: { type: 'string' },
      },
    }).values;
  } catch (error) {
    throw new UsageError(error instanceof Error ? error.message : String(error));
  }
}

/**
 * @param {string} option
 * @param {string} text
 * @param {number} low
 * @param {number} high
 * @param {boolean} whole
 */
function number(option, text, low, high, whole) {
  const value = Number(text);
  const fits =
    /^\d+(\.\d+)?$/.test(text) && value >= low && value <= high && (!whole || Number.isInteger(value));
  if (fits) return value;
  throw new UsageError(
    `${option} takes a ${whole ? 'whole ' : ''}number from ${low} to ${high}, not ${JSON.stringify(text)}`,
  );
}
