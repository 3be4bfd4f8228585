import { randomBytes } from 'node:crypto';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, it, onTestFinished } from 'vitest';
import { type CommandResult, RunningCommand } from '../packages/server/test/command.js';
import { createTestDatabase } from '../packages/server/test/database.js';
import { freePort } from '../testing/testkit/program.ts';
import { testSecret } from '../packages/server/test/server.js';
import { blocksOf, root } from './documents.js';
import { commandsOf } from './shell-lines.js';

/** Runs `flagcast` with the arguments; `$(...)` is replaced by the output of another command. */
async function start(words: readonly string[], env: Record<string, string>): Promise<RunningCommand> {
  const args = await Promise.all(
    words.map(async (word) => {
      const [, inner] = /^\$\(npx flagcast (.*)\)$/.exec(word) ?? [];
      if (inner === undefined) return word;
      const { code, stdout } = await (await start(inner.split(' '), env)).ended;
      expect(code).toBe(0);
      return stdout.trim();
    }),
  );
  const command = new RunningCommand(args, { env });
  onTestFinished(async () => await command.end());
  return command;
}

it('the commands of docs/attach.md work from top to bottom', async () => {
  const database = await createTestDatabase({ schema: 'none' });
  onTestFinished(async () => await database.drop());
  // Roles are shared by the cluster, which other tests use as well.
  const role = `flagcast_reader_${randomBytes(4).toString('hex')}`;
  const readerUrl = new URL(database.url);
  readerUrl.username = role;
  readerUrl.password = 'secret';
  const port = await freePort();
  const env: Record<string, string> = {};
  /** Values for the placeholders of the page, in order. */
  const values: Record<string, string[]> = {
    DATABASE_URL: [database.url, readerUrl.toString(), database.url],
    FLAGCAST_JWT_SECRET: [testSecret],
  };
  const ran: string[] = [];
  const results: Record<string, CommandResult> = {};
  let serve: RunningCommand | undefined;
  let tail: RunningCommand | undefined;

  for (const { language, text } of await blocksOf('docs/attach.md')) {
    if (language === 'sql') {
      await database.pool.query(text);
      if (tail === undefined) continue;
      const line = await tail.line((each) => each.includes('feature_updated'));
      expect(line).toMatch(/ ada +feature +guest-checkout /);
      continue;
    }
    for (const { environment, words } of commandsOf(text)) {
      for (const name of Object.keys(environment)) {
        const value = values[name]?.shift();
        if (value === undefined) throw new Error(`There is no value for ${name}`);
        if (value === readerUrl.toString()) {
          await database.pool.query(`ALTER ROLE ${role} PASSWORD 'secret'`);
        }
        env[name] = value;
      }
      // The test provides the secret that openssl generates.
      if (words.length === 0 || words[0] === 'openssl') continue;
      const [, , ...args] = words.map((word) =>
        word.replace('flagcast_reader', role).replace(/^8080$/, `${port}`),
      );
      const [name = ''] = args;
      ran.push(name);
      if (name === 'serve') {
        serve = await start(args, env);
        expect(await serve.logged('reader_started')).toMatchObject({ guarantee: 'exact' });
      } else if (name === 'tail') {
        tail = await start([...args, '--url', `http://127.0.0.1:${port}`], env);
        await tail.errorLine((line) => line.includes('watching Web shop / prod'));
      } else {
        if (name === 'uninstall') {
          tail?.signal('SIGTERM');
          serve?.signal('SIGTERM');
          expect(await serve?.ended).toMatchObject({ code: 0, stderr: '' });
        }
        const result = await (await start(args, env)).ended;
        expect([args.join(' '), result.code, result.stderr]).toEqual([args.join(' '), 0, expect.anything()]);
        results[args.filter((arg) => arg !== role).join(' ')] = result;
      }
    }
  }

  expect(ran).toEqual(['install', 'doctor', 'install', 'install', 'doctor', 'serve', 'tail', 'uninstall']);
  for (const finding of ['guarantee +exact: every', 'rights', 'log', 'listen']) {
    expect(results['doctor']?.stdout).toMatch(new RegExp(`^ok +${finding}`, 'm'));
  }
  expect(results['install --role --dry-run']?.stdout).toContain(`CREATE ROLE "${role}"`);
  const left = await database.pool.query(
    `SELECT to_regnamespace('flagcast')::text AS schema, to_regclass('projects')::text AS projects,
       to_regrole($1)::text AS role`,
    [role],
  );
  expect(left.rows).toEqual([{ schema: null, projects: null, role: null }]);
});

it('the embedded server of the README starts', async () => {
  const [block] = (await blocksOf('README.md')).filter(({ text }) => text.includes('createFlagcast('));
  const [own] = (await blocksOf('packages/server/README.md')).filter(({ language }) => language === 'js');
  expect(own?.text).toBe(block?.text);
  const database = await createTestDatabase({ schema: 'tables' });
  onTestFinished(async () => await database.drop());
  const cache = fileURLToPath(new URL('node_modules/.cache/', root));
  await mkdir(cache, { recursive: true });
  const folder = await mkdtemp(path.join(cache, 'embedded-'));
  onTestFinished(async () => await rm(folder, { recursive: true }));
  const file = path.join(folder, 'server.mjs');
  const port = await freePort();
  await writeFile(file, (block?.text ?? '').replace('8080', `${port}`));
  const env = { DATABASE_URL: database.url, FLAGCAST_JWT_SECRET: testSecret };
  const server = new RunningCommand([], { file, env });
  onTestFinished(async () => await server.end());
  await expect
    .poll(async () => (await fetch(`http://127.0.0.1:${port}/readyz`).catch(() => null))?.status)
    .toBe(200);
});

it('the lifecycle example of the README of flagcast reports why no events arrive', async () => {
  const [block] = (await blocksOf('packages/server/README.md')).filter(({ text }) =>
    text.startsWith('// lifecycle.mjs\n'),
  );
  const cache = fileURLToPath(new URL('node_modules/.cache/', root));
  await mkdir(cache, { recursive: true });
  const folder = await mkdtemp(path.join(cache, 'embedded-'));
  onTestFinished(async () => await rm(folder, { recursive: true }));
  const file = path.join(folder, 'lifecycle.mjs');
  await writeFile(file, block?.text ?? '');
  const nowhere = `postgresql://ada:hunter2@127.0.0.1:${await freePort()}/flags`;
  const server = new RunningCommand([], {
    file,
    env: { DATABASE_URL: nowhere, FLAGCAST_JWT_SECRET: testSecret },
  });
  onTestFinished(async () => await server.end());
  const line = await server.errorLine((each) => each.startsWith('No events'));
  expect(line).toMatch(/ECONNREFUSED/);
  expect(line).not.toContain('hunter2');
});
