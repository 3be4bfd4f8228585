import { execFile } from 'node:child_process';
import { readFile, rename, stat } from 'node:fs/promises';
import path from 'node:path';
import { promisify } from 'node:util';
import { checkPackage, createPackageFromTarballData } from '@arethetypeswrong/core';
import { build } from 'esbuild';
import { publint } from 'publint';
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { RunningCommand, runCommand } from '../packages/server/test/command.js';
import { createTestDatabase, insertAudit, seedProject } from '../packages/server/test/database.js';
import { hasIoUring } from '../packages/server/test/io-uring-here.js';
import { createUser, testSecret } from '../packages/server/test/server.js';
import { measureDependencies } from '../scripts/packages/install-size.js';
import { measureSizes } from '../scripts/packages/measure.js';
import { blocksOf } from './documents.js';
import { type Consumer, createConsumer, type Manifest, programOf } from './consumer.js';

const root = new URL('../', import.meta.url);
const read = async (file: string): Promise<string> => await readFile(new URL(file, root), 'utf8');

let consumer: Consumer;
beforeAll(async () => {
  consumer = await createConsumer();
});
afterAll(async () => await consumer.remove());

const names = [
  '@flagcast/protocol',
  '@flagcast/client',
  '@flagcast/console',
  '@flagcast/io-uring',
  '@flagcast/relay-nats',
  'flagcast',
];

describe.each(names)('%s', (name) => {
  it('has only the files that it needs, without TypeScript sources and tests', async () => {
    const { folder, files } = find(name);
    const paths = files.map((file) => file.path);
    const meant =
      /^(package\.json|README\.md|LICENSE|bin\/flagcast\.js|dist\/[\w/-]+\.(js|js\.map|d\.ts)|sql\/\w+\/[\w.-]+\.sql|app\/(index\.html|icon\.svg|licenses\.md|assets\/[\w.-]+\.(js|css)))$/;
    expect(paths.filter((file) => !meant.test(file) || /\btests?\b/.test(file))).toStrictEqual([]);
    expect(paths).toEqual(expect.arrayContaining(['README.md', 'LICENSE']));
    expect(await read(`${folder}/LICENSE`)).toBe(await read('LICENSE'));
    const manifest = await installed(name);
    const [, needed = 'nothing'] = />=(\S+)/.exec(manifest.engines.node) ?? [];
    expect(await read(`${folder}/README.md`)).toContain(`Node >= ${needed}`);
    // The build of the pages needs the styles that their sources import.
    const sideEffects = name === '@flagcast/console' ? ['./src/**'] : false;
    expect(manifest).toMatchObject({ license: 'Apache-2.0', type: 'module', sideEffects });
    for (const dependency of names.filter((each) => each in (manifest.dependencies ?? {}))) {
      expect(manifest.dependencies?.[dependency]).toBe((await installed(dependency)).version);
    }
  });

  it('has types for each kind of module resolution, and is ESM from CommonJS', async () => {
    const tarball = createPackageFromTarballData(await readFile(find(name).tarball));
    const result = await checkPackage(tarball);
    if (!result.types) throw new Error(`${name} has no types`);
    // The way of before `exports` is not supported where there are several entries.
    const expected = (kind: string, resolution?: string): boolean =>
      kind === 'CJSResolvesToESM' || (kind === 'NoResolution' && resolution === 'node10');
    expect(
      result.problems.filter(
        (problem) =>
          !expected(problem.kind, 'resolutionKind' in problem ? problem.resolutionKind : undefined),
      ),
    ).toStrictEqual([]);
    for (const entry of Object.values(result.entrypoints)) expect(entry.hasTypes).toBe(true);
  });
});

it('publint finds nothing to improve in any package', async () => {
  for (const { name, tarball } of consumer.packed) {
    const { buffer } = new Uint8Array(await readFile(tarball));
    expect((await publint({ pack: { tarball: buffer } })).messages, name).toStrictEqual([]);
  }
});

it('bundles, packages and the console are within the limits of sizes.json', async () => {
  const limits = JSON.parse(await read('sizes.json')) as Record<string, Record<string, number>>;
  const sizes = Object.entries(await measureSizes(consumer.packed));
  expect(sizes.map(([kind, group]) => [kind, Object.keys(group)])).toEqual(
    Object.entries(limits).map(([kind, group]) => [kind, Object.keys(group)]),
  );
  for (const [kind, group] of sizes) {
    for (const [name, bytes] of Object.entries(group))
      expect(bytes, `${name}, ${kind}`).toBeLessThanOrEqual(limits[kind]?.[name] ?? 0);
  }
});

it('flagcast installs no package that runs an install script', async () => {
  expect((await measureDependencies()).withInstallScripts).toStrictEqual([]);
});

it('npx flagcast runs the program', async () => {
  expect((await stat(consumer.program)).mode & 0o111).toBe(0o111);
  const { stdout } = await promisify(execFile)('npx', ['--no-install', 'flagcast', '--version'], {
    cwd: consumer.folder,
  });
  expect(stdout).toBe(`${(await installed('flagcast')).version}\n`);
});

it('flagcast prints how to install the relay if FLAGCAST_RELAY_URL is set without it', async () => {
  const folder = path.join(consumer.folder, 'node_modules', '@flagcast', 'relay-nats');
  await rename(folder, `${folder}-away`);
  onTestFinished(async () => await rename(`${folder}-away`, folder));
  const env = {
    DATABASE_URL: 'postgresql://127.0.0.1:1/none',
    FLAGCAST_JWT_SECRET: testSecret,
    FLAGCAST_RELAY_URL: 'nats://127.0.0.1:4222',
  };
  const { code, stderr } = await runCommand(['serve'], { file: consumer.program, env });
  expect(code).toBe(1);
  expect(stderr.trim().split('\n')).toEqual([expect.stringContaining('npm install @flagcast/relay-nats')]);
});

it('flagcast prints how to install the demo if a server without a database needs it', async () => {
  await removeOptional('demo');
  await removeOptional('console');
  const { code, stderr } = await runCommand(['serve'], { file: consumer.program, env: {} });
  expect(code).toBe(1);
  expect(stderr.trim().split('\n')).toEqual([expect.stringContaining('npm install @flagcast/demo')]);
});

it('flagcast prints how to install the console if FLAGCAST_WRITES is on without it', async () => {
  await removeOptional('console');
  const env = {
    DATABASE_URL: 'postgresql://127.0.0.1:1/none',
    FLAGCAST_JWT_SECRET: testSecret,
    FLAGCAST_WRITES: 'on',
  };
  const { code, stderr } = await runCommand(['serve'], { file: consumer.program, env });
  expect(code).toBe(1);
  expect(stderr.trim().split('\n')).toEqual([expect.stringContaining('npm install @flagcast/console')]);
});

it('flagcast without the console serves snapshots, and says in the log and at / what is missing', async () => {
  await removeOptional('console');
  const database = await createTestDatabase({ schema: 'tables' });
  onTestFinished(async () => await database.drop());
  const { projectId } = await seedProject(database.pool);
  const { token } = await createUser(database.pool, 'root', { superuser: true });
  const env = { DATABASE_URL: database.url, FLAGCAST_JWT_SECRET: testSecret };
  const serve = new RunningCommand(['serve', '--port', '0'], { file: consumer.program, env });
  onTestFinished(async () => await serve.end());
  const { url, console: reason } = await serve.logged('server_listening');
  expect(reason).toBe('@flagcast/console is not installed');
  await serve.logged('reader_started');
  const answer = await fetch(String(url));
  expect(answer.status).toBe(404);
  expect(await answer.json()).toMatchObject({
    code: 'not_found',
    message: expect.stringContaining('npm install @flagcast/console') as string,
  });
  const headers = { Authorization: `Bearer ${token}` };
  const place = new URLSearchParams({ project_id: projectId, env: 'prod' });
  expect((await fetch(`${String(url)}/api/snapshot?${place.toString()}`, { headers })).status).toBe(200);
});

it('flagcast loads @flagcast/io-uring without warnings, and uses it if the machine allows it', async () => {
  await consumer.write(
    'io-uring.js',
    `import { ioUring } from '@flagcast/io-uring'; console.log(ioUring(() => undefined).name);`,
  );
  const result = await consumer.run('io-uring.js').catch(String);
  if (hasIoUring) expect(result).toEqual({ stdout: 'io_uring\n', stderr: '' });
  else expect(result).toMatch(/Error: (the kernel|io_uring|the package koffi)/);
});

it('flagcast installs, serves its console, and the program of the README receives a change', async () => {
  await removeOptional('io-uring');
  const database = await createTestDatabase({ schema: 'none' });
  onTestFinished(async () => await database.drop());
  const env = { DATABASE_URL: database.url, FLAGCAST_JWT_SECRET: testSecret };
  const run = { file: consumer.program, env };
  expect(await runCommand(['install', '--tables', '--yes'], run)).toMatchObject({ code: 0 });
  const { projectId, environments } = await seedProject(database.pool);
  const { token } = await createUser(database.pool, 'root', { superuser: true });
  const { rows } = await database.pool.query<{ id: string }>(
    `INSERT INTO features (id, project_id, key, name, kind)
     VALUES (gen_random_uuid(), $1, 'dark-theme', 'Dark theme', 'simple') RETURNING id::text`,
    [projectId],
  );
  const featureId = String(rows[0]?.id);

  const serve = new RunningCommand(['serve', '--port', '0'], run);
  onTestFinished(async () => await serve.end());
  const url = String((await serve.logged('server_listening'))['url']);
  expect(await serve.logged('socket_writer_chosen')).toMatchObject({
    writer: 'plain',
    reason: '@flagcast/io-uring is not installed',
  });
  const page = await (await fetch(url)).text();
  const [, script = ''] = /src="\.(\/assets\/[^"]+\.js)"/.exec(page) ?? [];
  expect((await fetch(`${url}${script}`)).headers.get('content-type')).toContain('text/javascript');

  const [{ text } = { text: '' }] = (await blocksOf('README.md')).filter((block) =>
    block.text.startsWith('// watch.mjs\n'),
  );
  await consumer.write('watch.mjs', text);
  const watch = new RunningCommand([url, token, projectId], {
    file: path.join(consumer.folder, 'watch.mjs'),
  });
  onTestFinished(async () => await watch.end());
  await watch.line((line) => line.startsWith('live') && !line.includes('dark-theme'));
  await database.pool.query(
    'UPDATE feature_params SET enabled = true WHERE feature_id = $1 AND environment_id = $2',
    [featureId, environments.prod],
  );
  await insertAudit(database.pool, {
    projectId,
    environmentId: environments.prod,
    featureId,
    entityId: featureId,
  });
  await watch.line((line) => line === 'live dark-theme');
  serve.signal('SIGTERM');
  expect(await serve.ended).toMatchObject({ code: 0, stderr: '' });
});

describe('strict TypeScript with checked declarations of all dependencies', () => {
  const examples = [
    ...[
      ...['next/app/flags.tsx', 'node.ts', 'optimistic-update.tsx', 'react.tsx', 'rxjs.ts', 'solid.tsx'],
      ...['tabs.ts', 'tanstack-query.tsx', 'vanilla.ts'],
    ].map((file) => `packages/client/examples/${file}`),
    ...['node-http.ts', 'express.ts', 'fastify.ts'].map((file) => `packages/server/examples/${file}`),
  ];

  beforeAll(async () => {
    await consumer.add('react', '@tanstack/react-query', '@tanstack/query-core', 'ws', 'express', 'fastify');
    await consumer.add('rxjs', 'solid-js', 'svelte');
    await consumer.add('@types/node', '@types/react', '@types/ws', '@types/express');
    for (const file of examples) await consumer.write(path.basename(file), await read(file));
    const [block] = (await blocksOf('packages/protocol/README.md')).filter(
      ({ language }) => language === 'ts',
    );
    await consumer.write('protocol.ts', block?.text ?? '');
    await consumer.write(
      'svelte.ts',
      `import type { Channel, ChannelState, Client, ConnectionStatus } from '@flagcast/client';
      import type { Readable } from 'svelte/store';
      export const ofChannel = ({ store }: Channel): Readable<ChannelState> => store;
      export const ofClient = ({ store }: Client): Readable<ConnectionStatus> => store;`,
    );
  });

  it.each([
    ['nodenext', 'nodenext'],
    ['bundler', 'esnext'],
  ])('compiles the examples with moduleResolution %s', async (moduleResolution, module) => {
    const compilerOptions = {
      ...{ moduleResolution, module, target: 'es2023', lib: ['es2023', 'dom', 'dom.iterable'] },
      ...{ strict: true, exactOptionalPropertyTypes: true, noUncheckedIndexedAccess: true },
      // Checked once: the declarations do not depend on the resolution. Those of TypeScript itself are not ours.
      ...{
        skipDefaultLibCheck: true,
        skipLibCheck: moduleResolution === 'bundler',
        noEmit: true,
        jsx: 'react-jsx',
        types: [],
        verbatimModuleSyntax: true,
      },
    };
    const file = `tsconfig.${moduleResolution}.json`;
    await consumer.write(file, JSON.stringify({ compilerOptions, include: ['*.ts', '*.tsx'] }));
    expect(
      await consumer.run(await programOf('typescript', 'tsc'), '--singleThreaded', '-p', file),
    ).toMatchObject({
      stdout: '',
    });
  });
});

describe('bundlers', () => {
  const entry = `import { createClient } from '@flagcast/client'; globalThis.createClient = createClient;`;

  it('esbuild bundles only the client into a page', async () => {
    await consumer.write('page.js', entry);
    const { metafile } = await build({
      absWorkingDir: consumer.folder,
      entryPoints: ['page.js'],
      ...{ bundle: true, minify: true, platform: 'browser', format: 'esm', target: 'es2022' },
      ...{ metafile: true, write: false },
    });
    const inputs = Object.keys(metafile.inputs).filter((file) => file !== 'page.js');
    expect(inputs.filter((file) => !file.startsWith('node_modules/@flagcast/client/dist/'))).toStrictEqual(
      [],
    );
  });

  it('Vite builds a page with all entries of the client', async () => {
    await consumer.add('react', '@tanstack/query-core');
    const all = ['', '/tabs', '/react', '/query'].map((part) => `export * from '@flagcast/client${part}';`);
    await consumer.write('all.js', all.join('\n'));
    await consumer.write('main.js', `import * as all from './all.js'; globalThis.all = all;`);
    await consumer.write('index.html', '<!doctype html><script type="module" src="/main.js"></script>');
    const { stdout, stderr } = await consumer.run(await programOf('vite'), 'build', '--logLevel', 'info');
    expect(stdout).toContain('built in');
    // Vite would warn that a module of Node was externalized.
    expect(stdout + stderr).not.toMatch(/externalized|unresolved/i);
  });
});

/** Moves an optional package away until the test has finished. */
async function removeOptional(name: string): Promise<void> {
  const folder = path.join(consumer.folder, 'node_modules', '@flagcast', name);
  await rename(folder, `${folder}-away`);
  onTestFinished(async () => await rename(`${folder}-away`, folder));
}

type Installed = Manifest & { readonly version: string; readonly engines: { readonly node: string } };

async function installed(name: string): Promise<Installed> {
  const file = path.join(consumer.folder, 'node_modules', name, 'package.json');
  return JSON.parse(await readFile(file, 'utf8')) as Installed;
}

function find(name: string): Consumer['packed'][number] {
  const found = consumer.packed.find((each) => each.name === name);
  if (found === undefined) throw new Error(`there is no package ${name}`);
  return found;
}
