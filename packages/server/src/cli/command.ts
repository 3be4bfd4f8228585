import { parseArgs, type ParseArgsConfig } from 'node:util';
import type { Environment, Flags } from './config.js';
import { type Setting, type SettingKey, settings } from './settings.js';

/** One of the program's commands. */
export interface Command {
  /** The text of `--help`. */
  readonly help: string;
  /** The options and variables, for docs/reference.md. */
  readonly options: readonly OptionHelp[];
  readonly variables: readonly SettingKey[];
  /** Runs the command with the arguments after its name. Sets `process.exitCode` if it is not 0. Throws errors. */
  run(args: readonly string[], environment: Environment): Promise<void>;
}

/** The command line is wrong: exit code 2. The message is one line for the user. */
export class UsageError extends Error {
  override readonly name = 'UsageError';
}

/** The command failed: exit code 1. The message is one line for the user. */
export class CommandError extends Error {
  override readonly name = 'CommandError';
}

/** An option that belongs to one command and has no variable. Without `value` it is a switch. */
interface Option {
  readonly value?: string;
  readonly required?: true;
  readonly help: string;
}

interface OptionHelp {
  /** `--port PORT` */
  readonly name: string;
  readonly help: string;
}

type OptionValues<Options extends Readonly<Record<string, Option>>> = {
  readonly [Name in keyof Options]: Options[Name] extends { value: string }
    ? string | (Options[Name] extends { required: true } ? never : undefined)
    : boolean;
};

/** The parsed command line. */
interface Input<Options extends Readonly<Record<string, Option>>, Action extends string> {
  readonly action: Action;
  readonly options: OptionValues<Options>;
  readonly flags: Flags;
  readonly environment: Environment;
}

/** Makes a command of its options, its settings and its action. The help text is generated. */
export function defineCommand<
  const Options extends Readonly<Record<string, Option>>,
  const Action extends string = '',
>(definition: {
  readonly name: string;
  /** The arguments after the name. One line for each form. */
  readonly usage: string;
  readonly description: string;
  /** The first argument is one of these. */
  readonly actions?: readonly Action[];
  readonly options: Options;
  readonly settings: readonly SettingKey[];
  /** Whether a database has to be given. */
  readonly requiresDatabase?: boolean;
  /** The last paragraph of the help text. */
  readonly notes?: string;
  readonly run: (input: Input<Options, Action>) => Promise<void>;
}): Command {
  const { name, actions, options, run } = definition;
  const usageError = (problem: string): UsageError =>
    new UsageError(`${problem}; see flagcast ${name} --help`);
  const withOption = definition.settings.filter((key) => 'option' in settings[key]);
  const optionHelp = [
    ...Object.entries<Option>(options).map(([option, { value, required, help }]) => ({
      name: `--${option}${value === undefined ? '' : ` ${value}`}`,
      help: required === true ? `${help} (required)` : help,
    })),
    ...withOption.map((key) =>
      settingOption(key, key === 'databaseUrl' && definition.requiresDatabase === true),
    ),
  ];
  const variables = definition.settings.filter((key) => !('option' in settings[key]));
  return {
    help: helpText(definition, optionHelp, variables),
    options: optionHelp,
    variables: definition.settings,
    run: async ([...args], environment) => {
      const action = actions === undefined ? '' : args.shift();
      if (actions !== undefined && !actions.some((each) => each === action)) {
        throw usageError(`The first argument must be ${actions.join(', ').replace(/, (\w+)$/, ' or $1')}`);
      }
      const declared: NonNullable<ParseArgsConfig['options']> = {};
      for (const [option, { value }] of Object.entries<Option>(options)) {
        declared[option] = { type: value === undefined ? 'boolean' : 'string' };
      }
      for (const key of withOption) declared[optionOf(key)] = { type: 'string' };
      let values: Readonly<Record<string, unknown>>;
      try {
        ({ values } = parseArgs({ args, options: declared, strict: true }));
      } catch (error) {
        // The first sentence of parseArgs names the problem; the others explain dashes and positionals.
        const message = error instanceof Error ? error.message : String(error);
        throw usageError((message.split(/\.\s|\n/, 1)[0] ?? message).replace(/\.$/, ''));
      }
      const own = Object.entries<Option>(options).map(([option, { value, required }]) => {
        if (required === true && (values[option] ?? '') === '') throw usageError(`--${option} is required`);
        return [option, value === undefined ? values[option] === true : values[option]];
      });
      await run({
        action: action as Action,
        options: Object.fromEntries(own) as OptionValues<Options>,
        flags: Object.fromEntries(withOption.map((key) => [key, values[optionOf(key)]])),
        environment,
      });
    },
  };
}

function optionOf(key: SettingKey): string {
  const { option = '' }: Setting = settings[key];
  return option;
}

function settingOption(key: SettingKey, isRequired: boolean): OptionHelp {
  const { variable, option = '', parser, help }: Setting = settings[key];
  const fallback = isRequired ? '; required' : defaultOf(key, '; default: ');
  return { name: `--${option} ${parser.name}`, help: `${help} (${variable}${fallback})` };
}

/** The default after `prefix`, as a value or in words; empty if there is none. */
export function defaultOf(key: SettingKey, prefix = ''): string {
  const { default: value, otherwise = value }: Setting = settings[key];
  return otherwise === undefined ? '' : `${prefix}${otherwise}`;
}

function helpText(
  {
    name,
    usage,
    description,
    notes,
  }: { readonly name: string; readonly usage: string; readonly description: string; readonly notes?: string },
  options: readonly OptionHelp[],
  variables: readonly SettingKey[],
): string {
  const width = Math.max(...options.map((option) => option.name.length)) + 4;
  const forms = usage
    .split('\n')
    .map((form, index) => `${index === 0 ? 'Usage:' : '      '} flagcast ${name} ${form}`);
  return [
    ...forms,
    '',
    ...wrapped(description, 0),
    '',
    'Options:',
    ...options.flatMap((option) => {
      const [first = '', ...more] = wrapped(option.help, width);
      return [`  ${option.name}`.padEnd(width) + first.trimStart(), ...more];
    }),
    ...(variables.length === 0 ? [] : ['', 'Environment variables:']),
    ...variables.flatMap((key) => {
      const { variable, parser, help }: Setting = settings[key];
      const details = [parser.accepts, defaultOf(key, 'default: ')]
        .filter((detail) => detail !== '')
        .join('; ');
      return [
        `  ${variable}=${parser.name}`,
        ...wrapped(`${help}${details === '' ? '' : ` (${details})`}`, 6),
      ];
    }),
    ...(notes === undefined ? [] : ['', ...wrapped(notes, 0)]),
  ].join('\n');
}

/** The text in lines of at most 100 characters, each after `indent` spaces. Keeps line breaks. */
function wrapped(text: string, indent: number): string[] {
  const width = 100 - indent;
  return text
    .split('\n')
    .flatMap((line) => line.match(new RegExp(`.{1,${width}}(?= |$)`, 'g')) ?? [''])
    .map((line) => ' '.repeat(indent) + line.trim());
}
