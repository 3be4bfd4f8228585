import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { chmod, chown, mkdir, readdir, stat, statfs, unlink, writeFile } from 'node:fs/promises';
import { createServer, type Server } from 'node:net';
import path from 'node:path';
import { promisify } from 'node:util';
import pg from 'pg';
import { describe, expect, onTestFinished, test, vi } from 'vitest';
import { findAccount } from '../../demo/src/embedded/embedded-account.js';
import { findBinaries, installedPackageDir } from '../../demo/src/embedded/embedded-binaries.js';
import { serves, FAST_STOP_MS } from '../../demo/src/embedded/embedded-orphan.js';
import type { EmbeddedPostgresError } from '../../demo/src/embedded/embedded.js';
import { withClient } from './database.js';
import { useClusters } from './embedded-clusters.js';

const execute = promisify(execFile);
const asRoot = process.geteuid?.() === 0;
const { clusterCopy, emptyFolder, read, refusal, start, write } = useClusters();

describe('the embedded PostgreSQL', () => {
  test('reports a kill to its owner, and restarts on the same port with its data', async () => {
    const ends: EmbeddedPostgresError[] = [];
    const postgres = await start(await clusterCopy(), {
      onExit: (error) => ends.push(error),
    });
    const { port } = postgres;
    // A busy session outlives the postmaster and keeps its shared memory.
    const busy = new pg.Client({ connectionString: postgres.url() });
    busy.on('error', () => undefined);
    await busy.connect();
    const begun = once(busy, 'notice');
    const query = busy
      .query(`DO $$ BEGIN RAISE NOTICE 'begun'; PERFORM count(*) FROM generate_series(1, 2000000); END $$`)
      .catch(() => undefined);
    await begun;
    process.kill(postgres.pid ?? 0, 'SIGKILL');
    await expect.poll(() => ends.length, { interval: 5 }).toBe(1);
    expect(postgres.pid).toBeNull();
    await postgres.restart();
    expect(postgres.port).toBe(port);
    expect(await read(postgres)).toEqual(['kept']);
    await query;
    await postgres.restart('immediate');
    await postgres.stop();
    expect(ends.map((error) => error.message)).toEqual([
      expect.stringContaining('ended unexpectedly (signal SIGKILL)'),
    ]);
    await expect(postgres.restart()).rejects.toThrow(/was stopped; start a new one/);
  });

  test('is shut down immediately if a fast shutdown takes too long', async () => {
    const postgres = await start(await clusterCopy());
    // A replication client that never confirms delays a fast shutdown.
    const receiver = new pg.Client({
      connectionString: postgres.url(),
      replication: 'true',
    } as pg.ClientConfig);
    receiver.on('error', () => undefined);
    await receiver.connect();
    const { rows } = await receiver.query<{ xlogpos: string }>('IDENTIFY_SYSTEM');
    receiver.query(`START_REPLICATION PHYSICAL ${rows[0]?.xlogpos ?? ''}`).catch(() => undefined);
    await withClient(postgres.url(), async (client) => {
      const streaming = `SELECT FROM pg_stat_replication WHERE state = 'streaming'`;
      await expect.poll(async () => (await client.query(streaming)).rowCount, { interval: 5 }).toBe(1);
    });
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
    onTestFinished(() => void vi.useRealTimers());
    const stopped = postgres.stop();
    await vi.advanceTimersByTimeAsync(FAST_STOP_MS - 1);
    expect(postgres.pid).not.toBeNull();
    await vi.advanceTimersByTimeAsync(1);
    await stopped;
    expect(postgres.pid).toBeNull();
  });

  test('is not stopped if Flagcast did not start it', async () => {
    const dataDir = await clusterCopy();
    const running = await start(dataDir);
    await unlink(path.join(dataDir, 'owner.json'));
    expect(await refusal(dataDir)).toMatchObject({ code: 'held', holderPid: running.pid });
    expect(await read(running)).toEqual(['kept']);
  });

  test.skipIf(!existsSync('/proc/self/stat'))(
    'starts despite an unrelated process with the id in postmaster.pid',
    async () => {
      const dataDir = await clusterCopy();
      const clusterDir = path.join(dataDir, 'data-18');
      const { uid, gid } = await stat(clusterDir);
      const stranger = spawn('sleep', ['60'], { ...(asRoot ? { uid, gid } : {}), cwd: '/' });
      onTestFinished(() => void stranger.kill());
      const pidFile = path.join(clusterDir, 'postmaster.pid');
      await writeFile(pidFile, `${stranger.pid ?? 0}\n${clusterDir}\n1\n1\n\n127.0.0.1\n`);
      await chown(pidFile, uid, gid);
      expect(await read(await start(dataDir))).toEqual(['kept']);
      expect(stranger.exitCode).toBeNull();
      expect(stranger.signalCode).toBeNull();
    },
  );

  test('is identified by SHOW data_directory on systems without /proc', async () => {
    const dataDir = await clusterCopy();
    const postgres = await start(dataDir);
    const url = postgres.url('postgres');
    expect(await serves(url, path.join(dataDir, 'data-18'))).toBe(true);
    expect(await serves(url, path.join(await clusterCopy(), 'data-18'))).toBe(false);
    await postgres.stop();
    expect(await serves(url, path.join(dataDir, 'data-18'))).toBeNull();
  });

  test('waits for its port if another program uses it during a restart', async () => {
    let squatter: Server | null = null;
    const postgres = await start(await clusterCopy(), {
      onLog: (line) => {
        if (line.includes('could not bind')) squatter?.close();
      },
    });
    const { port } = postgres;
    process.kill(postgres.pid ?? 0, 'SIGKILL');
    await expect.poll(() => postgres.pid, { interval: 5 }).toBeNull();
    squatter = createServer().listen(port, '127.0.0.1');
    await once(squatter, 'listening');
    await postgres.restart();
    expect(squatter.listening).toBe(false);
    expect(await read(postgres)).toEqual(['kept']);
  });
});

describe('the embedded PostgreSQL rejects a data folder', () => {
  test('of another major version', async () => {
    const dataDir = await clusterCopy();
    await writeFile(path.join(dataDir, 'data-18', 'PG_VERSION'), '15\n');
    const error = await refusal(dataDir);
    expect(error.code).toBe('other-major');
    expect(error.message).toMatch(/PostgreSQL 15, .* PostgreSQL 18/);

    const older = await emptyFolder();
    await mkdir(path.join(older, 'data-17'));
    await writeFile(path.join(older, 'data-17', 'PG_VERSION'), '17\n');
    expect((await refusal(older)).code).toBe('other-major');
    expect(await readdir(older)).toEqual(['data-17']);
  });

  test('with other files, and a path below a file', async () => {
    const dataDir = await emptyFolder();
    await mkdir(path.join(dataDir, 'data-18'));
    await writeFile(path.join(dataDir, 'data-18', 'letter.txt'), 'dear all');
    expect((await refusal(dataDir)).message).toContain('holds no PostgreSQL cluster');
    expect(await readdir(path.join(dataDir, 'data-18'))).toEqual(['letter.txt']);
    const file = path.join(dataDir, 'file');
    await writeFile(file, '');
    expect((await refusal(path.join(file, 'below'))).code).toBe('unreachable');
  });

  test.skipIf(!asRoot)('below a folder that PostgreSQL’s account cannot enter', async () => {
    const closed = path.join(await emptyFolder(), 'closed');
    await mkdir(closed, { mode: 0o700 });
    const error = await refusal(path.join(closed, 'data'));
    expect(error.code).toBe('unreachable');
    expect(error.message).toContain(`cannot enter ${closed} on the way`);
    expect(error.message).toContain('FLAGCAST_DATA_DIR');
  });

  test.skipIf(!asRoot)('whose cluster belongs to another user', async () => {
    const dataDir = await clusterCopy();
    await chown(path.join(dataDir, 'data-18'), 12345, 12345);
    const error = await refusal(dataDir);
    expect(error.code).toBe('unreachable');
    expect(error.message).toContain('belongs to user 12345');
  });

  test.skipIf(!asRoot)('on a full disk, before and after the cluster was created', async (context) => {
    const disk = await emptyFolder();
    const mount = async (options: string): Promise<unknown> =>
      await execute('mount', ['-t', 'tmpfs', '-o', `mode=755,${options}`, 'tmpfs', disk]);
    await mount('size=20m').catch(() => context.skip('this system does not allow mounting a small disk'));
    onTestFinished(async () => {
      await execute('umount', ['--lazy', disk]);
    });
    expect((await refusal(disk)).code).toBe('disk-full');
    expect((await readdir(disk)).filter((name) => name !== 'password')).toEqual([]);

    await mount('remount,size=200m');
    const postgres = await start(disk);
    await write(postgres, 'kept');
    await postgres.stop();
    const { bavail, bsize } = await statfs(disk);
    const filler = path.join(disk, 'filler');
    await writeFile(filler, Buffer.alloc(bavail * bsize));
    const error = await refusal(disk);
    expect(error.code).toBe('disk-full');
    expect(error.message).toContain(`The disk that holds ${disk} is full`);
    await unlink(filler);
    expect(await read(await start(disk))).toEqual(['kept']);
  });
});

describe('the programs of the embedded PostgreSQL', () => {
  async function packageWithoutLinks(): Promise<{ packageDir: string; copyDir: string; parent: string }> {
    const parent = await emptyFolder();
    const packageDir = path.join(parent, 'package');
    await execute('cp', ['-a', `${installedPackageDir()}/.`, packageDir]);
    // The state after `npm ci --ignore-scripts`.
    await execute('find', [path.join(packageDir, 'native'), '-type', 'l', '-delete']);
    return { packageDir, copyDir: path.join(await emptyFolder(), 'copies'), parent };
  }

  test('run in the package, also if no install script has created their links', async () => {
    const source = await packageWithoutLinks();
    const { postgres, major } = await findBinaries(await findAccount(), source);
    expect(postgres).toBe(path.join(source.packageDir, 'native', 'bin', 'postgres'));
    expect(major).toBe(18);
    await expect(stat(source.copyDir)).rejects.toThrow(/ENOENT/);
  });

  test.skipIf(!asRoot)('are copied once if PostgreSQL’s account cannot reach the package', async () => {
    const source = await packageWithoutLinks();
    // The state after an installation with a strict umask.
    await execute('chmod', ['-R', 'go-rwx', source.parent]);
    const dataDir = await clusterCopy();
    expect(await read(await start(dataDir, { binaries: source }))).toEqual(['kept']);
    const [copy = '', ...rest] = await readdir(source.copyDir);
    expect(rest).toEqual([]);
    const made = await stat(path.join(source.copyDir, copy));
    const { postgres } = await findBinaries(await findAccount(), source);
    expect(postgres).toBe(path.join(source.copyDir, copy, 'bin', 'postgres'));
    expect((await stat(path.join(source.copyDir, copy))).ino).toBe(made.ino);

    await chmod(path.dirname(source.copyDir), 0o700);
    await expect(findBinaries(await findAccount(), source)).rejects.toMatchObject({
      code: 'unreachable',
      message: expect.stringContaining(`it cannot enter ${path.dirname(source.copyDir)}`) as string,
    });
  });

  test('that do not run are reported with the reason', async () => {
    const folder = await emptyFolder();
    await mkdir(path.join(folder, 'native', 'bin'), { recursive: true });
    await writeFile(path.join(folder, 'package.json'), '{ "version": "18.4.0" }');
    await writeFile(path.join(folder, 'native', 'bin', 'postgres'), '#!/no/such/loader\n', { mode: 0o755 });
    await expect(
      findBinaries(await findAccount(), { packageDir: folder, copyDir: folder }),
    ).rejects.toMatchObject({
      code: 'unsupported',
      message: expect.stringMatching(
        /does not run on this system \(.*ENOENT.*\); use --database-url/,
      ) as string,
    });
  });

  test('are missing for some platforms, with an error that names the alternative', () => {
    vi.spyOn(process, 'platform', 'get').mockReturnValue('sunos');
    onTestFinished(() => void vi.restoreAllMocks());
    expect(() => installedPackageDir()).toThrow(/no embedded PostgreSQL for sunos-.*--database-url/);
  });
});
