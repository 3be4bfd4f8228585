import { type ChildProcess, fork } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { type Channel, createClient, type EventMessage } from '@flagcast/client';
import { afterEach, expect, it } from 'vitest';
import { WebSocket } from 'ws';
import {
  createTestCluster,
  insertAudit,
  seedProject,
  type TestCluster,
  type TestDatabase,
} from '../packages/server/test/database.js';
import { unusedPort } from '../packages/server/test/relay.js';
import { createUser, testSecret } from '../packages/server/test/server.js';
import { FaultyProxy } from './faulty-proxy.js';
import { runStormWriters, type StormChannel } from './storm-writers.js';

/** How long the weather lasts. Longer on demand: FLAGCAST_STORM_SECONDS=120. */
const stormSeconds = Number(process.env['FLAGCAST_STORM_SECONDS'] ?? 12);
const clientCount = 50;

const cleanUps: (() => Promise<void> | void)[] = [];
afterEach(async () => {
  for (const cleanUp of cleanUps.splice(0).reverse()) await cleanUp();
});

/** A server in a process of its own, that can be killed. */
class ServerProcess {
  readonly #env: Record<string, string>;
  #process: ChildProcess | null = null;

  constructor(databaseUrl: string, port: number) {
    this.#env = { DATABASE_URL: databaseUrl, SECRET: testSecret, PORT: String(port) };
  }

  async start(): Promise<void> {
    const file = fileURLToPath(new URL('./storm-server.js', import.meta.url));
    this.#process = fork(file, { env: { PATH: process.env['PATH'], ...this.#env } });
    const [first] = (await Promise.race([
      once(this.#process, 'message'),
      once(this.#process, 'exit'),
    ])) as unknown[];
    if (first !== 'started') throw new Error('a server of the storm ended before it had started');
  }

  async kill(): Promise<void> {
    const process = this.#process;
    if (process === null) return;
    const exited = once(process, 'exit');
    process.kill('SIGKILL');
    await exited;
    this.#process = null;
  }
}

/** A console that watches some channels, and what it noticed. */
interface Watcher {
  readonly channels: Map<StormChannel, { readonly channel: Channel; readonly events: EventMessage[] }>;
  snapshots: number;
  resyncs: number;
}

function watch(url: string, token: string, wanted: readonly StormChannel[]): Watcher {
  const watcher: Watcher = { channels: new Map(), snapshots: 0, resyncs: 0 };
  class CountingWebSocket extends WebSocket {
    constructor(address: string | URL, protocols?: string | string[]) {
      super(address, protocols);
      this.on('message', (data: Buffer) => {
        if (data.includes('"type":"resync"')) watcher.resyncs += 1;
      });
    }
  }
  const client = createClient({
    url,
    getToken: () => token,
    WebSocket: CountingWebSocket,
    fetch: async (input, init) => {
      const response = await fetch(input, init);
      if (response.body === null) return response;
      const isSnapshot = new URL(input instanceof Request ? input.url : input).pathname === '/api/snapshot';
      // A snapshot counts when all of it has come.
      const counting = new TransformStream<Uint8Array, Uint8Array>({
        transform(chunk, controller) {
          if (!isSnapshot && Buffer.from(chunk).includes('"type":"resync"')) watcher.resyncs += 1;
          controller.enqueue(chunk);
        },
        flush() {
          if (isSnapshot && response.ok) watcher.snapshots += 1;
        },
      });
      return new Response(response.body.pipeThrough(counting), response);
    },
    // What is being tried again is the weather's doing.
    onError: () => undefined,
  });
  for (const name of wanted) {
    const channel = client.channel({ projectId: name.projectId, env: name.env });
    const events: EventMessage[] = [];
    channel.onEvent((event) => events.push(event));
    watcher.channels.set(name, { channel, events });
  }
  cleanUps.push(() => client.close());
  return watcher;
}

async function until(channel: Channel, holds: () => boolean): Promise<void> {
  if (holds()) return;
  await new Promise<void>((resolve) => {
    const off = channel.subscribe(() => {
      if (!holds()) return;
      off();
      resolve();
    });
  });
}

/** As the protocol names an event. */
function eventId(...identity: string[]): string {
  return createHash('sha256').update(JSON.stringify(identity)).digest('base64url').slice(0, 22);
}

async function eventsOf(database: TestDatabase, channel: StormChannel): Promise<Set<string>> {
  const { rows } = await database.pool.query<{
    source: string;
    event_id: string;
    entity: string;
    entity_id: string;
    action: string;
  }>('SELECT * FROM flagcast.v_realtime_events WHERE environment_id = $1', [channel.environmentId]);
  return new Set(rows.map((row) => eventId(row.source, row.event_id, row.entity, row.entity_id, row.action)));
}

async function stateOf(database: TestDatabase, channel: StormChannel): Promise<unknown> {
  const features = await database.pool.query<{ id: string; enabled: boolean; default_value: string }>(
    `SELECT f.id, p.enabled, p.default_value FROM features f
     JOIN feature_params p ON p.feature_id = f.id AND p.environment_id = $2
     WHERE f.project_id = $1 ORDER BY f.id`,
    [channel.projectId, channel.environmentId],
  );
  const pending = await database.pool.query<{ id: string }>(
    `SELECT id FROM pending_changes WHERE environment_id = $1 AND status = 'pending' ORDER BY id`,
    [channel.environmentId],
  );
  return { features: features.rows, pending: pending.rows.map(({ id }) => id) };
}

function stateIn(channel: Channel): unknown {
  const { features, pendingChanges } = channel.getState();
  const sorted = [...features.values()].sort((a, b) => (a.id < b.id ? -1 : 1));
  const pending = new Set([...pendingChanges.values()].flat().map(({ id }) => id));
  return {
    features: sorted.map(({ id, enabled, default_value }) => ({ id, enabled, default_value })),
    pending: [...pending].sort(),
  };
}

/** One fault after the other, until the storm is over. */
async function rage(
  cluster: TestCluster,
  proxy: FaultyProxy,
  servers: readonly ServerProcess[],
): Promise<Record<string, number>> {
  const inflicted: Record<string, number> = {};
  const endsAtMs = Date.now() + stormSeconds * 1_000;
  for (let turn = 0; Date.now() < endsAtMs; turn += 1) {
    const fault = (['cut', 'delay', 'server', 'reset', 'blackhole', 'postgres'] as const)[turn % 6] ?? 'cut';
    if (fault === 'server') {
      const server = servers[Math.floor(turn / 6) % servers.length];
      await server?.kill();
      await server?.start();
    } else if (fault === 'postgres') {
      await cluster.postgres.restart(Math.random() < 0.5 ? 'fast' : 'immediate');
    } else {
      proxy.inflict(fault, 0.3);
    }
    inflicted[fault] = (inflicted[fault] ?? 0) + 1;
    // The weather's own pace, not a wait for anything.
    await new Promise((resolve) => setTimeout(resolve, 700));
  }
  return inflicted;
}

it(
  'G5: G6: G7: a storm over two servers and the network leaves every console as the database is',
  async () => {
    const cluster = await createTestCluster({ max_connections: '200', track_commit_timestamp: 'on' });
    cleanUps.push(async () => await cluster.remove());
    const database = await cluster.createDatabase({ schema: 'tables' });
    cleanUps.push(async () => await database.drop());
    const { token } = await createUser(database.pool, 'root', { superuser: true, ttlMs: 3_600_000 });
    const projects: StormChannel[][] = [];
    for (let count = 0; count < 2; count += 1) {
      const { projectId, environments } = await seedProject(database.pool);
      projects.push(
        Object.entries(environments).map(([env, environmentId]) => ({ projectId, environmentId, env })),
      );
      await database.pool.query(
        `INSERT INTO features (id, project_id, key, name, kind)
         SELECT gen_random_uuid(), $1, 'flag-' || n, 'Flag ' || n, 'simple' FROM generate_series(1, 30) n`,
        [projectId],
      );
    }
    const ports = [await unusedPort(), await unusedPort()];
    const servers = ports.map((port) => new ServerProcess(database.url, port));
    for (const server of servers) {
      cleanUps.push(async () => await server.kill());
      await server.start();
    }
    const proxy = await FaultyProxy.open(ports);
    cleanUps.push(async () => await proxy.close());

    const all = projects.flat();
    const watchers = Array.from({ length: clientCount }, (_, index) =>
      watch(
        proxy.url,
        token,
        [0, 2, 3].map((step) => all[(index + step) % all.length]).filter((one) => one !== undefined),
      ),
    );
    for (const { channels } of watchers) {
      for (const { channel } of channels.values()) {
        await until(channel, () => channel.getState().status.state === 'live');
      }
    }

    const over = new AbortController();
    const writing = runStormWriters({ databaseUrl: database.url, projects, writers: 8, signal: over.signal });
    const inflicted = await rage(cluster, proxy, servers);
    over.abort();
    await writing;

    // A last event in each channel tells when everything before it must have arrived.
    const last = new Map<StormChannel, string>();
    for (const channel of all) {
      const { id, entityId } = await insertAudit(database.pool, { ...channel, entity: 'last' });
      last.set(channel, eventId('audit', id, 'last', entityId, 'updated'));
    }
    let deliveries = 0;
    const found = { lost: 0, repeated: 0, invented: 0, different: 0, snapshots: 0 };
    for (const watcher of watchers) {
      for (const [name, { channel, events }] of watcher.channels) {
        const marker = last.get(name);
        // Of what was missed, cancellations come last: the database does not record their time.
        await until(
          channel,
          () => channel.getState().status.state === 'live' && events.some(({ id }) => id === marker),
        );
        const committed = await eventsOf(database, name);
        const applied = new Set(events.map(({ id }) => id));
        deliveries += events.length;
        found.repeated += events.length - applied.size;
        for (const id of applied) if (!committed.has(id)) found.invented += 1;
        // Who was told to resync has taken some events as part of a snapshot.
        if (watcher.resyncs === 0) for (const id of committed) if (!applied.has(id)) found.lost += 1;
        try {
          expect(stateIn(channel)).toStrictEqual(await stateOf(database, name));
        } catch {
          found.different += 1;
        }
      }
      found.snapshots += watcher.snapshots - watcher.channels.size - watcher.resyncs;
    }
    const resyncs = watchers.reduce((sum, watcher) => sum + watcher.resyncs, 0);
    process.stdout.write(`storm: ${JSON.stringify({ stormSeconds, deliveries, resyncs, inflicted })}\n`);
    expect(found).toStrictEqual({ lost: 0, repeated: 0, invented: 0, different: 0, snapshots: 0 });
    expect(deliveries).toBeGreaterThan(stormSeconds * 100);
  },
  (stormSeconds + 100) * 1_000,
);
