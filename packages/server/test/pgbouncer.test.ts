import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { install, uninstall } from '../src/install/install.js';
import { Session } from '../src/postgres/session.js';
import { examine } from '../src/install/doctor/examine.js';
import { createTestDatabase, insertAudit, seedProject, type TestDatabase, withClient } from './database.js';
import { PlainClient } from './plain-client.js';
import { hasPgBouncer, PgBouncer, type PgBouncerOptions } from './pooler.js';
import { createUser, startTestServer, type TestServer } from './server.js';
import { V1Client } from './v1-client.js';
import { compare, watch } from './watched.js';
import { runWriters } from './writers.js';

describe.skipIf(!hasPgBouncer)(
  'behind PgBouncer with transaction pooling (skipped if pgbouncer is not on the PATH)',
  () => {
    const cleanUps: (() => Promise<void> | void)[] = [];
    let database: TestDatabase;

    beforeEach(async () => {
      database = await createTestDatabase({ schema: 'tables' });
      await database.pool.query(`ALTER DATABASE ${database.name} SET flagcast.notify = 'on'`);
      cleanUps.push(async () => await database.drop());
    });

    afterEach(async () => {
      for (const cleanUp of cleanUps.splice(0).reverse()) await cleanUp();
    });

    async function startPooler(options: Partial<PgBouncerOptions> = {}): Promise<PgBouncer> {
      const pooler = await PgBouncer.start(database.url, { poolMode: 'transaction', ...options });
      cleanUps.push(async () => await pooler.stop());
      return pooler;
    }

    async function serve(...args: Parameters<typeof startTestServer>): Promise<TestServer> {
      const server = await startTestServer(...args);
      cleanUps.push(async () => await server.close());
      return server;
    }

    const anHour = 3_600_000;

    it('every event is delivered once, with few sessions that are shared with the host', async () => {
      const pooler = await startPooler({ poolSize: 8 });
      const server = await serve(pooler.url, { database: { pollIntervalMs: 50 } });
      const clients = await watch(database, server);
      const channels = [...clients.keys()];
      await runWriters({ databaseUrl: pooler.url, channels, writers: 8, minEvents: 300 });
      expect(await compare(database, clients)).toMatchObject({ lost: 0, repeated: 0, foreign: 0 });
    });

    it("the host's sessions keep their settings, and no LISTEN remains in them", async () => {
      // There is one session, so that the host gets everything that Flagcast leaves in it.
      const pooler = await startPooler({ poolSize: 1 });
      const settings = async (): Promise<unknown> =>
        await withClient(pooler.url, async (client) => {
          const { rows } = await client.query<{ changed: unknown }>(
            `SELECT json_build_object(
              'settings', (SELECT json_agg(name || '=' || setting ORDER BY name) FROM pg_settings
                WHERE source = 'session' AND name NOT IN ('application_name', 'client_encoding')),
              'listening', (SELECT json_agg(channel) FROM pg_listening_channels() channel),
              'prepared', (SELECT json_agg(name) FROM pg_prepared_statements),
              'locks', (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()),
              'temporary', (SELECT count(*) FROM pg_class WHERE relpersistence = 't')
            ) AS changed`,
          );
          return rows[0]?.changed;
        });
      const before = await settings();
      const server = await serve(pooler.url);
      const { projectId, environments } = await seedProject(database.pool);
      const channel = { projectId, environmentId: environments.prod };
      const { token } = await createUser(database.pool, 'root', { superuser: true });
      const client = await V1Client.connect(server.wsUrl, { token });
      await client.caughtUp(channel);
      const { entityId } = await insertAudit(database.pool, channel);
      await client.event(entityId);
      const query = `project_id=${projectId}&env=prod`;
      const headers = { authorization: `Bearer ${token}` };
      expect((await fetch(`${server.httpUrl}/api/snapshot?${query}`, { headers })).status).toBe(200);
      await examine(pooler.url);
      await withClient(pooler.url, async (session) => {
        await uninstall(session);
        await install(session, { tables: true });
      });
      expect(await settings()).toEqual(before);
      expect(before).toEqual({ settings: null, listening: null, prepared: null, locks: 0, temporary: 0 });
      await client.close();
    });

    it('PostgreSQL ends a statement before the time-out of the client, and the settings end with the transaction', async () => {
      const pooler = await startPooler({ poolSize: 1 });
      const session = await Session.open({
        database: { url: pooler.url },
        applicationName: 'flagcast test',
        // PostgreSQL must answer in the last tenth of it, also on a busy machine.
        queryTimeoutMs: 5_000,
      });
      cleanUps.push(() => session.discard());
      await expect(session.query('SELECT pg_sleep(60)')).rejects.toMatchObject({ code: '57014' });
      await session.query('BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY');
      await expect(session.query('SELECT pg_sleep(60)')).rejects.toMatchObject({ code: '57014' });
      await session.query('ROLLBACK');
      const holder = await database.pool.connect();
      await holder.query('BEGIN; LOCK TABLE audit_log');
      await expect(session.query('SELECT FROM audit_log')).rejects.toMatchObject({ code: '55P03' });
      await holder.query('ROLLBACK');
      holder.release();
      const { rows } = await session.query('SHOW statement_timeout');
      expect(rows).toEqual([{ statement_timeout: '4500ms' }]);
      await withClient(pooler.url, async (host) => {
        expect((await host.query('SHOW statement_timeout')).rows).toEqual([{ statement_timeout: '0' }]);
      });
    });

    it('missing notifications are logged once with the fix, and FLAGCAST_LISTEN_URL fixes them', async () => {
      const pooler = await startPooler();
      const deaf = await serve(pooler.url);
      expect(deaf.listening).toMatchObject({
        reason: 'pooler',
        fix: expect.stringContaining('FLAGCAST_LISTEN_URL') as string,
      });
      const server = await serve(pooler.url, {
        database: { listenUrl: database.url, pollIntervalMs: anHour },
      });
      expect(server.listening).toEqual({ channel: 'flagcast' });
      const { projectId, environments } = await seedProject(database.pool);
      const { token } = await createUser(database.pool, 'root', { superuser: true });
      const query = { project_id: projectId, env: 'prod' };
      const client = await PlainClient.connect(server.wsUrl, query, { token });
      // The pool opened its sessions before the host asked for LISTEN.
      const { entityId } = await withClient(
        database.url,
        async (writer) => await insertAudit(writer, { projectId, environmentId: environments.prod }),
      );
      await client.received((message) => message.entity_id === entityId);
      await client.close();
    });

    it('session pooling passes notifications on', async () => {
      const pooler = await startPooler({ poolMode: 'session' });
      const server = await serve(pooler.url);
      expect(server.listening).toEqual({ channel: 'flagcast' });
    });

    it('a pooler that silently connects to another database is noticed, and clients get a resync', async () => {
      const pooler = await startPooler();
      const server = await serve(pooler.url, { database: { listenUrl: database.url, pollIntervalMs: 50 } });
      const { projectId, environments } = await seedProject(database.pool);
      const { token } = await createUser(database.pool, 'root', { superuser: true });
      const client = await V1Client.connect(server.wsUrl, { token });
      await client.caughtUp({ projectId, environmentId: environments.prod });
      const other = await createTestDatabase({ schema: 'tables' });
      cleanUps.unshift(async () => await other.drop());
      await pooler.redirect(other.url);
      expect(await client.control('resync')).toMatchObject({ reason: 'history_changed' });
      await client.close();
    });

    it('live clients, resuming clients and snapshots work after a restart of the pooler', async () => {
      const pooler = await startPooler();
      const server = await serve(pooler.url, { database: { listenUrl: database.url } });
      const { projectId, environments } = await seedProject(database.pool);
      const channel = { projectId, environmentId: environments.prod };
      const { token } = await createUser(database.pool, 'root', { superuser: true });
      const staying = await V1Client.connect(server.wsUrl, { token });
      const cursor = await staying.caughtUp(channel);

      await pooler.restart();
      const { entityId } = await insertAudit(database.pool, channel);
      await staying.event(entityId);

      const coming = await V1Client.connect(server.wsUrl, { token });
      await coming.caughtUp(channel, cursor);
      expect(coming.events.map((event) => event.entity_id)).toEqual([entityId]);
      const headers = { authorization: `Bearer ${token}` };
      const answer = await fetch(`${server.httpUrl}/api/snapshot?project_id=${projectId}&env=prod`, {
        headers,
      });
      expect(answer.status).toBe(200);
      const later = await V1Client.connect(server.wsUrl, { token });
      await later.caughtUp(channel, ((await answer.json()) as { cursor: string }).cursor);
      expect(later.events).toEqual([]);
      for (const client of [staying, coming, later]) await client.close();
    });
  },
);
