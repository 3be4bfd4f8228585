import { execFile } from 'node:child_process';
import { mkdir, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { createTestFolder } from '../packages/server/test/database.js';
import { packInto } from '../scripts/packages/pack.js';

const execute = promisify(execFile);
const root = fileURLToPath(new URL('../', import.meta.url));

export interface Manifest {
  readonly name: string;
  readonly bin?: Readonly<Record<string, string>>;
  readonly dependencies?: Readonly<Record<string, string>>;
}

/** A folder outside the repository in which only the published packages are installed. */
export interface Consumer {
  readonly folder: string;
  readonly packed: Awaited<ReturnType<typeof packInto>>;
  /** The installed program, as npm links it. */
  readonly program: string;
  /** Installs additional packages. */
  readonly add: (...names: string[]) => Promise<void>;
  readonly write: (file: string, text: string) => Promise<void>;
  /** Runs a Node program in the folder; rejects with its output if it fails. */
  readonly run: (program: string, ...args: string[]) => Promise<{ stdout: string; stderr: string }>;
  readonly remove: () => Promise<void>;
}

/**
 * Packs the built packages and unpacks them like npm. Only declared dependencies are linked to those of the repository, so an
 * undeclared import fails. Default of `folders`: all packages.
 */
export async function createConsumer(folders?: readonly string[]): Promise<Consumer> {
  const folder = await createTestFolder();
  const modules = path.join(folder, 'node_modules');
  const bin = path.join(modules, '.bin');
  await mkdir(bin, { recursive: true });
  const packed = await packInto(folder, folders);
  const own = packed.map(({ name }) => name);

  async function add(...names: string[]): Promise<void> {
    for (const name of names) {
      const link = path.join(modules, name);
      await mkdir(path.dirname(link), { recursive: true });
      await symlink(path.join(root, 'node_modules', name), link).catch((error: unknown) => {
        if (!(error instanceof Error && 'code' in error && error.code === 'EEXIST')) throw error;
      });
    }
  }

  for (const { name, tarball } of packed) {
    const target = path.join(modules, name);
    await mkdir(target, { recursive: true });
    await execute('tar', ['-xzf', tarball, '-C', target, '--strip-components=1']);
    const manifest = JSON.parse(await readFile(path.join(target, 'package.json'), 'utf8')) as Manifest;
    for (const [command, file] of Object.entries(manifest.bin ?? {})) {
      await symlink(path.join(target, file), path.join(bin, command));
    }
    await add(...Object.keys(manifest.dependencies ?? {}).filter((dependency) => !own.includes(dependency)));
  }
  await writeFile(path.join(folder, 'package.json'), '{ "private": true, "type": "module" }\n');

  return {
    folder,
    packed,
    program: path.join(bin, 'flagcast'),
    add,
    write: async (file, text) => await writeFile(path.join(folder, file), text),
    async run(program, ...args) {
      try {
        return await execute(process.execPath, [program, ...args], { cwd: folder });
      } catch (error) {
        const { stdout, stderr } = error as { stdout: string; stderr: string };
        throw new Error(`${path.basename(program)} ${args.join(' ')} failed:\n${stdout}\n${stderr}`);
      }
    },
    remove: async () => await rm(folder, { recursive: true, force: true }),
  };
}

/** Returns the file of a program from the repository's dependencies. */
export async function programOf(name: string, command = name): Promise<string> {
  const folder = path.join(root, 'node_modules', name);
  const { bin = {} } = JSON.parse(await readFile(path.join(folder, 'package.json'), 'utf8')) as Manifest;
  const file = bin[command];
  if (file === undefined) throw new Error(`${name} has no program ${command}`);
  return path.join(folder, file);
}
