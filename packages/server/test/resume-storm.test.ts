import type pg from 'pg';
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { signToken } from '../src/auth/sign-token.js';
import {
  createTestCluster,
  insertAudit,
  seedProject,
  type TestCluster,
  type TestDatabase,
  insertAudits,
} from './database.js';
import {
  createUser,
  nextEvent,
  startTestServer,
  type TestServer,
  testSecret,
  type TestServerOptions,
} from './server.js';
import { type TestChannel, V1Client } from './v1-client.js';

const clientCount = 500;
/** Every tenth user may not view the project. */
const userCount = 500;
/** Hundreds of handshakes, also on a slow machine. */
const timeoutMs = 240_000;

/** A separate cluster, because pg_stat_statements counts all queries. */
let cluster: TestCluster;
let database: TestDatabase;
let warm: TestServer;
let token: string;
let channel: TestChannel;
let busy: TestChannel;
/** Cursors, and how many events were missed since. */
const left: { readonly cursor: string; missed: number }[] = [];
/** The events of the channel, in order. */
const written: string[] = [];

beforeAll(async () => {
  cluster = await createTestCluster({ shared_preload_libraries: 'pg_stat_statements' });
  database = await cluster.createDatabase({ schema: 'tables' });
  await database.pool.query('CREATE EXTENSION pg_stat_statements');
  ({ token } = await createUser(database.pool, 'root', { superuser: true, ttlMs: 600_000 }));
  const { projectId, environments } = await seedProject(database.pool);
  channel = { projectId, environmentId: environments.prod };
  busy = { projectId, environmentId: environments.stage };
  warm = await start();
  // A second server sends frequent heartbeats, so that its client has the newest cursor.
  const beating = await start({ timeouts: { heartbeatIntervalMs: 50 } });
  const client = await connect(beating);
  await client.caughtUp(channel);
  for (let time = 0; time < 6; time += 1) {
    await write(channel, 4, client);
    // The replay buffer starts after the first cursor.
    left.push({ cursor: await client.settled(database.pool), missed: 0 });
  }
  await write(channel, 4, client);
  left.shift();
  for (const [index, each] of left.entries()) each.missed = (left.length - index) * 4;
  await client.close();
  await beating.close();
});

afterAll(async () => {
  await warm.close();
  await database.drop();
  await cluster.remove();
});

async function start(options: TestServerOptions = {}): Promise<TestServer> {
  const most = 2 * clientCount;
  return await startTestServer(database.url, {
    ...options,
    limits: { connectionsPerUser: most, connectionsPerAddress: most, ...options.limits },
  });
}

async function connect(server: TestServer): Promise<V1Client> {
  const client = await V1Client.connect(server.wsUrl, { token });
  await client.control('hello');
  return client;
}

/** Writes events one by one, and waits until the client has received them. */
async function write(to: TestChannel, events: number, client: V1Client): Promise<void> {
  let last = '';
  for (let count = 0; count < events; count += 1) {
    ({ entityId: last } = await insertAudit(database.pool, to));
    if (to === channel) written.push(last);
  }
  await client.event(last);
}

async function resetCounts(pool: pg.Pool): Promise<void> {
  await pool.query('SELECT pg_stat_statements_reset()');
}

/** How many queries for missed events of a channel PostgreSQL has run: only these read ranges of transactions. */
async function missedQueries(pool: pg.Pool): Promise<number> {
  const { rows } = await pool.query<{ calls: string }>(
    `SELECT coalesce(sum(calls), 0) AS calls FROM pg_stat_statements
     WHERE query LIKE '%AS range (low, high)%l.environment_id = %'`,
  );
  return Number(rows[0]?.calls);
}

/** How many queries PostgreSQL has run for clients. */
async function clientQueries(pool: pg.Pool): Promise<number> {
  const { rows } = await pool.query<{ calls: string }>(
    `SELECT coalesce(sum(calls), 0) AS calls FROM pg_stat_statements
     WHERE query LIKE '%public.users%' OR query LIKE '%public.projects%'`,
  );
  return Number(rows[0]?.calls) + (await missedQueries(pool));
}

/** The tokens of members of the project, and of users who are not members. */
async function tokensOfMany(): Promise<{ token: string; isMember: boolean }[]> {
  const { rows } = await database.pool.query<{ id: string; is_member: boolean }>(
    `WITH made AS (
       INSERT INTO users (username, email, password_hash)
       SELECT 'user ' || n, 'user' || n || '@example.com', '' FROM generate_series(1, $2::integer) AS n
       RETURNING id
     ), joined AS (
       INSERT INTO memberships (project_id, user_id, role_id)
       SELECT $1, made.id, r.id FROM made, roles r WHERE r.key = 'project_viewer' AND made.id % 10 <> 0
       RETURNING user_id
     )
     SELECT made.id::text AS id, joined.user_id IS NOT NULL AS is_member
     FROM made LEFT JOIN joined ON joined.user_id = made.id`,
    [channel.projectId, userCount],
  );
  return await Promise.all(
    rows.map(async ({ id, is_member }) => ({
      token: await signToken({ secret: testSecret, userId: id, username: `user ${id}`, ttlMs: 600_000 }),
      isMember: is_member,
    })),
  );
}

function missedBy({ missed }: { missed: number }): string[] {
  return written.slice(written.length - missed);
}

/** All clients resume at the same moment. Checks what each receives, and returns the sources. */
async function resumeAll(server: TestServer, clients: readonly V1Client[]): Promise<Set<string>> {
  const sources = new Set<string>();
  const onResumed = ({ source }: { source: string }): number => sources.add(source).size;
  server.flagcast.lifecycle.on('channel:resumed', onResumed);
  await Promise.all(
    clients.map(async (client, index) => await client.caughtUp(channel, left[index % left.length]?.cursor)),
  );
  server.flagcast.lifecycle.off('channel:resumed', onResumed);
  for (const [index, client] of clients.entries()) {
    const from = left[index % left.length] ?? { missed: 0 };
    expect(client.events.map((event) => event.entity_id)).toStrictEqual(missedBy(from));
  }
  return sources;
}

async function crowd(server: TestServer): Promise<V1Client[]> {
  const clients: V1Client[] = [];
  while (clients.length < clientCount) {
    clients.push(...(await Promise.all(Array.from({ length: 250 }, async () => await connect(server)))));
  }
  onTestFinished(() => {
    for (const { socket } of clients) socket.terminate();
  });
  return clients;
}

describe('G5: 500 clients that reconnect at once from five positions', () => {
  it(
    'cause no query if the replay buffer has their events',
    async () => {
      const clients = await crowd(warm);
      await resetCounts(database.pool);
      expect(await resumeAll(warm, clients)).toStrictEqual(new Set(['buffer']));
      expect(await missedQueries(database.pool)).toBe(0);
    },
    timeoutMs,
  );

  it(
    'cause five queries if it does not, even while other channels are busy',
    async () => {
      const cold = await start({ limits: { replayEvents: 50 } });
      onTestFinished(async () => await cold.close());
      const clients = await crowd(cold);
      await resetCounts(database.pool);
      expect(await resumeAll(cold, clients)).toStrictEqual(new Set(['database']));
      expect(await missedQueries(database.pool)).toBe(5);

      // The replay buffer evicts batches, but not of this channel.
      for (let time = 0; time < 2; time += 1) {
        const broadcast = nextEvent(
          cold.flagcast.lifecycle,
          'batch:broadcast',
          ({ events }) => events === 60,
        );
        await insertAudits(database.pool, busy, 60);
        await broadcast;
      }
      const late = await Promise.all(left.map(async () => await connect(cold)));
      expect(await resumeAll(cold, late)).toStrictEqual(new Set(['database']));
      expect(await missedQueries(database.pool)).toBe(5);

      // Now the buffer evicts an event of this channel, so that earlier answers cannot be reused.
      const [witness] = clients;
      if (witness === undefined) throw new Error('no client connected');
      for (let count = 0; count < 60; count += 10) {
        await write(channel, 10, witness);
        for (const each of left) each.missed += 10;
      }
      const later = await Promise.all(left.map(async () => await connect(cold)));
      await resumeAll(cold, later);
      expect(await missedQueries(database.pool)).toBe(10);
      for (const client of [...late, ...later]) await client.close();
    },
    timeoutMs,
  );
});

describe('G3, G5: 500 users that reconnect at once to a server that has just started', () => {
  it(
    'cause few queries, and each receives only channels that they may view',
    async () => {
      const many = await tokensOfMany();
      const [from] = left;
      if (from === undefined) throw new Error('no place to come back from');
      const cold = await start();
      onTestFinished(async () => await cold.close());
      await resetCounts(database.pool);
      await Promise.all(
        many.map(async ({ token: own, isMember }) => {
          const client = await V1Client.connect(cold.wsUrl, { token: own });
          onTestFinished(() => client.socket.terminate());
          await client.control('hello');
          const answer = await client.subscribe(channel, from.cursor);
          if (isMember) {
            expect(answer.type).toBe('caught_up');
            expect(client.events.map((event) => event.entity_id)).toStrictEqual(missedBy(from));
          } else {
            expect(answer).toMatchObject({ type: 'error', code: 'forbidden' });
            expect(client.events).toStrictEqual([]);
          }
        }),
      );
      // Without QueryBatcher there are two queries for each user. With it the number depends on the speed of the machine
      // (see `npm run bench -- scale`).
      expect(await clientQueries(database.pool)).toBeLessThan(userCount);
    },
    timeoutMs,
  );
});
