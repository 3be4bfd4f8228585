import { spawn } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { programFile } from './command.js';
import { createTestDatabase, type TestDatabase } from './database.js';

/** A user id without an entry in the password database, with which a container may be started. */
const unknownUid = 12_345;
const secret = 'a secret of at least thirty-two bytes';

let database: TestDatabase;
let folder: string;

beforeAll(async () => {
  database = await createTestDatabase({ schema: 'tables' });
  folder = await mkdtemp(path.join(tmpdir(), 'flagcast-test-'));
});

afterAll(async () => {
  await database.drop();
  await rm(folder, { recursive: true });
});

/** Runs the program as that user, without HOME, until it ends or prints a line with `until`. */
async function run(
  args: readonly string[],
  env: Readonly<Record<string, string>>,
  until?: string,
): Promise<{ code: number | null; output: string }> {
  const command = spawn(process.execPath, [programFile, ...args], {
    uid: unknownUid,
    gid: unknownUid,
    cwd: '/',
    env: { PATH: process.env['PATH'], ...env },
  });
  onTestFinished(() => {
    command.kill('SIGKILL');
  });
  const lines: string[] = [];
  for (const stream of [command.stdout, command.stderr]) {
    createInterface(stream).on('line', (line) => {
      lines.push(line);
      if (until !== undefined && line.includes(until)) command.kill('SIGTERM');
    });
  }
  const code = await new Promise<number | null>((resolve) => {
    command.once('close', resolve);
  });
  return { code, output: lines.join('\n') };
}

// Only root can start a process as another user.
describe.runIf(process.geteuid?.() === 0)('a user without a home directory', () => {
  it.each([
    { args: ['serve', '--port', '0'], until: '"reader_started"' },
    { args: ['serve', '--port', '0', '--workers', '2'], until: '"worker_ready"' },
  ])('runs flagcast $args with DATABASE_URL', async ({ args, until }) => {
    const { code, output } = await run(
      args,
      { DATABASE_URL: database.url, FLAGCAST_JWT_SECRET: secret, FLAGCAST_WRITES: 'off' },
      until,
    );
    expect({ code, output }).toMatchObject({ code: 0, output: expect.stringContaining(until) as string });
  });

  it.each([
    [['doctor', '--database-url', 'URL'], {}, 0],
    [['install', '--dry-run', '--database-url', 'URL'], {}, 0],
    [['token', '--user', '1'], { FLAGCAST_JWT_SECRET: secret }, 0],
    [['--version'], {}, 0],
  ] as const)('runs flagcast %j', async (args, env, expected) => {
    const { code, output } = await run(
      args.map((arg) => (arg === 'URL' ? database.url : arg)),
      env,
    );
    expect({ code, output }).toMatchObject({ code: expected });
    expect(output).not.toContain('homedir');
  });

  it('gets a one-line error that names the setting for commands that need the data folder of the demo', async () => {
    const served = await run(['serve', '--port', '0'], {});
    expect(served).toStrictEqual({
      code: 1,
      output: expect.stringMatching(/^flagcast: .*set FLAGCAST_DATA_DIR.*DATABASE_URL.*$/) as string,
    });
    const token = await run(['token', '--user', '1'], {});
    expect(token).toStrictEqual({
      code: 1,
      output: expect.stringMatching(/^flagcast: .*set FLAGCAST_JWT_SECRET.*$/) as string,
    });
  });
});
