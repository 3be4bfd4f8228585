import { spawnSync } from 'node:child_process';
import { createRequire } from 'node:module';
import path from 'node:path';
import { afterEach, beforeAll, describe, expect, it } from 'vitest';
import { install, uninstall } from '../src/install/install.js';
import { examine } from '../src/install/doctor/examine.js';
import { dumpCatalogue } from './catalogue.js';
import {
  createTestCluster,
  insertAudit,
  withClient,
  type TestCluster,
  type TestDatabase,
} from './database.js';
import { makeChannel, makeHostTables, readLog } from './host-tables.js';
import { expectPartitionsLogged } from './partitions.js';
import { createUser, startTestServer } from './server.js';
import { createTogglrHost, dumpHost } from './togglr-host.js';
import { V1Client } from './v1-client.js';
import { compare, watch } from './watched.js';
import { runWriters } from './writers.js';

/** The folder of the programs of that major; null if they are not installed. */
function packageDirOf(major: number): string | null {
  try {
    const { resolve } = createRequire(import.meta.url);
    return path.dirname(path.dirname(resolve(`postgresql-${major}-${process.platform}-${process.arch}`)));
  } catch {
    return null;
  }
}

const programs = { dump: 'pg_dump', shell: 'psql' };

/** Whether pg_dump and psql are installed, and new enough for a server of that major. */
function canDump(major: number): boolean {
  const version = /\(PostgreSQL\) (\d+)/.exec(String(spawnSync(programs.dump, ['--version']).stdout))?.[1];
  return Number(version ?? 0) >= major && spawnSync(programs.shell, ['--version']).status === 0;
}

const cleanUps: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const cleanUp of cleanUps.splice(0).reverse()) await cleanUp();
});

/** The newest one that can be dumped here. */
const dumpedMajor = [16, 14].find((major) => packageDirOf(major) !== null && canDump(major));

// All other tests run on PostgreSQL 18.
describe.each([14, 16])('on PostgreSQL %i (skipped if its programs are not installed)', (major) => {
  const packageDir = packageDirOf(major);
  let cluster: TestCluster;
  beforeAll(async () => {
    if (packageDir === null) return undefined;
    cluster = await createTestCluster({ max_prepared_transactions: '50' }, packageDir);
    return async () => await cluster.remove();
  });

  it.skipIf(packageDir === null)(
    'a server with its own role loses no event, clients resume, doctor finds no problem, and uninstall removes everything',
    async () => {
      const host = await createTogglrHost(cluster);
      cleanUps.push(async () => await host.drop());
      const { database } = host;
      await database.pool.query(`ALTER DATABASE ${database.name} SET flagcast.notify = 'on'`);
      const version = await database.pool.query<{ major: number }>(
        "SELECT current_setting('server_version_num')::int / 10000 AS major",
      );
      expect(version.rows).toEqual([{ major }]);
      const before = await dumpHost(host, 'meant');

      const role = `reader_of_${major}`;
      await withClient(database.url, async (client) => {
        await install(client, { role });
        await client.query(`ALTER ROLE ${role} PASSWORD 'secret'`);
      });
      const url = host.urlOf(role);
      const { findings } = await examine(url);
      expect(findings.filter(({ severity }) => severity === 'warning' || severity === 'error')).toEqual([]);

      const server = await startTestServer(url, { database: { pollIntervalMs: 100 } });
      cleanUps.push(async () => await server.close());
      const clients = await watch(database, server);
      const [channel] = clients.keys();
      if (channel === undefined) throw new Error('no channels');
      const { token } = await createUser(database.pool, 'later', { superuser: true });
      const connect = async (): Promise<V1Client> => await V1Client.connect(server.wsUrl, { token });
      const leaving = await connect();
      const cursor = await leaving.caughtUp(channel);
      await leaving.close();

      const writing = { databaseUrl: host.urlOf(host.backend), channels: [...clients.keys()] };
      await runWriters({ ...writing, writers: 8, minEvents: 300 });
      expect(await compare(database, clients)).toMatchObject({ lost: 0, repeated: 0, foreign: 0 });

      const { rows } = await database.pool.query<{ id: string }>(
        'SELECT entity_id AS id FROM audit_log WHERE environment_id = $1',
        [channel.environmentId],
      );
      const back = await connect();
      await back.caughtUp(channel, cursor);
      expect(back.events.map((event) => event.entity_id).toSorted()).toEqual(
        rows.map(({ id }) => id).toSorted(),
      );
      const answer = await fetch(
        `${server.httpUrl}/api/snapshot?project_id=${channel.projectId}&env_id=${channel.environmentId}`,
        { headers: { authorization: `Bearer ${token}` } },
      );
      const snapshot = (await answer.json()) as { cursor: string };
      const fresh = await connect();
      await fresh.caughtUp(channel, snapshot.cursor);
      const { entityId } = await insertAudit(database.pool, channel);
      await fresh.event(entityId);
      expect(fresh.events.map((event) => event.entity_id)).toEqual([entityId]);

      await server.close();
      await withClient(database.url, async (client) => await uninstall(client));
      expect(await dumpHost(host, 'meant')).toEqual(before);
    },
  );

  it.skipIf(packageDir === null)(
    'rows of partitions are logged, however a partition is created',
    async () => {
      const database = await cluster.createDatabase({ schema: 'none' });
      cleanUps.push(async () => await database.drop());
      await makeHostTables(database.pool);
      await expectPartitionsLogged(database);
    },
  );
});

it.skipIf(dumpedMajor === undefined)(
  'a dump that is restored into another cluster has its triggers and starts a new log (skipped without pg_dump)',
  async () => {
    const packageDir = packageDirOf(dumpedMajor ?? 0) ?? undefined;
    const [source, target] = [
      await createTestCluster({}, packageDir),
      await createTestCluster({}, packageDir),
    ];
    cleanUps.push(async () => await source.remove());
    cleanUps.push(async () => await target.remove());
    const original = await source.createDatabase({ schema: 'none' });
    cleanUps.push(async () => await original.drop());
    const copy = await target.createDatabase({ schema: 'none' });
    cleanUps.push(async () => await copy.drop());
    await makeHostTables(original.pool);
    await withClient(original.url, async (client) => await install(client));
    const channel = await makeChannel(original.pool);
    await insertAudit(original.pool, channel);
    const dump = spawnSync(programs.dump, ['--dbname', original.url], { maxBuffer: 1 << 26 });
    expect({ status: dump.status, stderr: String(dump.stderr) }).toEqual({ status: 0, stderr: '' });
    const restore = spawnSync(programs.shell, ['--quiet', '--set', 'ON_ERROR_STOP=1', copy.url], {
      input: dump.stdout,
    });
    expect({ status: restore.status, stderr: String(restore.stderr) }).toEqual({ status: 0, stderr: '' });

    // pg_dump does not write default privileges, here of PUBLIC on a function.
    const ownObjects = async ({ pool }: TestDatabase): Promise<string[]> =>
      (await dumpCatalogue(pool))
        .filter((line) => line.includes('flagcast'))
        .map((line) => line.replace('grants {=X/postgres,postgres=X/postgres}', 'grants '))
        .toSorted();
    expect(await ownObjects(copy)).toEqual(await ownObjects(original));
    await withClient(copy.url, async (client) => {
      expect(await install(client)).toMatchObject({ changed: false });
    });
    expect(await readLog(copy.pool)).toHaveLength(1);
    const { findings } = await examine(copy.url, { listen: false });
    expect(findings.find(({ id }) => id === 'log')).toMatchObject({ severity: 'warning' });

    const server = await startTestServer(copy.url, { database: { pollIntervalMs: 100 } });
    cleanUps.push(async () => await server.close());
    const { token } = await createUser(copy.pool, 'ada', { superuser: true });
    const client = await V1Client.connect(server.wsUrl, { token });
    await client.caughtUp(channel);
    const { entityId } = await insertAudit(copy.pool, channel);
    await client.event(entityId);
    expect(client.events.map((event) => event.entity_id)).toEqual([entityId]);
    expect(await readLog(copy.pool)).toMatchObject([{ source: 'audit', entity_id: entityId }]);
    await client.close();
  },
);
