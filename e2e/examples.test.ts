import { cp, mkdir, writeFile } from 'node:fs/promises';
import type { AddressInfo } from 'node:net';
import path from 'node:path';
import { svelte } from '@sveltejs/vite-plugin-svelte';
import vue from '@vitejs/plugin-vue';
import { build as bundle, transform } from 'esbuild';
import type { Browser, BrowserContext, Page } from 'playwright-core';
import { build, createServer, mergeConfig, preview, type PreviewServer } from 'vite';
import solid from 'vite-plugin-solid';
import { afterAll, beforeAll, describe, expect, it, onTestFinished, vi } from 'vitest';
import viteRecipe from '../packages/client/examples/vite.config.js';
import {
  createTestDatabase,
  insertAudit,
  seedProject,
  type SeededProject,
  type TestDatabase,
} from '../packages/server/test/database.js';
import { RunningCommand } from '../packages/server/test/command.js';
import { createUser, startTestServer, type TestServer } from '../packages/server/test/server.js';
import { sharedChromium } from './console/console-window.js';
import { type Consumer, createConsumer } from './consumer.js';
import { readDocument } from './documents.js';

/** An example in a page. */
interface PageExample {
  readonly file: string;
  readonly builtBy: 'esbuild' | 'Vite';
  /** A module that shows the example in the page. */
  readonly entry: string;
  /** What the page shows of a flag before and after the change. Default: `key: off`, `key: on`. */
  readonly texts?: (key: string) => readonly [before: string, after: string];
}

const react = `import { createElement } from 'react';
import { createRoot } from 'react-dom/client';`;
const tanstackQuery = `${react}
import { QueryClient, QueryClientProvider } from '@tanstack/react-query';
const withQueries = (...element) =>
  createElement(QueryClientProvider, { client: new QueryClient() }, createElement(...element));
const channel = client.channel({ projectId, env: 'prod' });`;

const examples: readonly PageExample[] = [
  {
    file: 'vanilla.ts',
    builtBy: 'esbuild',
    entry: `import { showFeatures } from './vanilla.ts'; showFeatures(root, '/', getToken, projectId);`,
  },
  {
    file: 'rxjs.ts',
    builtBy: 'esbuild',
    entry: `import { channelState } from './rxjs.ts';
      import { map } from 'rxjs';
      channelState(client, { projectId, env: 'prod' })
        .pipe(map(({ features }) => [...features.values()]))
        .subscribe((all) => root.replaceChildren(all.map(({ key, enabled }) => key + ': ' + (enabled ? 'on' : 'off')).join()));`,
  },
  {
    file: 'react.tsx',
    builtBy: 'esbuild',
    entry: `${react}
      import { App } from './react.tsx';
      createRoot(root).render(createElement(App, { client, projectId }));`,
    texts: (key) => ['live:', key],
  },
  {
    file: 'tanstack-query.tsx',
    builtBy: 'esbuild',
    entry: `${tanstackQuery}
      import { FeatureNames } from './tanstack-query.tsx';
      createRoot(root).render(withQueries(FeatureNames, { channel }));`,
    texts: (key) => [`Old name of ${key}`, `New name of ${key}`],
  },
  {
    file: 'optimistic-update.tsx',
    builtBy: 'esbuild',
    entry: `${tanstackQuery}
      import { FlagSwitches } from './optimistic-update.tsx';
      const save = async ({ id, version }, enabled) => {
        const response = await fetch('/api/features/' + id, {
          method: 'PATCH',
          headers: { Authorization: 'Bearer ' + await getToken(), 'Content-Type': 'application/json' },
          body: JSON.stringify({ env: 'prod', version, enabled }),
        });
        if (!response.ok) throw new Error(await response.text());
      };
      createRoot(root).render(withQueries(FlagSwitches, { channel, save }));`,
  },
  {
    file: 'Flags.vue',
    builtBy: 'Vite',
    entry: `import { createApp } from 'vue';
      import Flags from './Flags.vue';
      createApp(Flags, { client, projectId }).mount(root);`,
  },
  {
    file: 'Flags.svelte',
    builtBy: 'Vite',
    entry: `import { mount } from 'svelte';
      import Flags from './Flags.svelte';
      mount(Flags, { target: root, props: { client, projectId } });`,
  },
  {
    file: 'solid.tsx',
    builtBy: 'Vite',
    entry: `import { createComponent, render } from 'solid-js/web';
      import { Flags } from './solid.tsx';
      render(() => createComponent(Flags, { client, projectId }), root);`,
  },
];

/** What the entries use. The server of the page responds to `/session/token`. */
const prelude = `import { createClient } from '@flagcast/client';
const root = document.body.appendChild(document.createElement('main'));
const projectId = new URLSearchParams(location.search).get('project');
const getToken = async () => await (await fetch('/session/token')).text();
const client = createClient({ url: '/', getToken });
`;

let consumer: Consumer;
let browser: Browser;
let context: BrowserContext;
let database: TestDatabase;
let server: TestServer;
let web: PreviewServer;
let webUrl: string;
let project: SeededProject;
let token: string;
/** The errors and warnings of the current page. */
const pageErrors: string[] = [];

beforeAll(async () => {
  [consumer, browser, database] = await Promise.all([
    createConsumer(['packages/client']),
    sharedChromium(),
    createTestDatabase({ schema: 'tables' }),
  ]);
  await buildPages();
  server = await startTestServer(database.url, { writes: true });
  project = await seedProject(database.pool);
  ({ token } = await createUser(database.pool, 'erin', { superuser: true }));
  web = await preview(
    mergeConfig(viteRecipe, {
      ...{ root: consumer.folder, configFile: false, appType: 'mpa', logLevel: 'warn' },
      server: { proxy: { '/api': { target: server.httpUrl } } },
      preview: { host: '127.0.0.1', port: 0 },
    }),
  );
  webUrl = `http://127.0.0.1:${(web.httpServer.address() as AddressInfo).port}`;
  context = await browser.newContext({ baseURL: webUrl });
  context.setDefaultTimeout(10_000);
  context.on('weberror', (error) => pageErrors.push(String(error.error())));
  context.on('console', (message) => {
    if (['error', 'warning'].includes(message.type())) pageErrors.push(message.text());
  });
  await context.route('/session/token', async (route) => await route.fulfill({ body: token }));
});

afterAll(async () => {
  await context.close();
  await web.close();
  await server.close();
  await Promise.all([database.drop(), consumer.remove()]);
});

/** Builds all pages into `dist` of the consumer, where only the packed client is installed. */
async function buildPages(): Promise<void> {
  const { folder, add, write } = consumer;
  await add('react', 'react-dom', '@tanstack/react-query', '@tanstack/query-core', 'ws');
  await add('rxjs', 'vue', 'svelte', 'solid-js');
  const copy = async (file: string): Promise<void> =>
    await write(file, await readDocument(`packages/client/examples/${file}`));
  const entries = (by: PageExample['builtBy']): string[] =>
    examples.filter(({ builtBy }) => builtBy === by).map(({ file }) => `${file}.entry.js`);
  for (const { file, entry } of examples) {
    await copy(file);
    await write(`${file}.entry.js`, prelude + entry);
  }
  const dist = path.join(folder, 'dist');
  const { warnings } = await bundle({
    ...{ absWorkingDir: folder, entryPoints: entries('esbuild'), outdir: dist },
    ...{ bundle: true, format: 'esm', splitting: true, jsx: 'automatic', logLevel: 'silent' },
    define: { 'process.env.NODE_ENV': '"production"' },
  });
  expect(warnings).toStrictEqual([]);
  await build({
    ...{ root: folder, configFile: false, logLevel: 'warn' },
    plugins: [vue(), svelte({ configFile: false }), solid()],
    define: { 'process.env.NODE_ENV': '"production"' },
    build: {
      ...{ outDir: dist, emptyOutDir: false, modulePreload: false },
      rolldownOptions: { input: entries('Vite'), output: { entryFileNames: '[name].js' } },
    },
  });
  for (const { file } of examples) {
    const html = `<!doctype html><title>${file}</title><body><script type="module" src="/${file}.entry.js"></script>`;
    await writeFile(path.join(dist, `${file}.html`), html);
  }
  await copy('page.html');
  await cp(path.join(folder, 'page.html'), path.join(dist, 'page.html'));
  await mkdir(path.join(dist, 'flagcast'));
  await cp(path.join(folder, 'node_modules/@flagcast/client/dist'), path.join(dist, 'flagcast'), {
    recursive: true,
  });
}

interface Flag {
  readonly id: string;
  readonly key: string;
}

async function createFlag(key: string): Promise<Flag> {
  const { rows } = await database.pool.query<{ id: string }>(
    `INSERT INTO features (id, project_id, key, name, kind)
     VALUES (gen_random_uuid(), $1, $2::text, 'Old name of ' || $2::text, 'simple') RETURNING id::text`,
    [project.projectId, key],
  );
  return { id: String(rows[0]?.id), key };
}

/** Switches the flag, as a host does: in the tables, with one row of audit. */
async function change({ id, key }: Flag, enabled: boolean): Promise<void> {
  await database.pool.query(`UPDATE features SET name = 'New name of ' || $2::text WHERE id = $1`, [id, key]);
  await database.pool.query('UPDATE feature_params SET enabled = $2 WHERE feature_id = $1', [id, enabled]);
  await insertAudit(database.pool, {
    projectId: project.projectId,
    environmentId: project.environments.prod,
    featureId: id,
  });
}

async function open(file: string): Promise<Page> {
  pageErrors.length = 0;
  const page = await context.newPage();
  onTestFinished(async () => await page.close());
  await page.goto(`/${file}?project=${project.projectId}`);
  return page;
}

describe('from the packed client', () => {
  const pages = [
    ...examples.map(({ file, builtBy, texts }) => ({ name: file, by: builtBy, page: `${file}.html`, texts })),
    { name: 'page.html', by: 'nothing', page: 'page.html', texts: undefined },
  ];
  it.each(pages)('$name, built by $by, shows a change in the database', async ({ name, page, texts }) => {
    const key = `shown-by-${name.toLowerCase().replace('.', '-')}`;
    const flag = await createFlag(key);
    const [before, after] = texts?.(key) ?? [`${key}: off`, `${key}: on`];
    const opened = await open(page);
    await opened.getByText(before).waitFor();
    await change(flag, true);
    await opened.getByText(after).waitFor();
    // Examples that show the status show it in an <output>.
    const statuses = await opened.locator('output').allTextContents();
    expect(statuses.filter((status) => status !== 'live')).toStrictEqual([]);
    expect(pageErrors).toStrictEqual([]);
  });

  it('optimistic-update.tsx shows a switch at once, restores it after a refusal, and keeps a confirmed one', async () => {
    const [flag, other] = [await createFlag('optimistic'), await createFlag('other')];
    const page = await open('optimistic-update.tsx.html');
    let refuse = (): void => undefined;
    const refused = new Promise<void>((resolve) => (refuse = resolve));
    await page.route('/api/features/*', async (route) => {
      await refused;
      await route.fulfill({ status: 409, json: { code: 'stale_version', message: 'changed' } });
    });
    await page.getByText('optimistic: off').click();
    await page.getByText('optimistic: on').waitFor();
    await change(other, true);
    await page.getByText('other: on').waitFor();
    expect(await page.getByText('optimistic:').textContent()).toBe('optimistic: on');
    refuse();
    await page.getByText('optimistic: off').waitFor();

    await page.unroute('/api/features/*');
    const saved = page.waitForResponse((response) => response.request().method() === 'PATCH');
    await page.getByText('optimistic: off').click();
    expect((await saved).status()).toBe(200);
    await page.getByText('optimistic: on').waitFor();
    const { rows } = await database.pool.query<{ enabled: boolean }>(
      'SELECT enabled FROM feature_params WHERE feature_id = $1 AND environment_id = $2',
      [flag.id, project.environments.prod],
    );
    expect(rows).toStrictEqual([{ enabled: true }]);
  });

  it('vite.config.ts gives pages in development a token of the demo', async () => {
    vi.stubEnv('FLAGCAST_JWT_SECRET', 'a secret of at least thirty-two bytes');
    onTestFinished(() => void vi.unstubAllEnvs());
    const development = await createServer(
      mergeConfig(viteRecipe, {
        ...{ root: consumer.folder, configFile: false, logLevel: 'warn' },
        ...{ server: { host: '127.0.0.1', port: 0, watch: null }, optimizeDeps: { noDiscovery: true } },
      }),
    );
    onTestFinished(async () => await development.close());
    await development.listen();
    const response = await fetch(`${development.resolvedUrls?.local[0]}session/token`);
    const [, claims = ''] = (await response.text()).split('.');
    expect(JSON.parse(Buffer.from(claims, 'base64url').toString())).toMatchObject({ username: 'alice' });
  });

  it('node.ts logs a change in the database', async () => {
    const flag = await createFlag('logged-by-node');
    const { code } = await transform(await readDocument('packages/client/examples/node.ts'), {
      loader: 'ts',
    });
    await consumer.write('node.js', code);
    await consumer.write(
      'log.js',
      `import { logEvents } from './node.js';
      const [url, token, projectId] = process.argv.slice(2);
      const client = logEvents(url, token, projectId, console.log);
      await client.channel({ projectId, env: 'prod' }).ready();
      console.log('live');`,
    );
    const program = new RunningCommand([server.httpUrl, token, project.projectId], {
      file: path.join(consumer.folder, 'log.js'),
    });
    onTestFinished(async () => await program.end());
    await program.line((line) => line === 'live');
    await change(flag, true);
    await program.line((line) => line.includes('logged-by-node'));
  });
});
