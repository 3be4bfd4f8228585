import { randomUUID } from 'node:crypto';
import pg from 'pg';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { install, planInstall, planUninstall, uninstall } from '../src/install/install.js';
import { createTestCluster, withClient, type TestCluster } from './database.js';
import { createTogglrHost, dumpHost, type TogglrHost } from './togglr-host.js';

let cluster: TestCluster;
let host: TogglrHost;
let role = '';

beforeAll(async () => {
  cluster = await createTestCluster();
});

beforeEach(async () => {
  host = await createTogglrHost(cluster);
  role = `reader_${randomUUID().slice(0, 8)}`;
});

afterEach(async () => {
  await host.drop();
});

afterAll(async () => {
  await cluster.remove();
});

const onHost = async <Result>(work: (client: pg.Client) => Promise<Result>): Promise<Result> =>
  await withClient(host.database.url, work);

async function uninstallAll(): Promise<readonly string[]> {
  return (await onHost(async (client) => await uninstall(client))).lines;
}

describe('the role of install --role', () => {
  it('keeps the rights that it had before install', async () => {
    const { pool } = host.database;
    await pool.query(`CREATE ROLE ${role} NOLOGIN; GRANT SELECT ON features TO ${role}`);
    const before = await dumpHost(host, 'meant');
    const { lines, notes } = await onHost(async (client) => await install(client, { role }));
    expect(lines).not.toContain(`granted SELECT ON TABLE public.features TO "${role}"`);
    expect(notes.at(-1)).toBe(`Role ${role} may not log in. To allow it: ALTER ROLE "${role}" LOGIN;`);
    await uninstallAll();
    expect(await dumpHost(host, 'meant')).toEqual(before);
    await pool.query(`DROP OWNED BY ${role}; DROP ROLE ${role}`);
  });

  it('is granted what changes need with writes, keeps it with a repair, and loses all of it', async () => {
    const before = await dumpHost(host, 'meant');
    const { lines } = await onHost(async (client) => await install(client, { role, writes: true }));
    const changes = [
      'INSERT, UPDATE, DELETE ON TABLE public.features',
      'INSERT, UPDATE, DELETE ON TABLE public.feature_params',
      'INSERT, UPDATE ON TABLE public.pending_changes',
      'INSERT, UPDATE ON TABLE public.pending_change_entities',
      'INSERT, DELETE ON TABLE flagcast.guarded_environments',
      'USAGE ON SEQUENCE public.audit_log_id_seq',
      'INSERT, UPDATE, DELETE ON TABLE public.rules',
      'INSERT, UPDATE, DELETE ON TABLE public.feature_schedules',
      'SELECT (password_hash, two_fa_enabled) ON TABLE public.users',
    ];
    // Anybody may insert into the audit log of this host.
    expect(lines).toEqual(expect.arrayContaining(changes.map((right) => `granted ${right} TO "${role}"`)));
    await host.database.pool.query(`REVOKE INSERT ON rules FROM ${role}`);
    const again = await onHost(async (client) => await install(client, { role }));
    expect(again.lines).toEqual([`granted ${changes[6] ?? ''} TO "${role}"`]);
    expect(await uninstallAll()).toContain(`dropped role "${role}"`);
    expect(await dumpHost(host, 'meant')).toEqual(before);
  });

  it('loses what its operator has granted for changes and e-mail addresses, as doctor says', async () => {
    await onHost(async (client) => await install(client, { role }));
    await host.database.pool.query(
      `GRANT INSERT, UPDATE, DELETE ON features TO ${role}; GRANT SELECT (email) ON users TO ${role}`,
    );
    const lines = await uninstallAll();
    expect(lines).toContain(`revoked INSERT, UPDATE, DELETE ON TABLE public.features FROM "${role}"`);
    expect(lines).not.toContain(`revoked INSERT ON TABLE public.audit_log FROM "${role}"`);
    expect(lines).toContain(`dropped role "${role}"`);
  });

  it('is kept by uninstall if it existed before, and loses what install granted', async () => {
    await host.database.pool.query(`CREATE ROLE ${role} LOGIN`);
    const before = await dumpHost(host, 'meant');
    await onHost(async (client) => await install(client, { role }));
    expect(await uninstallAll()).toContain(`kept role "${role}", because install did not create it`);
    expect(await dumpHost(host, 'meant')).toEqual(before);
    await host.database.pool.query(`DROP ROLE ${role}`);
  });

  it('is kept by uninstall while it has members or sessions in other databases', async () => {
    const { pool } = host.database;
    const member = `${role}_member`;
    await onHost(async (client) => await install(client, { role }));
    await pool.query(
      `ALTER ROLE ${role} PASSWORD 'secret'; CREATE ROLE ${member}; GRANT ${role} TO ${member}`,
    );
    const roleUrl = new URL(host.urlOf(role));
    roleUrl.pathname = '/postgres';
    const lines = await withClient(roleUrl.toString(), uninstallAll);
    expect(lines.at(-1)).toBe(
      `kept role "${role}", because it is in use elsewhere: 1 session in database postgres; role ${member} is a member of it. When nothing uses it any more: DROP ROLE "${role}";`,
    );
    await pool.query(`DROP ROLE ${member}; DROP ROLE ${role}`);
  });

  it('is kept by uninstall while it is in use elsewhere, with the statement that drops it later', async () => {
    await onHost(async (client) => await install(client, { role }));
    const { pool } = host.database;
    await pool.query(
      `GRANT UPDATE ON roles TO ${role}; CREATE TABLE reporting.theirs (id int); ALTER TABLE reporting.theirs OWNER TO ${role}`,
    );
    expect((await onHost(async (client) => await planUninstall(client))).roles).toEqual([
      { name: role, made: true, sessions: 0 },
    ]);
    const kept = (await uninstallAll()).find((line) => line.startsWith('kept'));
    expect(kept).toBe(
      `kept role "${role}", because it is in use elsewhere: privileges for table public.roles; owner of table reporting.theirs. When nothing uses it any more: DROP ROLE "${role}";`,
    );
    await pool.query(`DROP OWNED BY ${role}; DROP ROLE "${role}";`);
  });

  it('can be created and dropped by the owner of the tables, who is not a superuser', async () => {
    const asOwner = async <Result>(work: (client: pg.Client) => Promise<Result>): Promise<Result> =>
      await withClient(host.urlOf(host.owner), work);
    const { notes } = await asOwner(async (client) => await install(client, { role }));
    expect(notes).toEqual([]);
    const again = await asOwner(async (client) => await install(client, { role }));
    expect(again).toMatchObject({ changed: false, notes: [] });
    const { lines } = await asOwner(async (client) => await uninstall(client));
    expect(lines).toContain(`dropped role "${role}"`);
  });

  it.each(['', 'pg_mine', 'PUBLIC', 'x'.repeat(64)])('cannot have the name %j', async (name) => {
    await expect(onHost(async (client) => await planInstall(client, { role: name }))).rejects.toMatchObject({
      message: expect.stringMatching(/^--role: .*choose another name\.$/) as string,
    });
  });

  it('may have a name that needs quotes', async () => {
    role = `O'Brien "x"; DROP`;
    await onHost(async (client) => {
      await install(client, { role });
      expect((await uninstall(client)).lines).toContain(`dropped role ${pg.escapeIdentifier(role)}`);
    });
  });
});
