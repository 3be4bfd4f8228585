import { once } from 'node:events';
import { readdir, utimes } from 'node:fs/promises';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, it, onTestFinished } from 'vitest';
import { WebSocket } from 'ws';
import { createClient } from '../packages/client/src/index.js';
import { untilStatus } from '../packages/client/test/unit/client-fixture.js';
import { demoProjects, demoUsers } from '../packages/demo/src/company/company.js';
import { readDatabaseUrl } from '../packages/server/src/cli/data-folder.js';
import { createTestFolder, insertAudit, withClient } from '../packages/server/test/database.js';
import { freePort } from '../testing/testkit/program.ts';
import { LaunchedProgram } from './debugger.js';

const root = fileURLToPath(new URL('../', import.meta.url));
const touch = async (file: string): Promise<void> =>
  await utimes(path.join(root, file), new Date(), new Date());

/** The next message of Vite that it reloads a page or modules, after `change`. */
async function reload(url: string, change: () => Promise<void>): Promise<string> {
  const [, token = ''] =
    /const wsToken = "([\w-]+)"/.exec(await (await fetch(`${url}/@vite/client`)).text()) ?? [];
  const socket = new WebSocket(`${url.replace('http', 'ws')}/?token=${token}`, 'vite-hmr');
  onTestFinished(() => socket.close());
  const reloaded = new Promise<string>((resolve) => {
    socket.on('message', (data: Buffer) => {
      const { type } = JSON.parse(data.toString()) as { type: string };
      if (type === 'update' || type === 'full-reload') resolve(data.toString());
    });
  });
  await once(socket, 'open');
  await change();
  return await reloaded;
}

it('npm run dev reloads the console, stops at a breakpoint for an event, restarts the server, and stops both', async () => {
  const dataDir = await createTestFolder();
  const port = await freePort();
  const env = { PORT: String(port), FLAGCAST_DATA_DIR: dataDir };
  const dev = new LaunchedProgram('Server and console (npm run dev)', '', env);
  onTestFinished(async () => await dev.end());
  await (await dev.nextProcess()).run();
  const stopped = (await dev.nextProcess()).runTo(
    'packages/server/src/broadcast/broadcaster.ts',
    'for (const channel of channels.keys()) this.#recentChannels.add(channel);',
    'batch.events[0].featureId',
  );
  const [, url = ''] = /^Open (http:\S+)\/ /.exec(await dev.line((line) => line.startsWith('Open '))) ?? [];

  // A page loads the modules of its texts.
  expect(await (await fetch(`${url}/p/any`)).text()).toContain('/src/main.tsx');
  expect((await fetch(`${url}/src/i18n/en.ts`)).status).toBe(200);
  const change = await reload(url, async () => await touch('packages/console/src/i18n/en.ts'));
  expect(change).toMatch(/"type":"(update|full-reload)"/);

  const [{ username, password }] = demoUsers as [(typeof demoUsers)[0]];
  const login = await fetch(`${url}/api/auth/login`, {
    method: 'POST',
    headers: { 'Content-Type': 'application/json' },
    body: JSON.stringify({ username, password }),
  });
  const { token } = (await login.json()) as { token: string };
  const client = createClient({ url, getToken: () => token, WebSocket });
  onTestFinished(() => client.close());
  const channel = client.channel({ projectId: demoProjects[0]?.id ?? '', env: 'prod' });
  await untilStatus(channel, 'live');
  const { size } = channel.getState().features;
  expect(size).toBeGreaterThan(0);
  await withClient((await readDatabaseUrl(dataDir)) ?? '', async (database) => {
    const { rows } = await database.query<{ environmentId: string; projectId: string }>(
      `SELECT id AS "environmentId", project_id AS "projectId" FROM environments WHERE key = 'dev'`,
    );
    const [environment] = rows;
    if (environment === undefined) throw new Error('the demo has no environment');
    const { featureId } = await insertAudit(database, environment);
    expect(await stopped).toBe(featureId);
  });
  const disconnected = untilStatus(channel, 'stale');
  await touch('packages/server/src/describe.ts');
  await dev.line((line) => line === 'changed: packages/server/src/describe.ts');
  await disconnected;
  await (await dev.nextProcess()).run();
  await untilStatus(channel, 'live');
  expect(channel.getState().features.size).toBe(size);

  dev.signal('SIGINT');
  expect(await dev.ended).toMatchObject({ code: 0 });
  const [data = ''] = (await readdir(dataDir)).filter((name) => name.startsWith('data-'));
  expect(await readdir(path.join(dataDir, data))).not.toContain('postmaster.pid');
  await expect(fetch(`http://127.0.0.1:${port}/healthz`)).rejects.toThrow();
});

it('the launch configuration of the current test file stops at a breakpoint of a source', async () => {
  const file = 'packages/client/test/unit/store.test.ts';
  const tests = new LaunchedProgram('Tests of the current file', file, {});
  onTestFinished(async () => await tests.end());
  await (await tests.nextProcess()).run();
  const source = ['packages/client/src/store.ts', 'if (applied.has(event.id)) return;'] as const;
  const eventId = await (await tests.nextProcess()).runTo(...source, 'event.id');
  expect(eventId).toEqual(expect.any(String));
  expect(await tests.ended).toMatchObject({ code: 0 });
});
