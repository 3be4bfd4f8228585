import { readFile } from 'node:fs/promises';
import { type Command, UsageError } from './command.js';
import { reportFailure } from './report.js';

interface Entry {
  readonly name: string;
  /** What it does, in a few words. */
  readonly summary: string;
  /** Most of the time that a command takes to start is for loading what the others need. */
  readonly load: () => Promise<Command>;
}

const entries: readonly Entry[] = [
  {
    name: 'serve',
    summary: 'serve the live events of a database, or of an embedded demo',
    load: async () => (await import('./serve.js')).serveCommand,
  },
  {
    name: 'install',
    summary: 'put the view and the triggers into a database',
    load: async () => (await import('./install.js')).installCommand,
  },
  {
    name: 'uninstall',
    summary: 'take back what install made',
    load: async () => (await import('./uninstall.js')).uninstallCommand,
  },
  {
    name: 'doctor',
    summary: 'tell what is wrong with a database, and what mends it',
    load: async () => (await import('./doctor.js')).doctorCommand,
  },
  {
    name: 'guard',
    summary: 'list and change the environments in which changes wait for an approval',
    load: async () => (await import('./guard.js')).guardCommand,
  },
  {
    name: 'tail',
    summary: 'show the live events of a channel in a terminal',
    load: async () => (await import('./tail.js')).tailCommand,
  },
  {
    name: 'token',
    summary: 'make an access token for trying things out',
    load: async () => (await import('./token.js')).tokenCommand,
  },
];

/** The program `flagcast` with the arguments after its name. Never rejects: see `reportFailure`. */
export async function main(argv: readonly string[]): Promise<void> {
  await reportFailure(async () => await run(argv));
}

async function run(argv: readonly string[]): Promise<void> {
  const [name, ...args] = argv;
  if (name === undefined) throw new UsageError('Which command? See flagcast --help');
  if (name === '--help' || name === '-h') {
    console.log(programHelp());
    return;
  }
  if (name === '--version') {
    console.log(await readVersion());
    return;
  }
  const entry = entries.find((candidate) => candidate.name === name);
  if (entry === undefined) {
    const kind = name.startsWith('-') ? 'option' : 'command';
    throw new UsageError(`There is no ${kind} "${name}"; see flagcast --help`);
  }
  const command = await entry.load();
  if (args.includes('--help') || args.includes('-h')) {
    console.log(command.help);
    return;
  }
  await command.run(args, process.env);
}

function programHelp(): string {
  const width = Math.max(...entries.map(({ name }) => name.length));
  return [
    'Flagcast: feature-flag changes from PostgreSQL to every screen, live.',
    '',
    'flagcast <command> [options]',
    '',
    ...entries.map(({ name, summary }) => `  ${name.padEnd(width)}  ${summary}`),
    '',
    'flagcast <command> --help tells what a command takes; flagcast --version the version.',
  ].join('\n');
}

async function readVersion(): Promise<string> {
  const text = await readFile(new URL('../../package.json', import.meta.url), 'utf8');
  return (JSON.parse(text) as { version: string }).version;
}
