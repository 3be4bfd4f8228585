import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { mkdir, readdir, readFile, stat, unlink, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { describe, expect, onTestFinished, test, vi } from 'vitest';
import { takeOwnership } from '../../demo/src/embedded/embedded-owner.js';
import { defaultDataDir } from '../src/cli/data-folder.js';
import { withClient } from './database.js';
import { useClusters } from './embedded-clusters.js';

const hasProc = existsSync('/proc/self/stat');
const { clusterCopy, emptyFolder, isServing, message, read, refusal, start, startOwner, write } =
  useClusters();

describe('a start of the embedded PostgreSQL', () => {
  test('creates the cluster, keeps password and data, and releases the folder at stop', async () => {
    const dataDir = path.join(await emptyFolder(), 'made', 'here');
    const umask = process.umask(0o077);
    onTestFinished(() => {
      process.umask(umask);
    });
    const lines: string[] = [];
    const first = await start(dataDir, { onLog: (line) => lines.push(line) });
    await write(first, 'one');
    const facts = await withClient(first.url(), async (client) => {
      const { rows } = await client.query<Record<string, string>>(
        `SELECT current_database() AS database, current_setting('server_encoding') AS encoding,
           current_setting('max_connections') AS connections, current_setting('track_commit_timestamp') AS times,
           current_setting('listen_addresses') AS addresses, current_setting('unix_socket_directories') AS sockets,
           'ä' < 'z' COLLATE "default" AS locale_sorting, upper('ä') AS upper`,
      );
      return rows[0];
    });
    expect(facts).toEqual({
      database: 'flagcast',
      encoding: 'UTF8',
      connections: '200',
      times: 'on',
      addresses: '127.0.0.1',
      sockets: '',
      locale_sorting: false,
      upper: 'Ä',
    });
    expect(lines.join('\n')).toContain('ready to accept connections');
    expect((await stat(path.join(dataDir, 'password'))).mode & 0o777).toBe(0o600);
    const url = new URL(first.url('postgres'));
    url.password = 'wrong';
    await expect(withClient(url.href, async (client) => await client.query('SELECT'))).rejects.toThrow(
      /password/,
    );
    await first.stop();
    expect((await readdir(dataDir)).sort()).toEqual(['data-18', 'password']);

    const second = await start(dataDir);
    expect(await read(second)).toEqual(['one']);
    expect(new URL(second.url()).password).toBe(new URL(first.url()).password);
    await second.restart();
    expect(await read(second)).toEqual(['one']);
  });

  test('reports a wrong setting with PostgreSQL’s message, and releases the folder', async () => {
    const dataDir = await clusterCopy();
    const error = await refusal(dataDir, { settings: { shared_bufers: '1GB' } });
    expect(error.code).toBe('failed');
    expect(error.message).toContain('unrecognized configuration parameter "shared_bufers"');
    expect(await read(await start(dataDir))).toEqual(['kept']);
  });

  test.skipIf(!hasProc)('does not pass secrets of the environment to PostgreSQL', async () => {
    vi.stubEnv('FLAGCAST_JWT_SECRET', 'a-secret-of-ours');
    onTestFinished(() => void vi.unstubAllEnvs());
    const postgres = await start(await clusterCopy());
    const environment = await readFile(`/proc/${postgres.pid ?? 0}/environ`, 'utf8');
    expect(environment).toContain('PATH=');
    expect(environment).not.toContain('a-secret-of-ours');
  });

  test('installs no signal handler, which could end the process before it has drained', async () => {
    const signals = ['SIGINT', 'SIGTERM', 'SIGHUP', 'beforeExit', 'uncaughtException'];
    const before = signals.map((signal) => process.listenerCount(signal));
    await start(await clusterCopy());
    expect(signals.map((signal) => process.listenerCount(signal))).toEqual(before);
  });

  test('reports a wrong and a missing password file', async () => {
    const dataDir = await clusterCopy();
    await writeFile(path.join(dataDir, 'password'), 'another\n');
    expect((await refusal(dataDir)).message).toContain(`The password in ${dataDir}/password does not open`);
    await unlink(path.join(dataDir, 'password'));
    expect((await refusal(dataDir)).message).toContain(`The password file ${dataDir}/password is missing`);
  });

  test('removes what an interrupted start has left', async () => {
    const dataDir = await emptyFolder();
    await mkdir(path.join(dataDir, 'unfinished-cluster', 'base'), { recursive: true });
    await start(dataDir);
    expect((await readdir(dataDir)).sort()).toEqual(['data-18', 'owner.json', 'password']);
  });
});

describe('the owner of a data folder', () => {
  test('is one of two concurrent starts', async () => {
    const dataDir = await clusterCopy();
    const starts = await Promise.allSettled([start(dataDir), start(dataDir)]);
    const won = starts.filter((one) => one.status === 'fulfilled');
    const lost = starts.filter((one) => one.status === 'rejected');
    expect(won).toHaveLength(1);
    expect(lost.map((one) => one.reason as unknown)).toEqual([
      expect.objectContaining({ code: 'held', holderPid: process.pid }),
    ]);
  });

  test('is one of many processes that find the same dead owner', async () => {
    const dataDir = await emptyFolder();
    const dead = spawn(process.execPath, ['--version'], { stdio: 'ignore' });
    await once(dead, 'exit');
    for (let round = 0; round < 20; round += 1) {
      await writeFile(
        path.join(dataDir, 'owner.json'),
        JSON.stringify({ pid: dead.pid, startMark: 'then', id: round }),
      );
      const claims = await Promise.allSettled(
        Array.from({ length: 8 }, async () => await takeOwnership(dataDir)),
      );
      const owners = claims.flatMap((claim) => (claim.status === 'fulfilled' ? [claim.value] : []));
      expect(owners.map((owner) => owner.tookOver)).toEqual([true]);
      expect(await readdir(dataDir)).toEqual(['owner.json']);
      await owners[0]?.release();
      expect(await readdir(dataDir)).toEqual([]);
    }
  });

  test.skipIf(!hasProc)(
    'is distinguished from a later process with the same id, and from a damaged file',
    async () => {
      const dataDir = await emptyFolder();
      const file = path.join(dataDir, 'owner.json');
      for (const text of [JSON.stringify({ pid: process.pid, startMark: 'another boot/1' }), '']) {
        await writeFile(file, text);
        const owner = await takeOwnership(dataDir);
        expect(owner.tookOver).toBe(true);
        await owner.release();
      }
      await writeFile(file, JSON.stringify({ pid: process.pid, startMark: null }));
      await expect(takeOwnership(dataDir)).rejects.toThrow(
        `if process ${process.pid} is not Flagcast, delete ${file}`,
      );
    },
  );

  test('excludes others while it runs; after its kill the next start stops its PostgreSQL and keeps the data', async () => {
    const dataDir = await clusterCopy();
    const owner = await startOwner(dataDir);
    expect(await refusal(dataDir)).toMatchObject({ code: 'held', holderPid: owner.pid });

    owner.process.kill('SIGKILL');
    await once(owner.process, 'exit');
    expect(await isServing(owner.url)).toBe(true);
    const next = await start(dataDir);
    expect(await isServing(owner.url)).toBe(false);
    expect(await read(next)).toEqual(['kept']);
  });

  test('stops PostgreSQL when it exits without stop', async () => {
    const owner = await startOwner(await clusterCopy());
    owner.process.send('exit');
    await once(owner.process, 'exit');
    // PostgreSQL is not a child of this process: there is no exit event.
    await expect.poll(async () => await isServing(owner.url), { interval: 20 }).toBe(false);
  });

  test('receives Ctrl-C of the terminal alone, while PostgreSQL keeps running until it is stopped', async () => {
    const owner = await startOwner(await clusterCopy());
    process.kill(-owner.pid, 'SIGINT');
    expect(await message(owner.process)).toEqual({ notes: ['kept'] });
    expect(await once(owner.process, 'exit')).toEqual([0, null]);
    expect(await isServing(owner.url)).toBe(false);
  });
});

test('the default data folder follows the account and XDG_DATA_HOME', () => {
  const geteuid = vi.spyOn(process as { geteuid: () => number }, 'geteuid').mockReturnValue(1000);
  onTestFinished(() => void vi.restoreAllMocks());
  expect(defaultDataDir({ XDG_DATA_HOME: '/srv/share' })).toBe('/srv/share/flagcast');
  expect(defaultDataDir({ XDG_DATA_HOME: 'relative' })).toMatch(/\/\.local\/share\/flagcast$/);
  geteuid.mockReturnValue(0);
  expect(defaultDataDir({ XDG_DATA_HOME: '/srv/share' })).toBe('/var/lib/flagcast');
});
