import { randomUUID } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import type { EventMessage } from '@flagcast/protocol';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { WebSocket } from 'ws';
import { signToken } from '../src/auth/sign-token.js';
import { install } from '../src/install/install.js';
import { RunningCommand } from './command.js';
import { createTestDatabase, insertAudit, seedProject, type TestDatabase, withClient } from './database.js';
import { createHostTables, makeChannel } from './host-tables.js';
import { PlainClient } from './plain-client.js';
import { createUser, nextEvent, startTestServer, testSecret } from './server.js';

/** Reported by users of systems like this one: large transactions and long histories. */

const undo: (() => Promise<void>)[] = [];

afterEach(async () => {
  for (const step of undo.splice(0).reverse()) await step();
});

describe('case 7: one statement that writes 30,000 audit rows, with a statement time-out of 1 s', () => {
  const rows = 30_000;
  /** How much the server may use for it at most, in kB. */
  const allowedKilobytes = 150 * 1_024;

  it('delays a change in another environment by a few pages, and is delivered completely in bounded memory', async () => {
    const database = await createTestDatabase({ schema: 'tables' });
    undo.push(async () => await database.drop());
    const { projectId, environments } = await seedProject(database.pool);
    await database.pool.query(`ALTER DATABASE ${database.name} SET statement_timeout = '1s'`);
    const { id, username } = await createUser(database.pool, 'root', { superuser: true });
    const token = await signToken({ secret: testSecret, userId: id, username, ttlMs: 600_000 });
    const serve = new RunningCommand(['serve', '--port', '0'], {
      env: { DATABASE_URL: database.url, FLAGCAST_JWT_SECRET: testSecret },
    });
    undo.push(async () => await serve.end());
    const { url } = await serve.logged('server_listening');
    await serve.logged('reader_started');
    const received = { import: new Set<string>(), other: 0, importedBefore: 0 };
    const socket = await openCounter(String(url), token, projectId, environments, received);
    const before = await readMemory(serve.pid);

    await withClient(database.url, async (client) => {
      await client.query('SET statement_timeout = 0');
      await client.query(
        `INSERT INTO audit_log (project_id, environment_id, feature_id, entity, entity_id, actor, username, action)
         SELECT $1, $2, $3, 'rule', gen_random_uuid(), 'user', 'import', 'create' FROM generate_series(1, $4)`,
        [projectId, environments.prod, randomUUID(), rows],
      );
      await insertAudit(client, { projectId, environmentId: environments.stage });
    });
    await vi.waitFor(() => expect(received.other).toBe(1), { timeout: 60_000, interval: 20 });
    expect(received.importedBefore).toBeLessThan(rows / 2);
    await vi.waitFor(() => expect(received.import.size).toBe(rows), { timeout: 60_000, interval: 50 });
    const after = await readMemory(serve.pid);
    if (before !== null && after !== null) expect(after - before).toBeLessThan(allowedKilobytes);
    expect(serve.stdout).not.toContain('reader_failed');
    expect(serve.stdout).not.toContain('history_lost');
    socket.terminate();
  });

  /** A flagcast.v1 client of both environments that counts, and keeps only the ids. */
  async function openCounter(
    url: string,
    token: string,
    projectId: string,
    { prod, stage }: { readonly prod: string; readonly stage: string },
    received: { import: Set<string>; other: number; importedBefore: number },
  ): Promise<WebSocket> {
    const socket = new WebSocket(`${url.replace('http', 'ws')}/api/ws`, ['flagcast.v1', `bearer.${token}`]);
    let subscribed = 0;
    await new Promise<void>((resolve, reject) => {
      socket.on('error', reject);
      socket.on('close', (code) => reject(new Error(`closed with ${code}`)));
      socket.on('message', (data) => {
        const message = JSON.parse((data as Buffer).toString('utf8')) as Partial<EventMessage>;
        if (message.source === undefined) {
          if (String(message.type) === 'hello') {
            for (const env_id of [prod, stage]) {
              socket.send(JSON.stringify({ type: 'subscribe', project_id: projectId, env_id }));
            }
          }
          if (String(message.type) === 'caught_up') subscribed += 1;
          if (subscribed === 2) resolve();
        } else if (message.environment === 'prod') received.import.add(message.id ?? '');
        else {
          received.other += 1;
          received.importedBefore = received.import.size;
        }
      });
    });
    return socket;
  }

  /** The peak memory of the process, in kB; null if the system does not report it. */
  async function readMemory(pid: number): Promise<number | null> {
    if (process.platform !== 'linux') return null;
    const status = await readFile(`/proc/${pid}/status`, 'utf8');
    return Number(/VmHWM:\s+(\d+)/.exec(status)?.[1]);
  }
});

describe('case 16: 20,000 decided requests', () => {
  const requests = 20_000;

  it('are not read again when one flag changes', async () => {
    const database = await createHostTables();
    undo.push(async () => await database.drop());
    const { token } = await createUser(database.pool, 'root', { superuser: true });
    const channel = await makeChannel(database.pool);
    await database.pool.query(
      `WITH made AS (
         INSERT INTO pending_changes (project_id, environment_id, requested_by, change, status, created_at, approved_at)
         SELECT $1, $2, 'bob', '{"entities":[]}', 'approved', now() - interval '30 days', now() - interval '29 days'
         FROM generate_series(1, $3) RETURNING id
       )
       INSERT INTO pending_change_entities (pending_change_id, entity, entity_id) SELECT id, 'feature', id FROM made`,
      [channel.projectId, channel.environmentId, requests],
    );
    await withClient(database.url, async (client) => await install(client));
    await database.pool.query('ANALYZE');
    const server = await startTestServer(database.url);
    const client = await PlainClient.connect(
      server.wsUrl,
      { project_id: channel.projectId, env: 'prod' },
      { token },
    );
    // The foreign keys have read each request, which the session reports later.
    await vi.waitFor(async () => expect(await rowsRead(database)).toBeGreaterThanOrEqual(requests), {
      timeout: 60_000,
    });
    const before = await rowsRead(database);
    const changes = 10;
    for (let change = 0; change < changes; change += 1) {
      const { entityId } = await insertAudit(database.pool, channel);
      await client.received((message) => message.entity_id === entityId);
      await nextEvent(server.flagcast.lifecycle, 'reader:read');
    }
    await client.close();
    // A session reports its statistics when it ends, at the latest.
    await server.close();
    await vi.waitFor(
      async () => {
        const { rows } = await database.pool.query(
          `SELECT FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE 'flagcast%'`,
        );
        expect(rows).toHaveLength(0);
      },
      { timeout: 60_000 },
    );
    expect((await rowsRead(database)) - before).toBeLessThan(requests);
  });

  /** How many rows of requests all sessions have read so far, by scans of tables and of indexes. */
  async function rowsRead({ pool }: TestDatabase): Promise<number> {
    const { rows } = await pool.query<{ rows: string }>(
      `SELECT sum(coalesce(seq_tup_read, 0) + coalesce(idx_tup_fetch, 0))::text AS rows FROM pg_stat_user_tables
       WHERE relname IN ('pending_changes', 'pending_change_entities')`,
    );
    return Number(rows[0]?.rows ?? 0);
  }
});
