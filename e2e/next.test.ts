import { execFile } from 'node:child_process';
import { cp, mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { expect, it, onTestFinished } from 'vitest';
import { RunningCommand } from '../packages/server/test/command.js';
import { createTestDatabase, createTestFolder, insertAudit } from '../packages/server/test/database.js';
import { createUser, startTestServer, testSecret } from '../packages/server/test/server.js';
import { packInto } from '../scripts/packages/pack.js';
import { freePort } from '../testing/testkit/program.js';
import { launchChromium } from './console/chromium.js';
import { root } from './documents.js';

/** The project in the example. */
const projectId = 'f1a9c457-0001-4000-8000-000000000001';
const versions = ['next@16', 'react@19', 'react-dom@19', 'typescript@5', '@types/react@19', '@types/node@20'];
const execute = promisify(execFile);

// A server of Flagcast behind a rewrite of Next, or in a custom server of Next.
it.each(['rewrites', 'custom server'])(
  'the Next example with %s builds from the packages, and shows a change',
  async (how) => {
    const folder = await createTestFolder();
    onTestFinished(async () => await rm(folder, { recursive: true, force: true }));
    const database = await createTestDatabase({ schema: 'demo' });
    onTestFinished(async () => await database.drop());
    const port = await freePort();
    const origin = `http://localhost:${port}`;
    const server = await startTestServer(database.url, { network: { allowedOrigins: [origin] } });
    onTestFinished(async () => await server.close());
    const { token } = await createUser(database.pool, 'erin', { superuser: true });

    await cp(fileURLToPath(new URL('packages/client/examples/next', root)), folder, { recursive: true });
    const write = async (file: string, text: string): Promise<void> => {
      await mkdir(path.dirname(path.join(folder, file)), { recursive: true });
      await writeFile(path.join(folder, file), text);
    };
    const config = await readFile(path.join(folder, 'next.config.ts'), 'utf8');
    await write('next.config.ts', config.replace('http://127.0.0.1:8080', server.httpUrl));
    await write('package.json', '{ "private": true, "type": "module" }');
    await write(
      'app/layout.tsx',
      `import type { ReactNode } from 'react';
    export default ({ children }: { children: ReactNode }) => <html><body>{children}</body></html>;`,
    );
    await write(
      'app/session/token/route.ts',
      `export const dynamic = 'force-dynamic'; export const GET = () => new Response(process.env.TOKEN);`,
    );
    const packages = ['packages/protocol', 'packages/client', 'packages/server'];
    const tarballs = (await packInto(folder, packages)).map(({ tarball }) => tarball);
    const install = ['install', '--no-audit', '--no-fund', '--ignore-scripts', ...tarballs, ...versions];
    await execute('npm', install, { cwd: folder });

    const next = path.join(folder, 'node_modules/next/dist/bin/next');
    await execute(process.execPath, [next, 'build', folder], {
      env: { PATH: process.env['PATH'], NEXT_TELEMETRY_DISABLED: '1' },
    });
    const html = await readFile(path.join(folder, '.next/server/app/index.html'), 'utf8');
    expect(html).toContain('<h1>Flags</h1><output>connecting</output><ul></ul>');

    const env = { TOKEN: token, NEXT_TELEMETRY_DISABLED: '1' };
    const start =
      how === 'rewrites'
        ? new RunningCommand(['start', folder, '--port', String(port)], { file: next, env })
        : new RunningCommand([], {
            file: path.join(folder, 'server.mjs'),
            env: { ...env, DATABASE_URL: database.url, FLAGCAST_JWT_SECRET: testSecret, PORT: String(port) },
          });
    onTestFinished(async () => await start.end());
    await start.line((line) => line.includes('Ready'));
    const browser = await launchChromium();
    onTestFinished(async () => await browser.close());
    const page = await browser.newPage();
    const pageErrors: string[] = [];
    page.on('console', (message) => {
      if (['error', 'warning'].includes(message.type())) pageErrors.push(message.text());
    });
    const socket = page.waitForEvent('websocket');
    await page.goto(origin);
    await page.getByText('live', { exact: true }).waitFor();
    expect((await socket).isClosed()).toBe(false);
    const { rows } = await database.pool.query<{ id: string; key: string; environment: string }>(
      `UPDATE feature_params p SET enabled = true FROM features f, environments e
     WHERE f.id = p.feature_id AND e.id = p.environment_id AND e.key = 'prod' AND f.project_id = $1 AND NOT enabled
     RETURNING f.id::text, f.key, e.id::text AS environment`,
      [projectId],
    );
    const [flag] = rows;
    if (flag === undefined) throw new Error('the demo has no flag that is off');
    await page.getByText(`${flag.key}: off`, { exact: true }).waitFor();
    await insertAudit(database.pool, { projectId, environmentId: flag.environment, featureId: flag.id });
    await page.getByText(`${flag.key}: on`, { exact: true }).waitFor();
    expect(pageErrors).toStrictEqual([]);
  },
  600_000,
);
