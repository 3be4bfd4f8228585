import { execFile } from 'node:child_process';
import { rm } from 'node:fs/promises';
import path from 'node:path';
import { promisify } from 'node:util';
import { CloseCode } from '@flagcast/protocol';
import { afterEach, describe, expect, inject, it } from 'vitest';
import { startEmbeddedPostgres } from '../../demo/src/embedded/embedded.js';
import { Lifecycle } from '../../server/src/lifecycle.js';
import { connectNats } from '../src/nats-connection.js';
import { chosenBinaries } from '../../server/test/chosen-binaries.js';
import {
  createTestCluster,
  createTestDatabase,
  insertAudit,
  seedProject,
  type TestDatabase,
  withClient,
} from '../../server/test/database.js';
import { hasNatsServer, startNats, type TestNats } from '../../../testing/testkit/nats-server.ts';
import { sees } from '../../server/test/presence-messages.js';
import { PlainClient } from '../../server/test/plain-client.js';
import { FaultyProxy } from '../../../testing/testkit/faulty-proxy.ts';
import { type FleetMember, startMember } from './relay-fleet.js';
import { createUser, nextEvent } from '../../server/test/server.js';
import { type TestChannel, V1Client } from '../../server/test/v1-client.js';

/** Ends all sessions of the database, and runs the statements while no session can be opened. */
async function alone({ name }: TestDatabase, ...statements: string[]): Promise<void> {
  await withClient(inject('clusterUrl'), async (admin) => {
    await admin.query(`ALTER DATABASE ${name} ALLOW_CONNECTIONS false`);
    await admin.query('SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = $1', [
      name,
    ]);
    for (const statement of statements) await admin.query(statement);
    await admin.query(`ALTER DATABASE ${name} ALLOW_CONNECTIONS true`);
  });
}

/** The server's role after its history has ended and another one has started. */
async function sharedAgain(lifecycle: Lifecycle): Promise<'elected' | 'following'> {
  await nextEvent(lifecycle, 'reader:history-lost');
  await nextEvent(lifecycle, 'reader:started');
  return await Promise.race([
    nextEvent(lifecycle, 'relay:elected').then(() => 'elected' as const),
    nextEvent(lifecycle, 'relay:following').then(() => 'following' as const),
  ]);
}

/** The names of the streams. */
async function logsOf(nats: TestNats): Promise<string[]> {
  const { connection, jetstream } = await connectNats(nats.url);
  const names = await jetstream.streams.names().next();
  await connection.close();
  return names;
}

describe.skipIf(!hasNatsServer)('servers that share a reader', () => {
  const cleanUps: (() => Promise<void>)[] = [];
  afterEach(async () => {
    for (const cleanUp of cleanUps.splice(0).reverse()) await cleanUp();
  });

  it('send a resync and no event of the earlier log when the database is restored from a backup', async () => {
    const nats = await startNats();
    cleanUps.push(async () => await nats.remove());
    const database = await createTestDatabase({ schema: 'tables' });
    cleanUps.push(async () => await database.drop());
    const { projectId, environments } = await seedProject(database.pool);
    const channel = { projectId, environmentId: environments.prod };
    const { token } = await createUser(database.pool, 'viewer', { superuser: true });
    const write = async (): Promise<string> => (await insertAudit(database.pool, channel)).entityId;
    await alone(database, `CREATE DATABASE ${database.name}_backup TEMPLATE ${database.name}`);

    const members: FleetMember[] = [];
    const clients: V1Client[] = [];
    const plain: PlainClient[] = [];
    for (let count = 0; count < 2; count += 1) {
      const member = await startMember(database, nats.url);
      cleanUps.push(async () => await member.server.close());
      members.push(member);
      clients.push(await V1Client.connect(member.server.wsUrl, { token }));
      const query = { project_id: projectId, env: 'prod' };
      plain.push(await PlainClient.connect(member.server.wsUrl, query, { token }));
    }
    const cursors = await Promise.all(clients.map(async (client) => await client.caughtUp(channel)));
    const gone = await write();
    for (const client of clients) await client.event(gone);

    const shared = members.map(async ({ lifecycle }) => await sharedAgain(lifecycle));
    await alone(
      database,
      `DROP DATABASE ${database.name}`,
      `ALTER DATABASE ${database.name}_backup RENAME TO ${database.name}`,
    );
    for (const client of clients) {
      expect(await client.control('resync')).toMatchObject({ reason: 'history_changed' });
    }
    for (const { closed } of plain) expect(await closed).toMatchObject({ code: CloseCode.historyLost });
    const roles = await Promise.all(shared);
    expect(roles.toSorted()).toEqual(['elected', 'following']);
    expect(await logsOf(nats)).toHaveLength(2);

    const receivedBefore = clients.map(({ events }) => events.length);
    for (const [index, client] of clients.entries()) {
      expect(await client.subscribe(channel, cursors[index])).toMatchObject({ reason: 'history_changed' });
      await client.caughtUp(channel);
    }
    const written = [await write(), await write(), await write()];
    for (const [index, client] of clients.entries()) {
      await client.event(written.at(-1) ?? '');
      const since = client.events.slice(receivedBefore[index]).map((event) => event.entity_id);
      expect(since).toEqual(written);
    }

    // Presence follows the history, too: also with a server that has not seen the earlier one.
    const late = await startMember(database, nats.url);
    cleanUps.push(async () => await late.server.close());
    const lateClient = await V1Client.connect(late.server.wsUrl, { token });
    await lateClient.caughtUp(channel);
    const view = { type: 'announce', view: 'v', project_id: projectId, env_id: environments.prod } as const;
    for (const client of clients) client.send({ ...view, feature_id: 'f' });
    lateClient.send({ ...view, feature_id: 'f', field: 'name' });
    for (const client of clients) await sees(client, 'viewer:name');
    for (const client of [...clients, lateClient]) await client.close();
  });

  it('send a resync and no event of the earlier log when the database returns to an earlier state', async () => {
    const nats = await startNats();
    cleanUps.push(async () => await nats.remove());
    const cluster = await createTestCluster();
    let { postgres } = cluster;
    cleanUps.push(async () => {
      await postgres.stop('immediate');
      await cluster.remove();
    });
    const database = await cluster.createDatabase({ schema: 'tables' });
    const { projectId, environments } = await seedProject(database.pool);
    const channel = { projectId, environmentId: environments.prod };
    const unwatched = { projectId, environmentId: environments.stage };
    const { token } = await createUser(database.pool, 'viewer', { superuser: true });
    await database.pool.end();
    const { dataDir } = postgres;
    const restart = async (copy: () => Promise<unknown>): Promise<void> => {
      await postgres.stop('immediate');
      await copy();
      postgres = await startEmbeddedPostgres({
        dataDir,
        settings: { fsync: 'off' },
        ...chosenBinaries(path.dirname(dataDir)),
      });
    };
    const execute = promisify(execFile);
    // Copies the data folder like a volume snapshot, and restores it later.
    await restart(async () => await execute('cp', ['-a', dataDir, `${dataDir}-then`]));
    let address = await FaultyProxy.open([Number(new URL(postgres.url()).port)]);
    cleanUps.push(async () => await address.close());
    const { port } = address;
    const through = new URL(postgres.url(database.name));
    through.port = String(port);
    const write = async (where: TestChannel, count: number): Promise<string[]> =>
      await withClient(postgres.url(database.name), async (client) => {
        const entityIds: string[] = [];
        for (let index = 0; index < count; index += 1) {
          entityIds.push((await insertAudit(client, where)).entityId);
        }
        return entityIds;
      });

    const members: FleetMember[] = [];
    const clients: V1Client[] = [];
    for (let count = 0; count < 2; count += 1) {
      const member = await startMember({ url: through.href }, nats.url);
      cleanUps.push(async () => await member.server.close());
      members.push(member);
      const client = await V1Client.connect(member.server.wsUrl, { token });
      await client.caughtUp(channel);
      clients.push(client);
    }
    await write(unwatched, 50);
    const gone = await write(channel, 3);
    for (const client of clients) await client.event(gone.at(-1) ?? '');

    const shared = members.map(async ({ lifecycle }) => await sharedAgain(lifecycle));
    let losses = 0;
    for (const { lifecycle } of members) lifecycle.on('reader:history-lost', () => (losses += 1));
    await address.close();
    await restart(async () => {
      await rm(dataDir, { recursive: true });
      await execute('mv', [`${dataDir}-then`, dataDir]);
    });
    address = await FaultyProxy.open([Number(new URL(postgres.url()).port)], { port });
    for (const client of clients) {
      expect(await client.control('resync')).toMatchObject({ reason: 'history_changed' });
    }
    const roles = await Promise.all(shared);
    for (const client of clients) await client.caughtUp(channel);
    // The cursor has to be later than the start of the log.
    const passing = await write(channel, 1);
    const cursor = (await clients[0]?.event(passing[0] ?? ''))?.cursor ?? '';
    const written = await write(channel, 3);
    const missed = await write(unwatched, 3);
    // When this has arrived, the follower has skipped the missed ones: it can only find them in the log.
    written.push(...(await write(channel, 1)));
    for (const client of clients) await client.event(written.at(-1) ?? '');
    const follower = members[roles.indexOf('following')];
    const cold = await V1Client.connect(follower?.server.wsUrl ?? '', { token });
    const resumed = nextEvent(follower?.lifecycle ?? new Lifecycle(), 'channel:resumed');
    await cold.caughtUp(unwatched, cursor);
    await cold.event(missed.at(-1) ?? '');
    expect(cold.events.map((event) => event.entity_id)).toEqual(missed);
    expect((await resumed).source).toBe('log');
    await cold.close();
    for (const client of clients) {
      expect(client.events.slice(gone.length).map((event) => event.entity_id)).toEqual([
        ...passing,
        ...written,
      ]);
      await client.close();
    }
    expect(losses).toBe(2);
    expect(roles.toSorted()).toEqual(['elected', 'following']);
  });
});
