import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { install } from '../src/install/install.js';
import { examine } from '../src/install/doctor/examine.js';
import {
  createTestDatabase,
  createTestPool,
  insertAudit,
  seedProject,
  type TestDatabase,
  withClient,
} from './database.js';
import { readLog, value } from './host-tables.js';
import { hasPgBouncer, PgBouncer } from './pooler.js';
import { createUser, startTestServer } from './server.js';
import { V1Client } from './v1-client.js';

/** Functions, operators and tables with the names of those in pg_catalog, and with wrong results. */
const foreignNames = `
  CREATE SCHEMA host;
  CREATE FUNCTION host.now() RETURNS timestamptz LANGUAGE sql IMMUTABLE AS $$ SELECT timestamptz '1999-01-01' $$;
  CREATE FUNCTION host.pg_backend_pid() RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT 0';
  CREATE FUNCTION host.current_database() RETURNS name LANGUAGE sql IMMUTABLE AS $$ SELECT name 'other' $$;
  CREATE FUNCTION host.pg_is_in_recovery() RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT true';
  CREATE FUNCTION host.lower(text) RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT 'lower' $$;
  CREATE FUNCTION host.octet_length(text) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT 99999999';
  CREATE FUNCTION host."left"(text, int) RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT 'left' $$;
  CREATE FUNCTION host.current_setting(text) RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT 'off' $$;
  CREATE FUNCTION host.current_setting(text, boolean) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT NULL::text';
  CREATE FUNCTION host.set_config(text, text, boolean) RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT '' $$;
  CREATE FUNCTION host.never(text, text) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT false';
  CREATE FUNCTION host.never(bigint, bigint) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT false';
  CREATE FUNCTION host.never(uuid, uuid) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT false';
  CREATE OPERATOR host.= (LEFTARG = text, RIGHTARG = text, FUNCTION = host.never);
  CREATE OPERATOR host.= (LEFTARG = bigint, RIGHTARG = bigint, FUNCTION = host.never);
  CREATE OPERATOR host.= (LEFTARG = uuid, RIGHTARG = uuid, FUNCTION = host.never);
  CREATE TABLE host.pg_class (LIKE pg_catalog.pg_class);
  CREATE TABLE host.pg_namespace (LIKE pg_catalog.pg_namespace);
  CREATE TABLE host.pg_database (LIKE pg_catalog.pg_database)`;

const cleanUps: (() => unknown)[] = [];
let database: TestDatabase;

beforeEach(async () => {
  database = await createTestDatabase({ schema: 'tables' });
  cleanUps.push(async () => await database.drop());
});

afterEach(async () => {
  for (const cleanUp of cleanUps.splice(0).reverse()) await cleanUp();
});

/** The path of an application that does not see the host's names. */
function usualPath(): ReturnType<typeof createTestPool> {
  const pool = createTestPool(database.url, { options: '-c search_path=public' });
  cleanUps.push(async () => await pool.end());
  return pool;
}

describe('a search_path with names of the host before pg_catalog', () => {
  beforeEach(async () => {
    await database.pool.query(foreignNames);
    await database.pool.query(`ALTER DATABASE ${database.name} SET search_path = host, pg_catalog, public`);
    await database.pool.query(`ALTER DATABASE ${database.name} SET flagcast.notify = 'on'`);
  });

  const connections = {
    'of sessions of its own': (): Promise<string> => Promise.resolve(database.url),
    'of a pool of the host': async () => {
      const pool = createTestPool(database.url);
      cleanUps.push(async () => await pool.end());
      return await Promise.resolve({ pool });
    },
    'behind a pooler': async () => {
      const pooler = await PgBouncer.start(database.url, { poolMode: 'transaction' });
      cleanUps.push(async () => await pooler.stop());
      return pooler.url;
    },
  };

  it.each(Object.entries(connections).filter(([name]) => hasPgBouncer || name !== 'behind a pooler'))(
    'does not change what a server %s reads and delivers',
    async (_name, connect) => {
      const writer = usualPath();
      const { projectId, environments } = await seedProject(writer);
      const channel = { projectId, environmentId: environments.prod };
      const { token } = await createUser(writer, 'root', { superuser: true });
      const server = await startTestServer(await connect());
      cleanUps.push(async () => await server.close());
      const client = await V1Client.connect(server.wsUrl, { token });
      cleanUps.push(async () => await client.close());
      await client.caughtUp(channel);
      const { rows } = await writer.query<{ id: string }>(
        `INSERT INTO features (id, project_id, key, name, kind)
         VALUES (gen_random_uuid(), $1, 'flag', 'Flag', 'simple') RETURNING id`,
        [projectId],
      );
      const featureId = rows[0]?.id ?? '';
      await insertAudit(writer, { ...channel, featureId });
      expect(await client.event(featureId)).toMatchObject({ environment: 'prod', feature: { key: 'flag' } });
      const headers = { authorization: `Bearer ${token}` };
      const snapshot = await fetch(`${server.httpUrl}/api/snapshot?project_id=${projectId}&env=prod`, {
        headers,
      });
      expect(await snapshot.json()).toMatchObject({ features: [{ id: featureId, key: 'flag' }] });
    },
  );

  it('does not change what install makes and doctor finds', async () => {
    await withClient(database.url, async (client) => {
      await client.query('DROP SCHEMA flagcast CASCADE');
      await install(client);
    });
    const { findings } = await examine(database.url);
    expect(findings.filter(({ severity }) => severity === 'error')).toEqual([]);
    expect(findings.find(({ id }) => id === 'guarantee')?.message).toContain('exact');
  });
});

describe('session_replication_role = replica', () => {
  it('does not keep the event log from being written, deleted and started anew', async () => {
    const countLog = async (): Promise<number> => (await readLog(database.pool)).length;
    const { projectId, environments } = await seedProject(database.pool);
    const channel = { projectId, environmentId: environments.prod };
    await insertAudit(database.pool, channel);
    const deletedXid = 'SELECT deleted_xid > 0 FROM flagcast.log_state';
    await withClient(database.url, async (client) => {
      await client.query('SET session_replication_role = replica');
      await client.query(
        `SELECT flagcast.record_event('audit', '1', 'p', '1', 'prod', 'feature', 'f', 'updated')`,
      );
      expect(await countLog()).toBe(2);
      expect(await value(client, "SELECT flagcast.prune_event_log('0')::int")).toBe(2);
      expect(await value(client, deletedXid)).toBe(true);
      await client.query('INSERT INTO flagcast.event_log (xid) VALUES (5)');
      expect(await countLog()).toBe(0);
    });
    await insertAudit(database.pool, channel);
    await database.pool.query("UPDATE flagcast.log_state SET system_identifier = '1'");
    await withClient(database.url, async (client) => {
      await client.query('SET session_replication_role = replica');
      expect(await value(client, 'SELECT flagcast.adopt_event_log()')).toBe(true);
      expect(await value(client, 'SELECT flagcast.adopt_event_log()')).toBe(false);
      expect([await countLog(), await value(client, deletedXid)]).toEqual([0, false]);
      await insertAudit(client, channel);
      // Replication truncates, too.
      await client.query('TRUNCATE flagcast.event_log');
      expect(await value(client, deletedXid)).toBe(true);
    });
  });
});
