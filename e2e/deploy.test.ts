import { execFile, spawnSync } from 'node:child_process';
import { readFile, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { promisify } from 'node:util';
import { expect, it, onTestFinished } from 'vitest';
import { createTestDatabase, createTestFolder } from '../packages/server/test/database.js';
import { unusedPort } from '../packages/server/test/relay.js';
import { startTestServer } from '../packages/server/test/server.js';
import { blocksOf } from './documents.js';

const execute = promisify(execFile);
const read = async (file: string): Promise<string> =>
  await readFile(new URL(`../${file}`, import.meta.url), 'utf8');

// --offline came with systemd 250.
const analyze = spawnSync('systemd-analyze', ['--version'], { encoding: 'utf8' });
const [version = '0'] = (analyze.status === 0 ? /\d+/.exec(analyze.stdout) : null) ?? [];
const canAnalyze = Number(version) >= 250;
if (!canAnalyze) process.stdout.write('deploy: no systemd-analyze here, so the unit is not looked at\n');

it.skipIf(!canAnalyze)('systemd understands the unit, and finds it little exposed', async () => {
  const folder = await createTestFolder();
  onTestFinished(async () => await rm(folder, { recursive: true }));
  const file = path.join(folder, 'flagcast.service');
  const unit = await read('deploy/flagcast.service');
  expect(unit).toContain('ExecStart=/usr/bin/node ');
  // Only the Node of this machine is sure to be there.
  await writeFile(file, unit.replace('ExecStart=/usr/bin/node ', `ExecStart=${process.execPath} `));
  expect(await execute('systemd-analyze', ['verify', file])).toMatchObject({ stdout: '', stderr: '' });
  await execute('systemd-analyze', ['security', '--offline=true', '--threshold=20', file]);
});

it('the guide to Togglr has the unit as it is', async () => {
  const [unit] = (await blocksOf('docs/togglr.md')).filter(({ text }) => text.includes('[Service]'));
  expect(unit?.text).toBe(await read('deploy/flagcast.service'));
});

it('the health check of the image tells a server that answers from one that does not', async () => {
  const dockerfile = await read('deploy/Dockerfile');
  const [, json = ''] = /^HEALTHCHECK .*\\\n +CMD (\[.*\])$/m.exec(dockerfile) ?? [];
  const [program, ...args] = JSON.parse(json) as string[];
  expect(program).toBe('node');
  // Not the synchronous one: the server that is asked is in this process.
  const check = async (port: number | string): Promise<boolean> =>
    await execute(process.execPath, args, { env: { PORT: String(port) } }).then(
      () => true,
      () => false,
    );
  expect(await check(await unusedPort())).toBe(false);

  const database = await createTestDatabase({ schema: 'tables' });
  onTestFinished(async () => await database.drop());
  const server = await startTestServer(database.url);
  onTestFinished(async () => await server.close());
  expect(await check(new URL(server.httpUrl).port)).toBe(true);
});

it('the image is built of what there is, and starts the program', async () => {
  const dockerfile = await read('deploy/Dockerfile');
  for (const [, folder = ''] of dockerfile.matchAll(/--workspace (\S+)/g)) {
    expect(JSON.parse(await read(`${folder}/package.json`))).not.toHaveProperty('private');
  }
  const { bin, name } = JSON.parse(await read('packages/server/package.json')) as {
    bin: { flagcast: string };
    name: string;
  };
  expect(dockerfile).toContain(`ENTRYPOINT ["node", "node_modules/${name}/${bin.flagcast}"]`);
  expect(dockerfile).toMatch(/^USER node$/m);
});
