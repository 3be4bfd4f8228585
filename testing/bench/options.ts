import { numberOption, parseOptions, UsageError } from '../testkit/command.ts';
import { targetKinds } from './targets/all.ts';

/** Every option: its meaning, and its highest number if it takes one. */
const optionTable = {
  clients: { most: 200_000, help: 'connections; several numbers for fanout' },
  rounds: { most: 1_000, help: 'how often each target is measured' },
  targets: { most: 0, help: 'the servers that are compared' },
  rows: { most: 100_000_000, help: 'rows of audit_log' },
  seconds: { most: 3_600, help: 'duration of a measurement' },
  minutes: { most: 1_440, help: 'duration of the run' },
  workers: { most: 64, help: 'processes of the server' },
  writers: { most: 100, help: 'sessions that write at the same time' },
} as const;

type OptionName = keyof typeof optionTable;

/** The options of a benchmark with their defaults, whose types are those of the options. */
export type Options = { readonly [name in OptionName]?: number | readonly number[] | readonly string[] };

/** Returns the options, and the folder of the results. Throws a UsageError for options that the benchmark does not take. */
export function readOptions<Defaults extends Options>(defaults: Defaults, args: readonly string[]) {
  const names = [...(Object.keys(defaults) as OptionName[]), 'output' as const];
  const taken = Object.fromEntries(names.map((name) => [name, { type: 'string' as const }]));
  const { output, ...given } = parseOptions(args, taken);
  const values = Object.entries(given).map(([name, text = '']) => [
    name,
    valueOf(name as OptionName, text, defaults[name as OptionName]),
  ]);
  return { options: { ...defaults, ...(Object.fromEntries(values) as Partial<Defaults>) }, output };
}

function valueOf(name: OptionName, text: string, usual: Options[OptionName]) {
  const wholeNumber = (item: string) =>
    numberOption(`--${name}`, item, { least: 1, most: optionTable[name].most });
  if (typeof usual === 'number') return wholeNumber(text);
  const items = text.split(',');
  if (name !== 'targets') return items.map(wholeNumber);
  const unknown = items.find((kind) => !targetKinds.includes(kind));
  if (unknown === undefined) return items;
  throw new UsageError(
    `There is no target ${JSON.stringify(unknown)}: use some of ${targetKinds.join(', ')}`,
  );
}

export const optionsHelp = Object.entries(optionTable)
  .map(([name, { help }]) => `  --${name.padEnd(9)} ${help}`)
  .join('\n');
