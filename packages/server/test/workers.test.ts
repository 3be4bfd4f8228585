import { EventEmitter, once } from 'node:events';
import { existsSync, readFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import { type Channel, createClient, type EventMessage } from '@flagcast/client';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { WebSocket } from 'ws';
import { Collector } from './collector.js';
import { RunningCommand, runCommand } from './command.js';
import { createTestDatabase, insertAudit, seedProject, type TestDatabase } from './database.js';
import { hasIoUring } from './io-uring-here.js';
import { createUser, testSecret } from './server.js';
import type { TestChannel } from './v1-client.js';

const hasProc = existsSync('/proc/self/task');

let database: TestDatabase;
let token: string;
let channel: TestChannel;
const undo: (() => Promise<void> | void)[] = [];

beforeAll(async () => {
  database = await createTestDatabase({ schema: 'tables' });
  ({ token } = await createUser(database.pool, 'root', { superuser: true, ttlMs: 600_000 }));
  const { projectId, environments } = await seedProject(database.pool);
  channel = { projectId, environmentId: environments.prod };
});

afterEach(async () => {
  for (const step of undo.splice(0).reverse()) await step();
});

// Throws when a worker has left a connection to the database.
afterAll(async () => await database.drop());

interface Serving {
  readonly serve: RunningCommand;
  readonly url: string;
  /** The process ids of the first workers. */
  readonly workers: readonly [number, number];
}

function environment(): Record<string, string> {
  return {
    DATABASE_URL: database.url,
    FLAGCAST_JWT_SECRET: testSecret,
    FLAGCAST_WORKERS: '2',
    FLAGCAST_POLL_INTERVAL: '50ms',
  };
}

async function launch(more: Record<string, string> = {}): Promise<Serving> {
  const serve = new RunningCommand(['serve', '--port', '0'], { env: { ...environment(), ...more } });
  const { url } = await serve.logged('server_listening');
  const workers = [await readyWorker(serve, 1), await readyWorker(serve, 2)] as const;
  return { serve, url: String(url), workers };
}

/** For one test. */
async function startServe(more: Record<string, string> = {}): Promise<Serving> {
  const serving = await launch(more);
  undo.push(async () => await endServe(serving));
  return serving;
}

async function endServe({ serve, workers }: Serving): Promise<void> {
  // Workers that a failed test has left would keep its output open.
  for (const pid of workers.filter(isRunning)) process.kill(pid, 'SIGKILL');
  await serve.end();
}

/** The process id of the worker with this number that replaced the earlier ones. */
async function readyWorker(serve: RunningCommand, place: number, before: number[] = []): Promise<number> {
  const isNext = ({ worker, pid }: Record<string, unknown>): boolean =>
    worker === place && !before.includes(Number(pid));
  return Number((await serve.logged('worker_ready', isNext))['pid']);
}

/** A client of @flagcast/client, with its received events and state. */
interface Watcher {
  readonly events: EventMessage[];
  /** The names of the servers that it was connected to. */
  readonly servers: string[];
  resyncs: number;
  received(entityId: string): Promise<void>;
}

async function watch(url: string): Promise<Watcher> {
  const client = createClient({ url, getToken: () => token, WebSocket, onError: () => undefined });
  undo.push(() => client.close());
  const live: Channel = client.channel({ projectId: channel.projectId, env: 'prod' });
  const watcher: Watcher = {
    events: [],
    servers: [],
    resyncs: 0,
    received: async (entityId) => {
      if (watcher.events.some((event) => event.entity_id === entityId)) return;
      await new Promise<void>((resolve) => {
        const off = live.onEvent((event) => {
          if (event.entity_id !== entityId) return;
          off();
          resolve();
        });
      });
    },
  };
  live.onEvent((event) => watcher.events.push(event));
  await new Promise<void>((resolve) => {
    client.onMessage((message) => {
      if ('source' in message || !('type' in message)) return;
      if (message.type === 'hello') watcher.servers.push(message.server);
      if (message.type === 'resync') watcher.resyncs += 1;
      if (message.type === 'caught_up') resolve();
    });
  });
  return watcher;
}

/** Two clients of each worker. */
async function watchBoth(url: string): Promise<Watcher[]> {
  const byServer = new Map<string, Watcher[]>();
  for (let count = 0; count < 20; count += 1) {
    const watcher = await watch(url);
    const server = watcher.servers[0] ?? '';
    byServer.set(server, [...(byServer.get(server) ?? []), watcher]);
    const groups = [...byServer.values()];
    if (groups.length === 2 && groups.every((group) => group.length >= 2)) return groups.flat();
  }
  throw new Error(`connections went to ${byServer.size} worker(s) only`);
}

/**
 * Writes an event every few milliseconds until `work` is done; returns their ids. `work` can wait until
 * `count` more have been written.
 */
async function whileWriting(
  work: (more: (count: number) => Promise<void>) => Promise<void>,
): Promise<string[]> {
  const written: string[] = [];
  const progress = new EventEmitter();
  const done = new AbortController();
  const write = async (): Promise<void> => {
    written.push((await insertAudit(database.pool, channel)).entityId);
    progress.emit('written');
  };
  const writing = (async () => {
    while (!done.signal.aborted) {
      await write();
      await database.pool.query('SELECT pg_sleep(0.01)');
    }
    await write();
  })();
  const more = async (count: number): Promise<void> => {
    const enough = written.length + count;
    while (written.length < enough) await once(progress, 'written');
  };
  await work(more).finally(() => done.abort());
  await writing;
  return written;
}

async function expectEach(watchers: readonly Watcher[], written: readonly string[]): Promise<void> {
  const [last = ''] = written.slice(-1);
  for (const watcher of watchers) {
    await watcher.received(last);
    const entities = watcher.events.map((event) => event.entity_id);
    const lost = written.filter((entityId) => !entities.includes(entityId));
    const repeated = watcher.events.length - new Set(watcher.events.map(({ id }) => id)).size;
    expect({ lost, repeated, resyncs: watcher.resyncs }).toEqual({ lost: [], repeated: 0, resyncs: 0 });
  }
}

/** A client with two connections at most, of which the first does not answer. */
async function metricsOfWhoAnswers(url: string): Promise<string> {
  const enough = new AbortController();
  const ask = async (): Promise<string> =>
    await (await fetch(`${url}/metrics`, { signal: enough.signal })).text();
  try {
    return await Promise.any([ask(), ask()]);
  } finally {
    enough.abort();
  }
}

/** The socket writer that each worker logs. */
async function socketWriters(serve: RunningCommand): Promise<unknown[]> {
  return await Promise.all(
    [1, 2].map(async (place) => {
      const { writer, reason } = await serve.logged('socket_writer_chosen', ({ worker }) => worker === place);
      return { writer, reason };
    }),
  );
}

async function openLine(url: string): Promise<Socket> {
  const { hostname, port } = new URL(url);
  const line = connect(Number(port), hostname);
  undo.push(() => void line.destroy());
  await once(line, 'connect');
  return line;
}

/** The first line of the answer. */
async function askHealth(line: Socket): Promise<string> {
  line.write('GET /healthz HTTP/1.1\r\nHost: flagcast\r\nConnection: close\r\n\r\n');
  const [answer] = (await once(line, 'data')) as [Buffer];
  return answer.toString('latin1').split('\r\n', 1)[0] ?? '';
}

async function childrenOf(pid: number): Promise<number[]> {
  const text = await readFile(`/proc/${pid}/task/${pid}/children`, 'utf8');
  return text.split(' ').filter(Boolean).map(Number);
}

function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0);
    // A process that ends after its parent remains a zombie if no init process reaps it.
    return !(hasProc && /\) [ZX] /.test(readFileSync(`/proc/${pid}/stat`, 'latin1')));
  } catch {
    return false;
  }
}

describe('serve with two workers', () => {
  it('delivers every event to the clients of both workers, has metrics and traces of both, and stops both', async () => {
    const collector = new Collector();
    undo.push(() => collector.close());
    const endpoint = await collector.open();
    const { serve, url, workers } = await startServe({
      OTEL_EXPORTER_OTLP_ENDPOINT: endpoint,
      FLAGCAST_IO_URING: 'off',
    });
    const watchers = await watchBoth(url);
    const written = await whileWriting(async (more) => await more(20));
    await expectEach(watchers, written);
    const each = { writer: 'plain', reason: 'FLAGCAST_IO_URING is off' };
    expect(await socketWriters(serve)).toEqual([each, each]);

    const metrics = await (await fetch(`${url}/metrics`)).text();
    const connections = [1, 2].map((worker) => {
      const sample = new RegExp(`^flagcast_connections{worker="${worker}"} (\\d+)$`, 'm').exec(metrics);
      return Number(sample?.[1]);
    });
    expect(Math.min(...connections)).toBeGreaterThanOrEqual(2);
    expect(connections.reduce((sum, count) => sum + count, 0)).toBe(watchers.length);
    // Both workers have the same channel, and a sum would report two channels.
    for (const worker of [1, 2]) {
      expect(metrics).toContain(`\nflagcast_channel_connections_count{worker="${worker}"} 1\n`);
      expect(metrics).toContain(`\nflagcast_ready{worker="${worker}"} 1\n`);
    }
    expect(metrics).toContain('flagcast_workers_ended_total 0');
    for (const worker of [1, 2]) {
      await serve.logged('connection_opened', (fields) => fields['worker'] === worker);
    }

    serve.signal('SIGTERM');
    const { code, stderr, stdout } = await serve.ended;
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    expect(stdout).toMatch(/"event":"server_stopped"}\n$/);
    expect(stdout).not.toContain('"worker_ended"');
    // Each worker has read every event, also the last ones before its end.
    const batches = collector.spans.filter(({ name }) => name === 'flagcast.batch');
    const events = batches.flatMap(({ attributes }) =>
      attributes.filter(({ key }) => key === 'flagcast.events').map(({ value }) => Number(value['intValue'])),
    );
    expect(events.reduce((sum, count) => sum + count, 0)).toBe(2 * written.length);
    await expect.poll(() => workers.filter(isRunning)).toEqual([]);
  });

  it('answers /metrics and stops although a worker hangs, also at a second signal', async () => {
    for (const impatient of [false, true]) {
      const { serve, url, workers } = await startServe();
      process.kill(workers[0], 'SIGSTOP');
      if (!impatient) expect(await metricsOfWhoAnswers(url)).toMatch(/worker="[12]"/);
      serve.signal('SIGTERM');
      await serve.logged('server_stopping');
      if (impatient) serve.signal('SIGINT');
      const { code } = await serve.ended;
      expect(code).toBe(impatient ? 130 : 0);
      await expect.poll(() => workers.filter(isRunning)).toEqual([]);
    }
  });

  it('reports in one line why it cannot listen', async () => {
    const taken = createServer().listen(0, '127.0.0.1');
    await once(taken, 'listening');
    undo.push(() => void taken.close());
    const { port } = taken.address() as AddressInfo;
    const { code, stderr } = await runCommand(['serve', '--port', String(port)], { env: environment() });
    expect({ code, stderr }).toEqual({
      code: 1,
      stderr: `flagcast: Port ${port} of 127.0.0.1 is in use; stop the program that uses it, or choose another port with --port (or PORT)\n`,
    });
  });
});

// A fleet takes two seconds of processor time to start, so these share one.
describe('two workers, one test after the other,', () => {
  let fleet: Serving;
  let workers: readonly [number, number];
  beforeAll(async () => {
    fleet = await launch();
    ({ workers } = fleet);
  });
  afterAll(async () => await endServe({ ...fleet, workers }));

  it.skipIf(!hasProc)('stay if a new one ends before it is ready', async () => {
    const { serve } = fleet;
    serve.signal('SIGHUP');
    const added = async (): Promise<number[]> =>
      (await childrenOf(serve.pid)).filter((pid) => !(workers as readonly number[]).includes(pid));
    await expect.poll(added, { interval: 5 }).toHaveLength(1);
    for (const pid of await added()) process.kill(pid, 'SIGKILL');
    expect(await serve.logged('workers_renewal_failed')).toMatchObject({ reason: 'signal SIGKILL' });
    expect(workers.filter(isRunning)).toEqual(workers);
    expect(serve.stdout).not.toContain('"worker_ended"');
  });

  it('are replaced one after another at SIGHUP, without a lost or repeated event', async () => {
    const { serve, url } = fleet;
    const before = serve.stdout.length;
    const old = workers;
    const watchers = await watchBoth(url);
    const [refused, early]: [unknown[], Socket[]] = [[], []];
    const written = await whileWriting(async (more) => {
      serve.signal('SIGHUP');
      const ready = readyWorker(serve, 1, [...old]);
      // The workers accept in turn, so both have some. A request has to arrive within 10 s, so only the last ones stay.
      while (!serve.stdout.slice(before).includes('"worker_ready"')) {
        early.push(await openLine(url));
        if (early.length > 6) early.shift()?.destroy();
      }
      const first = await ready;
      // Now the old worker drains. A client that had connected but sent no request is served.
      await more(5);
      const answers = await Promise.all(early.map(askHealth));
      expect(answers).toEqual(early.map(() => 'HTTP/1.1 200 OK'));
      // A client that connects meanwhile is accepted, each time.
      while (!serve.stdout.includes('"workers_renewed"')) {
        const asked = fetch(`${url}/healthz`, { headers: { Connection: 'close' } });
        const answer = await asked.catch((error: unknown) => ({ ok: false, error }));
        if (!answer.ok) refused.push(answer);
      }
      workers = [first, await readyWorker(serve, 2, [...old])];
    });
    expect(refused).toEqual([]);
    await expect.poll(() => old.filter(isRunning)).toEqual([]);
    await expectEach(watchers, written);
    for (const { servers } of watchers) expect(servers.length).toBeGreaterThanOrEqual(2);
    const events = serve.stdout
      .slice(before)
      .split('\n')
      .map((line) => /"event":"(worker\w+)"/.exec(line)?.[1]);
    // Each new worker is ready before the next old one stops.
    const renewed = ['worker_ready', 'worker_ready', 'workers_renewed'];
    expect(events.filter(Boolean)).toEqual(['workers_renewing', ...renewed]);
  });

  it('are replaced when they are killed, while their clients resume on the other one without loss', async () => {
    const { serve, url } = fleet;
    const old = fleet.workers;
    if (hasIoUring)
      expect(await socketWriters(serve)).toEqual([{ writer: 'io_uring' }, { writer: 'io_uring' }]);
    const watchers = await watchBoth(url);
    const [first, second] = workers;
    let [place, replacement] = [0, 0];
    const written = await whileWriting(async () => {
      process.kill(first, 'SIGKILL');
      const ended = await serve.logged('worker_ended');
      expect(ended).toMatchObject({ pid: first, reason: 'signal SIGKILL' });
      place = Number(ended['worker']);
      replacement = await readyWorker(serve, place, [...old, first]);
    });
    await expectEach(watchers, written);
    const moved = watchers.filter(({ servers }) => servers.length > 1);
    expect(moved.length).toBeGreaterThanOrEqual(2);
    expect(moved.length).toBeLessThanOrEqual(watchers.length - 2);

    // SIGTERM is gentle: it sends its clients elsewhere.
    const others = await whileWriting(async () => {
      process.kill(second, 'SIGTERM');
      const ended = await serve.logged('worker_ended', ({ pid }) => pid === second);
      expect(ended).toMatchObject({ reason: 'exit code 0' });
      const other = await readyWorker(serve, Number(ended['worker']), [...old, second]);
      workers = [replacement, other];
    });
    await expectEach(watchers, others);
    expect(await (await fetch(`${url}/metrics`)).text()).toContain('flagcast_workers_ended_total 2');
  });

  it('end when the primary process is killed', async () => {
    const { serve, url } = fleet;
    await watch(url);
    serve.signal('SIGKILL');
    // Its output ends when the last process that writes to it has.
    expect((await serve.ended).signal).toBe('SIGKILL');
    await expect.poll(() => workers.filter(isRunning)).toEqual([]);
  });
});
