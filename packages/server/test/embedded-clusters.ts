import { execFile, spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { promisify } from 'node:util';
import { afterEach, beforeAll, expect, inject, onTestFinished } from 'vitest';
import {
  EmbeddedPostgresError,
  startEmbeddedPostgres,
  type EmbeddedPostgres,
  type EmbeddedPostgresOptions,
} from '../../demo/src/embedded/embedded.js';
import { removeCluster } from './cluster-template.js';
import { createTestFolder, withClient } from './database.js';

const execute = promisify(execFile);

/** Another process that owns a cluster. On SIGINT it sends the notes and stops PostgreSQL; on any message it exits. */
interface OtherOwner {
  readonly process: ChildProcess;
  readonly pid: number;
  readonly postgresPid: number;
  readonly url: string;
}

/** Starts the embedded PostgreSQL in a test file; each test stops and removes its processes and folders. */
export interface Clusters {
  readonly start: (dataDir: string, options?: Partial<EmbeddedPostgresOptions>) => Promise<EmbeddedPostgres>;
  /** Returns the error of a start that must fail. */
  readonly refusal: (
    dataDir: string,
    options?: Partial<EmbeddedPostgresOptions>,
  ) => Promise<EmbeddedPostgresError>;
  /** Runs the build in dist in a separate process group. */
  readonly startOwner: (dataDir: string) => Promise<OtherOwner>;
  readonly emptyFolder: () => Promise<string>;
  /** A data folder with a stopped cluster that holds the note `kept`. */
  readonly clusterCopy: () => Promise<string>;
  readonly write: (postgres: EmbeddedPostgres, note: string) => Promise<void>;
  readonly read: (postgres: EmbeddedPostgres) => Promise<string[]>;
  readonly isServing: (url: string) => Promise<boolean>;
  /** The next message that the process sends. */
  readonly message: (from: ChildProcess) => Promise<unknown>;
}

export function useClusters(): Clusters {
  const settings = { fsync: 'off' };
  const started = new Set<EmbeddedPostgres>();
  let original = '';

  beforeAll(async () => {
    original = await createTestFolder();
    // A copy takes less than half of the processor time of a new cluster.
    await execute('cp', ['-a', `${inject('clusterTemplate')}/.`, original]);
    const postgres = await startEmbeddedPostgres({ dataDir: original, settings });
    await clusters.write(postgres, 'kept');
    await postgres.stop();
    return async () => {
      await removeCluster(original);
    };
  });
  afterEach(async () => {
    for (const postgres of started) await postgres.stop('immediate');
    started.clear();
  });

  const clusters: Clusters = {
    async start(dataDir, options = {}) {
      const postgres = await startEmbeddedPostgres({ dataDir, settings, ...options });
      started.add(postgres);
      return postgres;
    },
    async refusal(dataDir, options) {
      try {
        await clusters.start(dataDir, options);
      } catch (error) {
        if (!(error instanceof EmbeddedPostgresError)) throw error;
        expect(error.message).not.toContain('\n');
        return error;
      }
      throw new Error('PostgreSQL started, but the start had to fail');
    },
    async startOwner(dataDir) {
      const owner = spawn(process.execPath, ['--input-type=module', '-e', ownerScript, dataDir], {
        cwd: import.meta.dirname,
        stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
        detached: true,
      });
      onTestFinished(() => {
        owner.kill('SIGKILL');
      });
      const { postgresPid, url } = (await clusters.message(owner)) as { postgresPid: number; url: string };
      return { process: owner, pid: owner.pid ?? 0, postgresPid, url };
    },
    async emptyFolder() {
      const folder = await createTestFolder();
      onTestFinished(async () => {
        await removeCluster(folder);
      });
      return folder;
    },
    async clusterCopy() {
      const folder = await clusters.emptyFolder();
      await execute('cp', ['-a', `${original}/.`, folder]);
      return folder;
    },
    async write(postgres, note) {
      await withClient(postgres.url(), async (client) => {
        await client.query('CREATE TABLE IF NOT EXISTS notes (note text)');
        await client.query('INSERT INTO notes VALUES ($1)', [note]);
      });
    },
    async read(postgres) {
      return await withClient(postgres.url(), async (client) => {
        const { rows } = await client.query<{ note: string }>('SELECT note FROM notes ORDER BY note');
        return rows.map((row) => row.note);
      });
    },
    async isServing(url) {
      try {
        await withClient(url, async (client) => await client.query('SELECT'));
        return true;
      } catch {
        return false;
      }
    },
    async message(from) {
      const ended = once(from, 'exit').then(() => {
        throw new Error('The other process ended without a message');
      });
      const [answer] = (await Promise.race([once(from, 'message'), ended])) as [unknown];
      return answer;
    },
  };
  return clusters;
}

const ownerScript = `
  import pg from 'pg';
  import { startEmbeddedPostgres } from ${JSON.stringify(new URL('../../demo/dist/embedded/embedded.js', import.meta.url).href)};
  const postgres = await startEmbeddedPostgres({ dataDir: process.argv[1], settings: { fsync: 'off' } });
  process.on('SIGINT', async () => {
    const client = new pg.Client({ connectionString: postgres.url() });
    await client.connect();
    const { rows } = await client.query('SELECT note FROM notes');
    await client.end();
    process.send({ notes: rows.map((row) => row.note) });
    await postgres.stop();
    process.disconnect();
  });
  process.on('message', () => process.exit(0));
  process.send({ postgresPid: postgres.pid, url: postgres.url() });
`;
