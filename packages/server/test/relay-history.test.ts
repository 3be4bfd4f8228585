import { CloseCode } from '@flagcast/protocol';
import { afterEach, describe, expect, inject, it } from 'vitest';
import type { Lifecycle } from '../src/lifecycle.js';
import { createTestDatabase, insertAudit, seedProject, type TestDatabase, withClient } from './database.js';
import { hasNatsServer, startNats } from './nats-server.js';
import { PlainClient } from './plain-client.js';
import { type FleetMember, startMember } from './relay-fleet.js';
import { createUser, nextEvent } from './server.js';
import { V1Client } from './v1-client.js';

/** Ends all sessions of the database, and lets nobody in; then does what needs that. */
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

/** What the server becomes when its history has ended and it has begun with another one. */
async function sharedAgain(lifecycle: Lifecycle): Promise<'elected' | 'following'> {
  await nextEvent(lifecycle, 'reader:history-lost');
  await nextEvent(lifecycle, 'reader:started');
  return await Promise.race([
    nextEvent(lifecycle, 'relay:elected').then(() => 'elected' as const),
    nextEvent(lifecycle, 'relay:following').then(() => 'following' as const),
  ]);
}

describe.skipIf(!hasNatsServer)('servers that share a reader', () => {
  const cleanUps: (() => Promise<void>)[] = [];
  afterEach(async () => {
    for (const cleanUp of cleanUps.splice(0).reverse()) await cleanUp();
  });

  it('tell everybody when the database was restored from a backup, and bring nothing of the log before', async () => {
    const nats = await startNats();
    cleanUps.push(async () => await nats.remove());
    const database = await createTestDatabase({ schema: 'tables' });
    cleanUps.push(async () => await database.drop());
    const { projectId, environments } = await seedProject(database.pool);
    const channel = { projectId, environmentId: environments.prod };
    const { token } = await createUser(database.pool, 'somebody', { superuser: true });
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

    const told = clients.map(({ events }) => events.length);
    for (const [index, client] of clients.entries()) {
      expect(await client.subscribe(channel, cursors[index])).toMatchObject({ reason: 'history_changed' });
      await client.caughtUp(channel);
    }
    const written = [await write(), await write(), await write()];
    for (const [index, client] of clients.entries()) {
      await client.event(written.at(-1) ?? '');
      const since = client.events.slice(told[index]).map((event) => event.entity_id);
      expect(since).toEqual(written);
      await client.close();
    }
  });
});
