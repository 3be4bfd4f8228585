import { numberOption, parseOptions } from '../testkit/command.ts';

export type ChaosOptions = ReturnType<typeof parseCommandLine>;

/** Throws UsageError. */
export function parseCommandLine(args: readonly string[]) {
  const values = parseOptions(args, {
    help: { type: 'boolean', short: 'h' },
    minutes: { type: 'string', default: '5' },
    seed: { type: 'string', default: String(Math.floor(Math.random() * 1e6)) },
    servers: { type: 'string', default: '2' },
    clients: { type: 'string', default: '200' },
    'no-browser': { type: 'boolean', default: false },
    relay: { type: 'boolean', default: false },
    verbose: { type: 'boolean', default: false },
    output: { type: 'string' },
  });
  return {
    minutes: numberOption('--minutes', values.minutes, { least: 0.1, most: 240, isWhole: false }),
    seed: numberOption('--seed', values.seed, { least: 0, most: 4_294_967_295 }),
    servers: numberOption('--servers', values.servers, { least: 2, most: 8 }),
    clients: numberOption('--clients', values.clients, { least: 9, most: 2_000 }),
    browser: !values['no-browser'],
    relay: values.relay,
    verbose: values.verbose,
    output: values.output,
    help: values.help === true,
  };
}
