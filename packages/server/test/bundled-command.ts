import { existsSync } from 'node:fs';
import { chmod, mkdir, mkdtemp, readFile, rm, symlink } from 'node:fs/promises';
import path from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { build, type Plugin } from 'esbuild';

const serverPackage = fileURLToPath(new URL('..', import.meta.url));

export interface BundledCommand {
  /** Its files; `remove` deletes it. */
  readonly folder: string;
  /** What runs instead of `bin/flagcast.js`. */
  readonly program: string;
  remove(): Promise<void>;
}

/**
 * Bundles the console as well, which would import the modules of the server from `dist`: of a second copy of a class,
 * `instanceof` is false.
 */
const withConsole: Plugin = {
  name: 'console',
  setup: (bundle) => {
    bundle.onLoad({ filter: /\/server\/dist\/cli\/packages\.js$/ }, async ({ path: file }) => {
      const text = await readFile(file, 'utf8');
      const contents = text.replace(
        'import(name)',
        "(name === consoleName ? import('@flagcast/console') : $&)",
      );
      return { contents };
    });
    // The pages are beside its own folder.
    bundle.onLoad({ filter: /\/console\/dist\/console-files\.js$/ }, async ({ path: file }) => {
      const text = await readFile(file, 'utf8');
      return { contents: text.replaceAll('import.meta.url', JSON.stringify(pathToFileURL(file).href)) };
    });
  },
};

/**
 * Bundles the built command: Node loads a few files in less than half of the processor time of the 340 modules, and a run
 * starts more than a hundred. `e2e/packages.test.ts` tests the files that npm installs.
 */
export async function bundleCommand(): Promise<BundledCommand> {
  const program = path.join(serverPackage, 'bin/flagcast.js');
  const worker = path.join(serverPackage, 'dist/cli/worker.js');
  // Most tests need no build.
  if (!existsSync(worker)) return { folder: '', program, remove: async () => await Promise.resolve() };
  const parent = path.join(serverPackage, 'node_modules');
  await mkdir(parent, { recursive: true });
  // As deep as the folders of `dist`: the modules find the files of the package by relative paths.
  const folder = await mkdtemp(path.join(parent, 'command-'));
  // Tests run it as other users.
  await chmod(folder, 0o755);
  await build({
    entryPoints: { flagcast: program, worker },
    ...{ outdir: folder, bundle: true, splitting: true, keepNames: true },
    ...{ platform: 'node', format: 'esm', target: 'node20', logLevel: 'error' },
    // The optional packages import pg as well, and tell its errors apart by their class.
    plugins: [withConsole],
    external: ['pg', '@opentelemetry/*'],
    banner: {
      js: "import { createRequire as requireOf } from 'node:module'; const require = requireOf(import.meta.url);",
    },
  });
  // Commands that doctor prints find it, if PATH begins with the folder.
  await symlink('flagcast.js', path.join(folder, 'flagcast'));
  return {
    folder,
    program: path.join(folder, 'flagcast.js'),
    remove: async () => await rm(folder, { recursive: true, force: true }),
  };
}

const repository = fileURLToPath(new URL('../../..', import.meta.url));

/** Bundles `npm run bench`, `chaos` or `fuzz` to `outfile`. With tsx it would take a second of processor time longer to start. */
export async function bundleHarness(name: string, outfile: string): Promise<void> {
  await build({
    entryPoints: [path.join(repository, 'testing', name, 'cli.ts')],
    ...{ outfile, bundle: true, packages: 'external' },
    ...{ platform: 'node', format: 'esm', target: 'node20', logLevel: 'error' },
    plugins: [withSourcePaths],
  });
}

/** The modules of a harness find programs and results beside their sources. */
const withSourcePaths: Plugin = {
  name: 'source-paths',
  setup: (bundle) => {
    bundle.onLoad({ filter: /\/testing\/.+\.ts$/ }, async ({ path: file }) => {
      const text = await readFile(file, 'utf8');
      const contents = text
        .replaceAll('import.meta.url', JSON.stringify(pathToFileURL(file).href))
        .replaceAll('import.meta.dirname', JSON.stringify(path.dirname(file)));
      return { contents, loader: 'ts' };
    });
  },
};
