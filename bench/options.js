import { parseArgs } from 'node:util';

/**
 * What a measurement may be told. `clients`: how many, one case for each; `rounds`: how often each
 * contender has its turn; `contenders`: which ones; `minutes`: how long; `output`: the folder of the results;
 * `seconds`: how long each case lasts; `faults`: whether things are broken meanwhile.
 *
 * @typedef {{
 *   readonly clients?: readonly number[],
 *   readonly rounds?: number,
 *   readonly contenders?: readonly string[],
 *   readonly minutes?: number,
 *   readonly output?: string,
 *   readonly seconds?: number,
 *   readonly faults?: boolean,
 * }} Options
 */

/** @typedef {{ readonly measurement: string, readonly options: Options, readonly help: boolean }} CommandLine */

/** The command line is wrong; the message says how it should be. */
export class UsageError extends Error {}

const mostClients = 100_000;

/**
 * @param {readonly string[]} args
 * @returns {CommandLine}
 * @throws UsageError
 */
export function parseCommandLine(args) {
  const { values, positionals } = parse(args);
  if (positionals.length > 1) throw new UsageError('One measurement at a time');
  const { clients, rounds, contenders, minutes, output, seconds, faults } = values;
  return {
    measurement: positionals[0] ?? '',
    help: values.help === true,
    options: {
      ...(clients === undefined
        ? {}
        : { clients: clients.split(',').map((text) => wholeNumber('--clients', text, mostClients)) }),
      ...(rounds === undefined ? {} : { rounds: wholeNumber('--rounds', rounds, 1_000) }),
      ...(minutes === undefined ? {} : { minutes: wholeNumber('--minutes', minutes, 1_440) }),
      ...(contenders === undefined ? {} : { contenders: contenders.split(',') }),
      ...(output === undefined ? {} : { output }),
      ...(seconds === undefined ? {} : { seconds: wholeNumber('--seconds', seconds, 3_600) }),
      ...(faults === undefined ? {} : { faults }),
    },
  };
}

/** @param {readonly string[]} args */
function parse(args) {
  try {
    return parseArgs({
      args: [...args],
      allowPositionals: true,
      options: {
        help: { type: 'boolean', short: 'h' },
        clients: { type: 'string' },
        rounds: { type: 'string' },
        contenders: { type: 'string' },
        minutes: { type: 'string' },
        output: { type: 'string' },
        seconds: { type: 'string' },
        faults: { type: 'boolean' },
      },
    });
  } catch (error) {
    throw new UsageError(error instanceof Error ? error.message : String(error));
  }
}

/**
 * @param {string} option
 * @param {string} text
 * @param {number} most
 */
function wholeNumber(option, text, most) {
  const value = Number(text);
  if (/^\d+$/.test(text) && value >= 1 && value <= most) return value;
  throw new UsageError(`${option} takes whole numbers from 1 to ${most}, not ${JSON.stringify(text)}`);
}

/**
 * The options that a measurement takes; the others are refused, as they would do nothing.
 *
 * @param {string} measurement
 * @param {Options} options
 * @param {readonly (keyof Options)[]} taken
 * @throws UsageError
 */
export function refuseOthers(measurement, options, taken) {
  for (const name of Object.keys(options)) {
    if (taken.some((each) => each === name)) continue;
    throw new UsageError(`${measurement} takes no --${name}`);
  }
}

/**
 * The number of clients where there is one case only.
 *
 * @param {Options} options
 * @param {number} otherwise
 */
export function oneCount({ clients }, otherwise) {
  if (clients === undefined) return otherwise;
  const [count = otherwise] = clients;
  if (clients.length > 1) throw new UsageError('--clients takes one number here');
  return count;
}
