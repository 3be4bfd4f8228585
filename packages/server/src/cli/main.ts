import { type Command, UsageError } from './command.js';
import { describeError } from '../describe.js';
import { ConfigError } from './config.js';

interface Entry {
  readonly summary: string;
  /** Loads only the modules of this command: loading takes most of the time that a command needs to start. */
  readonly load: () => Promise<Command>;
}

const entries: Readonly<Record<string, Entry>> = {
  serve: {
    summary: 'serve the events of a database, or of the embedded demo',
    load: async () => (await import('./serve.js')).serveCommand,
  },
  install: {
    summary: 'create the event log and its triggers in a database',
    load: async () => (await import('./install.js')).installCommand,
  },
  uninstall: {
    summary: 'drop what install created',
    load: async () => (await import('./install.js')).uninstallCommand,
  },
  doctor: {
    summary: 'find what is wrong with a database, and how to fix it',
    load: async () => (await import('./doctor.js')).doctorCommand,
  },
  guard: {
    summary: 'list, add or remove guarded environments',
    load: async () => (await import('./guard.js')).guardCommand,
  },
  tail: {
    summary: 'print the events of an environment, or the steps of all requests, as they happen',
    load: async () => (await import('./tail.js')).tailCommand,
  },
  token: {
    summary: 'print an access token for a user',
    load: async () => (await import('./token.js')).tokenCommand,
  },
};

/** The program `flagcast` with the arguments after its name. Never rejects. */
export async function main(argv: readonly string[], environment = process.env): Promise<void> {
  await reportFailure(async () => await run(argv, environment));
}

async function run(argv: readonly string[], environment: NodeJS.ProcessEnv): Promise<void> {
  const [name, ...args] = argv;
  if (name === undefined) throw new UsageError('A command is required; see flagcast --help');
  if (name === '--help' || name === '-h') {
    console.log(programHelp());
    return;
  }
  if (name === '--version') {
    const { readVersion } = await import('./packages.js');
    console.log(await readVersion());
    return;
  }
  const entry = Object.hasOwn(entries, name) ? entries[name] : undefined;
  if (entry === undefined) {
    const kind = name.startsWith('-') ? 'option' : 'command';
    throw new UsageError(`There is no ${kind} "${name}"; see flagcast --help`);
  }
  const command = await entry.load();
  if (args.includes('--help') || args.includes('-h')) {
    console.log(command.help);
    return;
  }
  await command.run(args, environment);
}

function programHelp(): string {
  const width = Math.max(...Object.keys(entries).map((name) => name.length));
  return [
    'Flagcast delivers feature-flag changes from PostgreSQL to browsers.',
    '',
    'Usage: flagcast COMMAND [options]',
    '',
    ...Object.entries(entries).map(([name, { summary }]) => `  ${name.padEnd(width)}  ${summary}`),
    '',
    'See flagcast COMMAND --help for the options of a command. flagcast --version prints the version.',
  ].join('\n');
}

/**
 * Runs a program and never rejects. Prints errors on stderr, one line each, without passwords and tokens, and
 * sets `process.exitCode`: 2 if the command line is wrong, else 1.
 */
export async function reportFailure(program: () => Promise<void>): Promise<void> {
  for (const stream of [process.stdout, process.stderr]) {
    // A reader that has closed the pipe (`| head`) must not end a server.
    stream.on('error', () => undefined);
  }
  try {
    await program();
  } catch (error) {
    process.exitCode = error instanceof UsageError ? 2 : 1;
    const lines = error instanceof ConfigError ? error.message.split('\n') : [describeError(error)];
    for (const line of lines) console.error(`flagcast: ${line}`);
  }
}
