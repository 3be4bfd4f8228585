import { execFile, spawnSync } from 'node:child_process';
import { readFile, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { promisify } from 'node:util';
import { expect, it, onTestFinished } from 'vitest';
import { createTestDatabase, createTestFolder } from '../packages/server/test/database.js';
import { freePort } from '../testing/testkit/program.ts';
import { startTestServer } from '../packages/server/test/server.js';
import { blocksOf } from './documents.js';

const execute = promisify(execFile);
const read = async (file: string): Promise<string> =>
  await readFile(new URL(`../${file}`, import.meta.url), 'utf8');

// --offline came with systemd 250.
const analyze = spawnSync('systemd-analyze', ['--version'], { encoding: 'utf8' });
const [version = '0'] = (analyze.status === 0 ? /\d+/.exec(analyze.stdout) : null) ?? [];
const canAnalyze = Number(version) >= 250;
if (!canAnalyze) process.stdout.write('deploy: systemd-analyze is not available, the unit is not checked\n');

it.skipIf(!canAnalyze)('systemd-analyze verifies the unit and rates its exposure as low', async () => {
  const folder = await createTestFolder();
  onTestFinished(async () => await rm(folder, { recursive: true }));
  const file = path.join(folder, 'flagcast.service');
  const unit = await read('deploy/flagcast.service');
  expect(unit).toContain('ExecStart=/usr/bin/node ');
  // Replaces the path of Node by the one of this machine.
  await writeFile(file, unit.replace('ExecStart=/usr/bin/node ', `ExecStart=${process.execPath} `));
  expect(await execute('systemd-analyze', ['verify', file])).toMatchObject({ stdout: '', stderr: '' });
  await execute('systemd-analyze', ['security', '--offline=true', '--threshold=20', file]);
});

it('the unit reads the settings file of the guides, which install it from deploy/', async () => {
  const unit = await read('deploy/flagcast.service');
  const [, file = ''] = /^EnvironmentFile=(\S+)$/m.exec(unit) ?? [];
  for (const guide of ['docs/togglr.md', 'deploy/README.md']) {
    const texts = (await blocksOf(guide)).map(({ text }) => text);
    expect(texts).toContainEqual(expect.stringMatching(new RegExp(`^# ${file}\\nDATABASE_URL=`)));
    expect(texts).toContainEqual(
      expect.stringMatching(/^cp (\/opt\/flagcast\/)?deploy\/flagcast\.service \/etc\/systemd\/system\/$/m),
    );
  }
});

it('the health check of the image fails if the server does not answer', async () => {
  const dockerfile = await read('deploy/Dockerfile');
  const [, json = ''] = /^HEALTHCHECK .*\\\n +CMD (\[.*\])$/m.exec(dockerfile) ?? [];
  const [program, ...args] = JSON.parse(json) as string[];
  expect(program).toBe('node');
  // Asynchronous, because the server runs in this process.
  const check = async (port: number | string): Promise<boolean> =>
    await execute(process.execPath, args, { env: { PORT: String(port) } }).then(
      () => true,
      () => false,
    );
  expect(await check(await freePort())).toBe(false);

  const database = await createTestDatabase({ schema: 'tables' });
  onTestFinished(async () => await database.drop());
  const server = await startTestServer(database.url);
  onTestFinished(async () => await server.close());
  expect(await check(new URL(server.httpUrl).port)).toBe(true);
});

it('the Dockerfile installs from the lock file without scripts and starts the program', async () => {
  const dockerfile = await read('deploy/Dockerfile');
  // Every dependency of the image has the version and the checksum of the lock file, and no package runs a script.
  const installs = dockerfile.match(/npm (ci|install|i) .*/g) ?? [];
  expect(installs.map((line) => line.slice(0, 23))).toEqual([
    'npm ci --ignore-scripts',
    'npm ci --ignore-scripts',
    'npm install --no-save -',
  ]);
  for (const line of installs) expect(line).toContain('--ignore-scripts');
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
