import { randomUUID } from 'node:crypto';
import { afterEach, expect, it } from 'vitest';
import { RunningCommand, runCommand } from '../packages/server/test/command.js';
import { createTestCluster, insertAudit, seedProject } from '../packages/server/test/database.js';
import { freePort } from '../testing/testkit/program.ts';
import { createUser, testSecret } from '../packages/server/test/server.js';
import { createTogglrHost, type TogglrHost } from '../packages/server/test/togglr-host.js';
import { readTogglrPage, TogglrWebClient } from '../packages/server/test/togglr-web-client.js';
import type { TestChannel } from '../testing/testkit/channel.ts';
import { FaultyProxy } from '../testing/testkit/faulty-proxy.ts';
import { runWriters } from '../testing/testkit/writers.ts';

/** Faults during the traffic, one of each kind after the other. More on demand: FLAGCAST_TOGGLR_FAULTS=50. */
const faults = Number(process.env['FLAGCAST_TOGGLR_FAULTS'] ?? 5);
const pagesPerEnvironment = 2;
/** The lifetime of Togglr's tokens. */
const tokenTtlMs = 10_800_000;

const cleanUps: (() => Promise<void> | void)[] = [];
afterEach(async () => {
  for (const cleanUp of cleanUps.splice(0).reverse()) await cleanUp();
});

/** `flagcast serve` with the settings of the Togglr guide. */
class Server {
  readonly #port: number;
  readonly #databaseUrl: string;
  #serve: RunningCommand | null = null;

  constructor(port: number, databaseUrl: string) {
    this.#port = port;
    this.#databaseUrl = databaseUrl;
  }

  async start(): Promise<void> {
    this.#serve = new RunningCommand(['serve', '--port', String(this.#port)], {
      env: {
        DATABASE_URL: this.#databaseUrl,
        FLAGCAST_JWT_SECRET: testSecret,
        FLAGCAST_EVENT_TYPES: 'togglr',
        FLAGCAST_QUERY_TOKEN: 'allow',
      },
    });
    await this.#serve.logged('reader_started');
  }

  async end(signal: 'SIGTERM' | 'SIGKILL'): Promise<void> {
    this.#serve?.signal(signal);
    await this.#serve?.ended;
  }
}

/** Injects one fault after the other during the traffic. After each one, every client must receive an event. */
async function injectFaults(
  server: Server,
  proxy: FaultyProxy,
  clients: readonly TogglrWebClient[],
): Promise<Record<string, number>> {
  const injected: Record<string, number> = {};
  for (let number = 0; number < faults; number += 1) {
    const fault = (['cut', 'SIGTERM', 'reset', 'SIGKILL', 'delay'] as const)[number % 5] ?? 'cut';
    if (fault === 'SIGTERM' || fault === 'SIGKILL') {
      await server.end(fault);
      await server.start();
    } else {
      proxy.inject(fault, 0.5);
    }
    injected[fault] = (injected[fault] ?? 0) + 1;
    const before = clients.map(({ events }) => events);
    await expect
      .poll(() => clients.filter(({ events }, index) => events === before[index]), { timeout: 60_000 })
      .toEqual([]);
  }
  return injected;
}

/** Installs Flagcast in a database of Togglr. `serverUrl`: the connection of a role with only the required rights. */
async function attach(): Promise<{ host: TogglrHost; serverUrl: string }> {
  const cluster = await createTestCluster();
  cleanUps.push(async () => await cluster.remove());
  const host = await createTogglrHost(cluster);
  cleanUps.push(async () => await host.database.drop());
  const role = 'flagcast_reader';
  const installed = await runCommand(['install', '--yes', '--role', role], {
    env: { DATABASE_URL: host.database.url },
  });
  expect(installed.code).toBe(0);
  // The owner of the host's tables did not install Flagcast.
  expect(installed.stderr).toMatch(
    /^flagcast: Role \w+ owns tables and may not read schema flagcast: pg_dump/,
  );
  await host.database.pool.query(`ALTER ROLE ${role} PASSWORD 'secret'`);
  return { host, serverUrl: host.urlOf(role) };
}

it(
  "Togglr's web client shows the state of the database after faults of its connection",
  async () => {
    const { host, serverUrl } = await attach();
    const { pool } = host.database;
    const { token } = await createUser(pool, 'root', { superuser: true, ttlMs: tokenTtlMs });
    const { projectId, environments } = await seedProject(pool);
    const channels: TestChannel[] = Object.entries(environments).map(([env, environmentId]) => ({
      projectId,
      environmentId,
      env,
    }));
    await pool.query(
      `INSERT INTO features (project_id, key, name, kind)
       SELECT $1, 'flag-' || n, 'Flag ' || n, 'simple' FROM generate_series(1, 30) n`,
      [projectId],
    );
    const port = await freePort();
    const server = new Server(port, serverUrl);
    cleanUps.push(async () => await server.end('SIGKILL'));
    await server.start();
    const proxy = await FaultyProxy.open([port]);
    cleanUps.push(async () => await proxy.close());

    const pages = channels.flatMap((channel) =>
      Array.from({ length: pagesPerEnvironment }, () => ({
        channel,
        client: new TogglrWebClient({
          origin: proxy.url,
          ...channel,
          token,
          fetchPage: async () => await readTogglrPage(pool, channel),
          pingIntervalMs: 500,
          reconnectPauseMs: 300,
        }),
      })),
    );
    cleanUps.push(async () => {
      for (const { client } of pages) await client.stop();
    });
    /** Waits until every page shows the current state; returns the number of chips. */
    const awaitCurrent = async (): Promise<number> => {
      let chips = 0;
      for (const { channel, client } of pages) {
        const expected = await readTogglrPage(pool, channel);
        await expect.poll(() => client.page).toStrictEqual(expected);
        chips += expected.chips.length;
      }
      return chips;
    };
    await awaitCurrent();

    const over = new AbortController();
    const writing = runWriters({
      databaseUrl: host.urlOf(host.backend),
      projects: [channels],
      writers: 3,
      signal: over.signal,
    });
    const clients = pages.map(({ client }) => client);
    const injected = await injectFaults(server, proxy, clients);
    over.abort();
    await writing;

    // One kind of event at a time: only this event can update the pages.
    for (const { environmentId } of channels) {
      await pool.query(
        `WITH change AS (
           INSERT INTO pending_changes (project_id, environment_id, requested_by, change)
           VALUES ($1, $2, 'bob', '{"entities":[]}') RETURNING id
         )
         INSERT INTO pending_change_entities (pending_change_id, entity, entity_id)
         SELECT id, 'feature', $3 FROM change`,
        [projectId, environmentId, randomUUID()],
      );
    }
    expect(await awaitCurrent()).toBeGreaterThanOrEqual(pages.length);
    const decisions = [
      `status = 'approved', approved_by = 'alice', approved_at = now()`,
      `status = 'rejected', rejected_by = 'alice', rejected_at = now()`,
      `status = 'cancelled'`,
    ];
    for (const [index, { environmentId }] of channels.entries()) {
      await pool.query(
        `UPDATE pending_changes SET ${decisions[index] ?? ''} WHERE status = 'pending' AND environment_id = $1`,
        [environmentId],
      );
    }
    expect(await awaitCurrent()).toBe(0);
    const { rows } = await pool.query<{ id: string }>(
      'DELETE FROM features WHERE id = (SELECT id FROM features WHERE project_id = $1 LIMIT 1) RETURNING id',
      [projectId],
    );
    const featureId = rows[0]?.id ?? '';
    for (const channel of channels) await insertAudit(pool, { ...channel, featureId, action: 'delete' });
    await awaitCurrent();
    const schedule = await pool.query<{ id: string; feature_id: string }>(
      `INSERT INTO feature_schedules (project_id, feature_id, environment_id, cron_expr, action)
       SELECT project_id, id, $2, '0 0 * * *', 'enable' FROM features WHERE project_id = $1 LIMIT 1
       RETURNING id, feature_id`,
      [projectId, channels[0]?.environmentId],
    );
    for (const { id, feature_id: of } of schedule.rows) {
      for (const channel of channels) {
        const part = { entity: 'feature_schedule', entityId: id, featureId: of, action: 'create' };
        await insertAudit(pool, { ...channel, ...part });
      }
    }
    await awaitCurrent();

    const total = (count: (client: TogglrWebClient) => number): number =>
      clients.reduce((sum, client) => sum + count(client), 0);
    const closeCodes: Record<string, number> = {};
    for (const [code, count] of clients.flatMap((client) => Object.entries(client.closeCodes))) {
      closeCodes[code] = (closeCodes[code] ?? 0) + count;
    }
    const figures = {
      pages: clients.length,
      connections: total(({ connections }) => connections),
      events: total(({ events }) => events),
      fetches: total(({ fetches }) => fetches),
      pongs: total(({ pongSkewsS }) => pongSkewsS.length),
      closeCodes,
      injected,
    };
    process.stdout.write(`togglr: ${JSON.stringify(figures)}\n`);
    expect(clients.filter(({ gaveUp }) => gaveUp)).toHaveLength(0);
    expect(Object.keys(closeCodes)).toContain('4000');
    // Every client was disconnected and received events, even on a slow machine.
    expect(figures.connections).toBeGreaterThan(clients.length);
    expect(figures.events).toBeGreaterThan(clients.length * 4);
    // A page that is disconnected before each of its pings is due gets no pong.
    expect(figures.pongs).toBeGreaterThan(0);
    for (const { pongSkewsS } of clients) {
      // In seconds, also if the pong was on its way for a long time.
      for (const skewS of pongSkewsS) expect(Math.abs(skewS)).toBeLessThan(600);
    }
  },
  (faults * 60 + 100) * 1_000,
);
