import { execFile } from 'node:child_process';
import { rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { promisify } from 'node:util';
import { startEmbeddedPostgres, type EmbeddedPostgres } from '../src/database/embedded.js';
import { findAccount } from '../src/database/embedded-account.js';
import { createTestFolder, withClient, type TestDatabase } from './database.js';

const execute = promisify(execFile);

/** A streaming replica of a cluster, on a port of its own. */
export class Standby {
  readonly postgres: EmbeddedPostgres;
  readonly #folder: string;

  private constructor(postgres: EmbeddedPostgres, folder: string) {
    this.postgres = postgres;
    this.#folder = folder;
  }

  /** Copies the cluster as it runs (the programs at hand have no pg_basebackup) and follows it. */
  static async start(
    primary: EmbeddedPostgres,
    settings: Readonly<Record<string, string>> = {},
  ): Promise<Standby> {
    const folder = await createTestFolder();
    const cluster = (dataDir: string): string => path.join(dataDir, 'data-18');
    await withClient(primary.url(), async (client) => {
      await client.query("SELECT pg_backup_start('standby', true)");
      await execute('cp', ['-a', cluster(primary.dataDir), path.join(primary.dataDir, 'password'), folder]);
      const { rows } = await client.query<{ labelfile: string }>(
        'SELECT labelfile FROM pg_backup_stop(false)',
      );
      await writeFile(path.join(cluster(folder), 'backup_label'), rows[0]?.labelfile ?? '');
    });
    await rm(path.join(cluster(folder), 'postmaster.pid'));
    await writeFile(path.join(cluster(folder), 'standby.signal'), '');
    const account = await findAccount();
    if (account !== null) {
      await execute('chown', [`${account.uid}:${account.gid}`, path.join(cluster(folder), 'backup_label')]);
    }
    const { hostname, port, username, password } = new URL(primary.url());
    const postgres = await startEmbeddedPostgres({
      dataDir: folder,
      settings: {
        fsync: 'off',
        primary_conninfo: `host=${hostname} port=${port} user=${username} password=${password}`,
        ...settings,
      },
    });
    return new Standby(postgres, folder);
  }

  /** The primary's database, here. */
  urlOf(database: TestDatabase): string {
    return this.postgres.url(database.name);
  }

  async query(text: string): Promise<void> {
    await withClient(this.postgres.url(), async (client) => await client.query(text));
  }

  async remove(): Promise<void> {
    await this.postgres.stop('immediate');
    await rm(this.#folder, { recursive: true, force: true });
  }
}
