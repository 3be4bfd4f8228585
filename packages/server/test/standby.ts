import { execFile } from 'node:child_process';
import { readdir, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { promisify } from 'node:util';
import { startEmbeddedPostgres, type EmbeddedPostgres } from '../../demo/src/embedded/embedded.js';
import { findAccount } from '../../demo/src/embedded/embedded-account.js';
import { chosenBinaries } from './chosen-binaries.js';
import { createTestFolder, withClient, type TestDatabase } from './database.js';

const execute = promisify(execFile);

/** A streaming replica of a cluster, on a separate port. */
export class Standby {
  readonly postgres: EmbeddedPostgres;
  readonly #folder: string;

  private constructor(postgres: EmbeddedPostgres, folder: string) {
    this.postgres = postgres;
    this.#folder = folder;
  }

  /** Copies the running cluster (the package has no pg_basebackup) and follows it. */
  static async start(
    primary: EmbeddedPostgres,
    settings: Readonly<Record<string, string>> = {},
  ): Promise<Standby> {
    const folder = await createTestFolder();
    const name = (await readdir(primary.dataDir)).find((entry) => /^data-\d+$/.test(entry)) ?? '';
    const cluster = path.join(folder, name);
    const label = path.join(cluster, 'backup_label');
    // PostgreSQL 14 has other names for these functions.
    const [start, stop] =
      name === 'data-14'
        ? ["pg_start_backup('standby', true, false)", 'pg_stop_backup(false)']
        : ["pg_backup_start('standby', true)", 'pg_backup_stop(false)'];
    await withClient(primary.url(), async (client) => {
      await client.query(`SELECT ${start}`);
      const source = path.join(primary.dataDir, name);
      await execute('cp', ['-a', source, path.join(primary.dataDir, 'password'), folder]);
      const { rows } = await client.query<{ labelfile: string }>(`SELECT labelfile FROM ${stop}`);
      await writeFile(label, rows[0]?.labelfile ?? '');
    });
    await rm(path.join(cluster, 'postmaster.pid'));
    await writeFile(path.join(cluster, 'standby.signal'), '');
    const account = await findAccount();
    if (account !== null) await execute('chown', [`${account.uid}:${account.gid}`, label]);
    const { hostname, port, username, password } = new URL(primary.url());
    const postgres = await startEmbeddedPostgres({
      dataDir: folder,
      settings: {
        fsync: 'off',
        primary_conninfo: `host=${hostname} port=${port} user=${username} password=${password}`,
        ...settings,
      },
      ...chosenBinaries(folder),
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
