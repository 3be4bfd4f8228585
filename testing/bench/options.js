import { parseArgs } from 'node:util';
import { UsageError } from '../testkit/command.ts';

/**
 * The options of the benchmarks. `clients`: numbers of clients, one case for each. `rounds`: number of measurements of
 * each target. `targets`: names of the targets. `minutes`: duration. `output`: folder of the results. `seconds`: duration
 * of a case. `faults`: inject faults.
 *
 * @typedef {{
 *   readonly clients?: readonly number[],
 *   readonly rounds?: number,
 *   readonly targets?: readonly string[],
 *   readonly minutes?: number,
 *   readonly output?: string,
 *   readonly seconds?: number,
 *   readonly faults?: boolean,
 * }} Options
 */

/** @typedef {{ readonly benchmark: string, readonly options: Options, readonly help: boolean }} CommandLine */

const mostClients = 100_000;

/**
 * @param {readonly string[]} args
 * @returns {CommandLine}
 * @throws UsageError
 */
export function parseCommandLine(args) {
  const { values, positionals } = parse(args);
  if (positionals.length > 1) throw new UsageError('Only one benchmark can run at a time');
  const { clients, rounds, targets, minutes, output, seconds, faults } = values;
  return {
    benchmark: positionals[0] ?? '',
    help: values.help === true,
    options: {
      ...(clients === undefined
        ? {}
        : { clients: clients.split(',').map((text) => wholeNumber('--clients', text, mostClients)) }),
      ...(rounds === undefined ? {} : { rounds: wholeNumber('--rounds', rounds, 1_000) }),
      ...(minutes === undefined ? {} : { minutes: wholeNumber('--minutes', minutes, 1_440) }),
      ...(targets === undefined ? {} : { targets: targets.split(',') }),
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
        targets: { type: 'string' },
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
 * Rejects options that the benchmark does not accept.
 *
 * @param {string} benchmark
 * @param {Options} options
 * @param {readonly (keyof Options)[]} taken
 * @throws UsageError
 */
export function rejectOtherOptions(benchmark, options, taken) {
  for (const name of Object.keys(options)) {
    if (taken.some((each) => each === name)) continue;
    throw new UsageError(`${benchmark} takes no --${name}`);
  }
}

/**
 * Returns the number of clients of a benchmark with a single case.
 *
 * @param {Options} options
 * @param {number} defaultCount
 */
export function oneCount({ clients }, defaultCount) {
  if (clients === undefined) return defaultCount;
  const [count = defaultCount] = clients;
  if (clients.length > 1) throw new UsageError('--clients takes only one number for this benchmark');
  return count;
}
