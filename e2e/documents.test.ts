import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { describe, expect, it, onTestFinished } from 'vitest';
import { doctorCommand } from '../packages/server/src/cli/doctor.js';
import { installCommand, uninstallCommand } from '../packages/server/src/cli/install.js';
import { serveCommand } from '../packages/server/src/cli/serve.js';
import { settings } from '../packages/server/src/cli/settings.js';
import { tailCommand } from '../packages/server/src/cli/tail.js';
import { tokenCommand } from '../packages/server/src/cli/token.js';
import { loadConfig } from '../packages/server/src/cli/config.js';
import { programOf } from './consumer.js';
import { anchorsOf, type Block, blocksOf, listDocuments, proseOf, readDocument, root } from './documents.js';
import { commandsOf, type ShellCommand } from './shell-lines.js';

const documents = listDocuments();
const blocks = (await Promise.all(documents.map(blocksOf))).flat();

/** Programs in documents that no test runs as written, with the reason. */
const foreignPrograms: Readonly<Record<string, string>> = {
  cd: 'changes the working directory of the next commands',
  cp: 'copies a file of this repository to a system folder',
  curl: 'sends requests that other tests send',
  docker: 'no container engine is available',
  journalctl: 'systemd is not available',
  kill: 'ends a server, as other tests do',
  nginx: 'run by togglr-guide, with the configuration of the page',
  openssl: 'generates a secret',
  set: 'a shell builtin',
  '.': 'a shell builtin',
  systemctl: 'systemd is not available',
};

/** Languages of blocks that are not checked here, with the reason. */
const otherLanguages: Readonly<Record<string, string>> = {
  nginx: 'run by togglr-guide',
  yaml: 'settings of Prometheus for files that other tests check',
  ini: 'settings are checked below, units by deploy.test.ts',
  sql: 'run by attach.test.ts and other-schemas.test.ts',
  mermaid: 'diagrams are not run',
  // Blocks without a language are diagrams or output; commands in them are checked.
};

const flagcast: Readonly<Record<string, { help: string }>> = {
  serve: serveCommand,
  install: installCommand,
  uninstall: uninstallCommand,
  doctor: doctorCommand,
  tail: tailCommand,
  token: tokenCommand,
};

const scripts = (
  JSON.parse(await readFile(new URL('package.json', root), 'utf8')) as { scripts: Record<string, string> }
).scripts;

const isCode = ({ language }: Block): boolean => ['ts', 'tsx', 'js'].includes(language);
const isShell = ({ language }: Block): boolean => language === 'sh';
const where = ({ file, line }: Block): string => `${file}:${line}`;

/** Describes what is wrong with a command; null if it is valid or cannot be checked. */
function problemOf({ environment, words }: ShellCommand): string | null {
  const [first = '', ...rest] = words;
  if (first === 'npx') return problemOf({ environment, words: rest });
  switch (first) {
    case '':
    case 'flagcast':
      return problemOfFlagcast(environment, rest);
    case 'npm':
      return problemOfNpm(rest);
    case 'vitest': {
      const missing = rest.filter((word) => word.includes('/') && !existsSync(new URL(word, root)));
      return missing.length > 0 ? `there is no ${missing.join(', ')}` : null;
    }
    case 'node': {
      // The reader's own programs do not exist here.
      const [file = ''] = rest;
      return file.includes('/') && !existsSync(new URL(file.replace(/^\/opt\/flagcast\//, ''), root))
        ? `there is no ${file}`
        : null;
    }
    default:
      return first in foreignPrograms ? null : `unknown program "${first}"`;
  }
}

function problemOfFlagcast(environment: ShellCommand['environment'], args: readonly string[]): string | null {
  const [name, ...options] = args;
  if (name !== undefined && !name.startsWith('-') && !(name in flagcast))
    return `no command flagcast ${name}`;
  const help = (name === undefined ? undefined : flagcast[name]?.help) ?? '';
  for (const option of options.filter((word) => word.startsWith('--'))) {
    const [plain = ''] = option.split('=');
    if (plain !== '--help' && !new RegExp(`^ +${plain}\\b`, 'm').test(help))
      return `${name ?? ''} has no ${plain}`;
  }
  return problemOfSettings({
    ...environment,
    ...(name === 'serve' ? settingsOf(options) : {}),
  });
}

/** Converts the options of `serve` to their environment variables. */
function settingsOf(options: readonly string[]): Record<string, string> {
  return Object.fromEntries(
    Object.values(settings).flatMap((setting) => {
      const at = 'option' in setting ? options.indexOf(`--${setting.option}`) : -1;
      const value = at === -1 ? undefined : options[at + 1];
      return value === undefined ? [] : [[setting.variable, value]];
    }),
  );
}

/** Checks that `serve` accepts the variables and their values. Placeholders (`…`) are filled in. */
function problemOfSettings(environment: Readonly<Record<string, string>>): string | null {
  const filled: Record<string, string> = {};
  for (const [name, value] of Object.entries(environment)) {
    if (
      /^(FLAGCAST_|DATABASE_URL$|PORT$|HOST$)/.test(name) &&
      !new RegExp(`\\b${name}\\b`).test(serveCommand.help)
    ) {
      return `serve does not know ${name}`;
    }
    const isOpen = /…|\.\.\.|^\$/.test(value);
    if (name.endsWith('_URL') && value.startsWith('postgresql:') && isOpen)
      filled[name] = 'postgresql://a@b/c';
    else if (isOpen) filled[name] = name === 'FLAGCAST_JWKS_URL' ? 'https://a.example/keys' : 'x'.repeat(32);
    else filled[name] = value;
  }
  const { DATABASE_URL: databaseUrl = 'postgresql://a@b/c' } = filled;
  const hasAuth = 'FLAGCAST_JWT_SECRET' in filled || 'FLAGCAST_JWKS_URL' in filled;
  const auth = { FLAGCAST_JWT_SECRET: 'x'.repeat(32) };
  try {
    loadConfig({ ...(hasAuth ? {} : auth), ...filled, DATABASE_URL: databaseUrl }, {});
    return null;
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
}

function problemOfNpm([command = '', ...args]: readonly string[]): string | null {
  const [script = '', , name] = args;
  switch (command) {
    case 'ci':
    case 'install':
    case 'publish':
    case 'pack':
    case 'start':
    case 'test':
      return null;
    case 'run':
      if (!(script in scripts)) return `there is no npm run ${script}`;
      return script === 'bench' && name !== undefined && !/^--help$|^[a-z]+(-[a-z]+)*$/.test(name)
        ? `no benchmark ${name}`
        : null;
    default:
      return `unknown command npm ${command}`;
  }
}

describe('commands in the documents', () => {
  it.each(blocks.filter(isShell).map((block) => [where(block), block]))('%s', (_, { text }) => {
    const commands = commandsOf(text);
    expect(commands.length).toBeGreaterThan(0);
    for (const command of commands)
      expect([command.words.join(' '), problemOf(command)]).toEqual([expect.anything(), null]);
  });

  it('commands within other blocks are valid', () => {
    const command = /^(\$ )?([A-Z_]+=\S+ )*(npx )?(flagcast (?!runs)[a-z]+ --|npm (run|ci|start|test)\b)/;
    const lines = blocks
      .filter(({ language }) => language === '')
      .flatMap((block) => block.text.split('\n').map((line) => ({ line, block })))
      .filter(({ line }) => command.test(line));
    expect(lines.length).toBeGreaterThan(0);
    for (const { line, block } of lines) {
      for (const parsed of commandsOf(line)) {
        expect([where(block), line, problemOf(parsed)]).toEqual([where(block), line, null]);
      }
    }
  });

  it('settings in files are valid for serve', () => {
    const files = blocks.filter(({ language, text }) => language === 'ini' && /^DATABASE_URL=/m.test(text));
    expect(files.length).toBeGreaterThan(0);
    for (const block of files) {
      const [settings] = commandsOf(
        block.text
          .split('\n')
          .filter((line) => /^\w/.test(line))
          .join(' '),
      );
      expect([where(block), problemOfSettings(settings?.environment ?? {})]).toEqual([where(block), null]);
    }
  });

  it('every block has a language that is checked or excluded with a reason', () => {
    const unknown = blocks.filter(
      (block) =>
        !isCode(block) && !isShell(block) && block.language !== '' && !(block.language in otherLanguages),
    );
    expect(unknown.map((block) => `${where(block)}: ${block.language}`)).toStrictEqual([]);
  });
});

it.each([
  {
    language: 'TypeScript',
    fences: ['ts', 'tsx'],
    options: { exactOptionalPropertyTypes: true, noUncheckedIndexedAccess: true },
  },
  // Short programs take their variables and arguments as given.
  { language: 'JavaScript', fences: ['js'], options: { allowJs: true, checkJs: true } },
])('$language in the documents compiles with strict checks', async ({ fences, options }) => {
  const cache = new URL('node_modules/.cache/', root);
  await mkdir(cache, { recursive: true });
  // Within the repository, so that the built packages are found.
  const folder = await mkdtemp(fileURLToPath(new URL('documents-', cache)));
  onTestFinished(async () => await rm(folder, { recursive: true }));
  const files = ['environment.d.ts'];
  await writeFile(
    path.join(folder, 'environment.d.ts'),
    'declare namespace NodeJS { interface ProcessEnv { DATABASE_URL: string; FLAGCAST_JWT_SECRET: string } }',
  );
  for (const block of blocks.filter(({ language }) => fences.includes(language))) {
    const name = `${block.file.replaceAll('/', '-')}-${block.line}.${block.language.replace('js', 'mjs')}`;
    files.push(name);
    await writeFile(path.join(folder, name), block.text);
  }
  const compilerOptions = {
    ...{ module: 'esnext', moduleResolution: 'bundler', moduleDetection: 'force', target: 'es2023' },
    ...{ lib: ['es2023', 'dom', 'dom.iterable'], types: ['node'], jsx: 'react-jsx', strict: true },
    ...{ noEmit: true, skipLibCheck: true, allowImportingTsExtensions: true, ...options },
  };
  await writeFile(path.join(folder, 'tsconfig.json'), JSON.stringify({ compilerOptions, files }));
  const { stdout } = await promisify(execFile)(
    process.execPath,
    [await programOf('typescript', 'tsc'), '--singleThreaded', '-p', folder],
    { cwd: fileURLToPath(root) },
  ).catch((error: unknown) => error as { stdout: string });
  expect(stdout).toBe('');
});

describe('links in the documents', () => {
  it.each(documents)('%s', async (file) => {
    const document = await readDocument(file);
    const dead: string[] = [];
    for (const [, target = ''] of proseOf(document).matchAll(/\]\(([^)\s]+)\)/g)) {
      if (/^https?:/.test(target)) continue;
      const [to = '', anchor] = target.split('#');
      const url = to === '' ? new URL(file, root) : new URL(to, new URL(file, root));
      const isThere = existsSync(url);
      const hasAnchor =
        anchor === undefined ||
        (isThere && anchorsOf(await readFile(url, 'utf8')).has(decodeURIComponent(anchor)));
      if (!isThere || !hasAnchor) dead.push(target);
    }
    expect(dead).toStrictEqual([]);
  });

  it('every guide is linked', async () => {
    const linked = new Set<string>();
    for (const file of documents) {
      for (const [, target = ''] of proseOf(await readDocument(file)).matchAll(/\]\(([^)#\s]+)/g)) {
        if (!/^https?:/.test(target)) linked.add(new URL(target, new URL(file, root)).href);
      }
    }
    const guides = documents.filter((file) => file.startsWith('docs/'));
    expect(guides.filter((file) => !linked.has(new URL(file, root).href))).toStrictEqual([]);
  });
});

describe('security claims', () => {
  const folders = [
    ...['server/test/', 'server/test/unit/', 'console/test/server/', 'relay-nats/test/', 'server/'],
  ].map((folder) => `packages/${folder}`);
  const isFile = (name: string): boolean =>
    [...folders, ''].some((folder) => existsSync(new URL(folder + name, root)));

  it.each(['SECURITY.md', 'docs/authorization.md'])('%s names only existing files', async (file) => {
    const named = [...(await readDocument(file)).matchAll(/`([\w/.-]+\.(?:tsx?|js|sql))`/g)].map(
      ([, name = '']) => name,
    );
    expect(named.length).toBeGreaterThan(0);
    expect(named.filter((name) => !isFile(name))).toStrictEqual([]);
  });

  it('every control in SECURITY.md names its test', async () => {
    const tables = (await readDocument('SECURITY.md')).split('\n\n').map((table) => table.split('\n'));
    const rows = tables.filter(([head = '']) => /\| test +\|$/.test(head)).flatMap((table) => table.slice(2));
    expect(rows.length).toBeGreaterThan(0);
    expect(rows.filter((row) => !/`[\w/.-]+\.test\.tsx?`[^|]*\|$/.test(row.trim()))).toStrictEqual([]);
  });
});

describe('ARCHITECTURE.md', () => {
  /** Files named in a text, relative to one of the packages or the root. */
  const serverFiles = (text: string): string[] =>
    [...text.matchAll(/`([\w-]+(?:\/[\w-]+)*\/[\w-]+\.(?:tsx?|sql|js))`/g)].map(([, name = '']) => name);

  it('names only existing files', async () => {
    const folders = ['server/src/', 'server/', 'console/', 'client/src/'].map(
      (folder) => `packages/${folder}`,
    );
    const named = serverFiles(await readDocument('ARCHITECTURE.md'));
    expect(named.length).toBeGreaterThan(20);
    const isFile = (name: string): boolean =>
      [...folders, ''].some((folder) => existsSync(new URL(folder + name, root)));
    expect(named.filter((name) => !isFile(name))).toStrictEqual([]);
  });

  it('describes the path of an event with at most 15 files of the server in 6 folders', async () => {
    const [, section = ''] = (await readDocument('ARCHITECTURE.md')).split('\n## The path of an event\n');
    const [steps = ''] = section.split('\n## ');
    const files = serverFiles(steps).filter((name) =>
      existsSync(new URL(`packages/server/src/${name}`, root)),
    );
    const folders = files.map((name) => name.split('/')[0]);
    expect(new Set(files).size).toBeGreaterThan(5);
    expect(new Set(files).size).toBeLessThanOrEqual(15);
    expect(new Set(folders).size).toBeLessThanOrEqual(6);
  });
});

it('docs/reference.md equals the text generated from the code', async () => {
  const script = fileURLToPath(new URL('scripts/reference.js', root));
  const { stderr } = await promisify(execFile)(process.execPath, [script, '--check']).catch(
    (error: unknown) => error as { stderr: string },
  );
  expect(stderr).toBe('');
});

it('README.ru.md has the sections and the blocks of README.md', async () => {
  const [english, russian] = await Promise.all([blocksOf('README.md'), blocksOf('README.ru.md')]);
  expect(russian.map(({ language, text }) => [language, text])).toEqual(
    english.map(({ language, text }) => [language, text]),
  );
  const levels = async (file: string): Promise<string[]> =>
    [...(await readDocument(file)).replace(/^```[^]*?^```$/gm, '').matchAll(/^#+(?= )/gm)].map(
      ([level]) => level,
    );
  expect(await levels('README.ru.md')).toEqual(await levels('README.md'));
});
