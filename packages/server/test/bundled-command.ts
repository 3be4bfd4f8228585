import { existsSync } from 'node:fs';
import { chmod, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { build, type Plugin } from 'esbuild';
import { Program } from '../../../testing/testkit/program.ts';

const serverPackage = fileURLToPath(new URL('..', import.meta.url));

export interface BundledCommand {
  /** Its files; `remove` deletes it. */
  readonly folder: string;
  /** What runs instead of `bin/flagcast.js`. */
  readonly program: string;
  /** Runs a server with this database, and keeps what V8 has compiled for the processes of the tests. */
  warmUp(databaseUrl: string): Promise<void>;
  remove(): Promise<void>;
}

/**
 * Bundles the optional packages as well: they would import modules of the server from `dist`, and `instanceof` is false for the
 * second copy of a class.
 */
const withPackages: Plugin = {
  name: 'packages',
  setup: (bundle) => {
    bundle.onLoad({ filter: /\/server\/dist\/cli\/packages\.js$/ }, async ({ path: file }) => {
      const imports = ['console', 'demo', 'relay-nats', 'io-uring'].map(
        (name) => `name === '@flagcast/${name}' ? import('@flagcast/${name}') : `,
      );
      const text = await readFile(file, 'utf8');
      return { contents: text.replace('import(name)', `(${imports.join('')}$&)`) };
    });
    // They find their files beside their own modules.
    bundle.onLoad(
      { filter: /\/packages\/(console|demo|io-uring)\/dist\/.+\.js$/ },
      async ({ path: file }) => {
        const text = await readFile(file, 'utf8');
        return { contents: text.replaceAll('import.meta.url', JSON.stringify(pathToFileURL(file).href)) };
      },
    );
    // A CommonJS module cannot await outside of functions.
    bundle.onLoad({ filter: /\/server\/dist\/cli\/worker\.js$/ }, async ({ path: file }) => {
      const text = await readFile(file, 'utf8');
      return { contents: `(async () => { ${text.replace('export {};', '')}\n})();` };
    });
  },
};

/**
 * Runs one of the two programs of the bundle with what V8 has compiled before. Node 20 keeps no cache of compiled modules.
 * The bundle is ASCII, which V8 takes as it is.
 */
const launcher = (name: string): string => `
const { readFileSync, writeFileSync, existsSync } = require('node:fs');
const { constants, Script } = require('node:vm');
const [filename, cache] = [__dirname + '/programs.cjs', __dirname + '/programs.cache'];
const script = new Script(
  '(function (module, require, __filename) {' + readFileSync(filename, 'latin1') + '\\n})',
  {
    filename,
    importModuleDynamically: constants.USE_MAIN_CONTEXT_DEFAULT_LOADER,
    ...(existsSync(cache) && { cachedData: readFileSync(cache) }),
  },
);
if (process.env.FLAGCAST_WARM_UP) process.once('exit', () => writeFileSync(cache, script.createCachedData()));
const bundle = { exports: {} };
script.runInThisContext()(bundle, require, filename);
bundle.exports.${name}();
`;

/**
 * Bundles the built command: Node loads one file that is compiled in a fifth of the processor time of the 340 modules, and a
 * run starts more than a hundred. `e2e/packages.test.ts` tests the files that npm installs.
 */
export async function bundleCommand(): Promise<BundledCommand> {
  const program = path.join(serverPackage, 'bin/flagcast.js');
  const nothing = async (): Promise<void> => await Promise.resolve();
  // Most tests need no build.
  if (!existsSync(path.join(serverPackage, 'dist/cli/worker.js'))) {
    return { folder: '', program, warmUp: nothing, remove: nothing };
  }
  const parent = path.join(serverPackage, 'node_modules');
  await mkdir(parent, { recursive: true });
  // As deep as the folders of `dist`: the modules find the files of the package by relative paths.
  const folder = await mkdtemp(path.join(parent, 'command-'));
  // Tests run it as other users.
  await chmod(folder, 0o755);
  await build({
    stdin: {
      contents: `
        export const flagcast = async () => await (await import('./dist/cli/main.js')).main(process.argv.slice(2));
        export const worker = async () => await import('./dist/cli/worker.js');
      `,
      resolveDir: serverPackage,
    },
    ...{ outfile: path.join(folder, 'programs.cjs'), bundle: true, keepNames: true, charset: 'ascii' },
    ...{ platform: 'node', format: 'cjs', target: 'node20', logLevel: 'error' },
    plugins: [withPackages],
    external: [
      'koffi',
      'pg-native',
      '@opentelemetry/sdk-trace-node',
      '@opentelemetry/exporter-trace-otlp-http',
    ],
    define: { 'import.meta.url': 'moduleUrl' },
    banner: { js: "const moduleUrl = require('node:url').pathToFileURL(__filename).href;" },
  });
  const launchers = { flagcast: path.join(folder, 'flagcast.js'), worker: path.join(folder, 'worker.js') };
  for (const [name, file] of Object.entries(launchers)) await writeFile(file, launcher(name));
  // Commands that doctor prints find it, if PATH begins with the folder.
  await writeFile(path.join(folder, 'flagcast'), `#!/usr/bin/env node\nrequire('./flagcast.js');\n`, {
    mode: 0o755,
  });
  return {
    folder,
    program: launchers.flagcast,
    async warmUp(databaseUrl) {
      await using server = new Program(process.execPath, [launchers.flagcast, 'serve', '--port', '0'], {
        env: {
          DATABASE_URL: databaseUrl,
          FLAGCAST_JWT_SECRET: 'a secret for tests that is long enough',
          FLAGCAST_WARM_UP: 'on',
        },
      });
      await server.logged('server_listening');
      server.signal('SIGTERM');
      await server.ended;
    },
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
