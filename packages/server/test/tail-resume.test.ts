import { once } from 'node:events';
import { PassThrough } from 'node:stream';
import type { EventMessage } from '@flagcast/protocol';
import { afterEach, describe, expect, it } from 'vitest';
import { jsonLine } from '../src/cli/tail.js';
import { follow } from '../src/cli/tail-follow.js';
import { signForName } from '../src/cli/token.js';
import { RunningCommand } from './command.js';
import {
  createTestCluster,
  createTestDatabase,
  insertAudit,
  seedProject,
  type SeededProject,
  type TestDatabase,
  insertAudits,
} from './database.js';
import { FaultyProxy } from '../../../testing/testkit/faulty-proxy.ts';
import { freePort } from '../../../testing/testkit/program.ts';
import { ScriptedServer, scriptedEvent } from './scripted-server.js';
import { createUser, nextEvent, startTestServer, testSecret } from './server.js';

const undo: (() => Promise<void>)[] = [];

afterEach(async () => {
  for (const step of undo.splice(0).reverse()) await step();
});

interface Source {
  readonly database: TestDatabase;
  readonly project: SeededProject;
  readonly token: string;
}

async function sharedDatabase(): Promise<TestDatabase> {
  const database = await createTestDatabase({ schema: 'tables' });
  undo.push(async () => await database.drop());
  return database;
}

async function seed(database: TestDatabase): Promise<Source> {
  const project = await seedProject(database.pool, { name: 'Web shop' });
  const { token } = await createUser(database.pool, 'root', { superuser: true, ttlMs: 600_000 });
  return { database, project, token };
}

async function startTail(url: string, token: string): Promise<RunningCommand> {
  const args = ['--url', url, '--project', 'Web shop', '--env', 'prod', '--token', token, '--json'];
  const tail = new RunningCommand(['tail', ...args]);
  undo.push(async () => await tail.end());
  await tail.errorLine((line) => line.includes('watching Web shop / prod'));
  return tail;
}

/** Writes one event after the other; returns their ids in order. */
async function write({ database, project }: Source, count: number): Promise<string[]> {
  const written: string[] = [];
  for (let number = 0; number < count; number += 1) {
    const { entityId } = await insertAudit(database.pool, {
      projectId: project.projectId,
      environmentId: project.environments.prod,
    });
    written.push(entityId);
  }
  return written;
}

async function printed(tail: RunningCommand, entityId: string | undefined): Promise<string> {
  if (entityId === undefined) throw new Error('nothing was written');
  return await tail.line((line) => line.includes(entityId));
}

function listing(tail: RunningCommand): string[] {
  const lines = tail.stdout.trimEnd().split('\n');
  return lines.map((line) => (JSON.parse(line) as EventMessage).entity_id);
}

describe('tail prints every event once, in order', () => {
  it('while its server is killed and another one starts', async () => {
    const source = await seed(await sharedDatabase());
    const port = await freePort();
    const startServe = (): RunningCommand => {
      const serve = new RunningCommand(['serve', '--port', String(port)], {
        env: { DATABASE_URL: source.database.url, FLAGCAST_JWT_SECRET: testSecret },
      });
      undo.push(async () => await serve.end());
      return serve;
    };
    const serve = startServe();
    await serve.logged('reader_started');
    const tail = await startTail(`http://127.0.0.1:${port}`, source.token);

    const written = await write(source, 100);
    const writing = write(source, 300);
    await printed(tail, written.at(-1));
    serve.signal('SIGKILL');
    await tail.errorLine((line) => line.includes('stale since'));
    const next = startServe();
    written.push(...(await writing), ...(await write(source, 100)));
    await next.logged('reader_started');
    written.push(...(await write(source, 100)));

    await printed(tail, written.at(-1));
    // It receives caught_up after the missed events.
    await tail.errorLine((line) => line === 'flagcast: live');
    expect(listing(tail)).toEqual(written);
    tail.signal('SIGINT');
    const { code, stderr } = await tail.ended;
    expect(code).toBe(0);
    expect(stderr).not.toContain('missing');
  });

  it('while PostgreSQL crashes and restarts', async () => {
    const cluster = await createTestCluster();
    undo.push(async () => await cluster.remove());
    const source = await seed(await cluster.createDatabase({ schema: 'tables' }));
    undo.push(async () => await source.database.drop());
    const server = await startTestServer(source.database.url);
    undo.push(async () => await server.close());
    const tail = await startTail(server.httpUrl, source.token);

    const written = await write(source, 50);
    const recovered = nextEvent(server.flagcast.lifecycle, 'reader:recovered');
    await cluster.postgres.restart('immediate');
    written.push(...(await write(source, 50)));
    await recovered;
    written.push(...(await write(source, 50)));

    await printed(tail, written.at(-1));
    expect(listing(tail)).toEqual(written);
  });

  it('or reports missing events if more happened during the outage than the server replays', async () => {
    const source = await seed(await sharedDatabase());
    const server = await startTestServer(source.database.url);
    undo.push(async () => await server.close());
    const serverPort = Number(new URL(server.httpUrl).port);
    const relay = await FaultyProxy.open([serverPort]);
    const { port } = relay;
    const tail = await startTail(`http://127.0.0.1:${port}`, source.token);

    await relay.close();
    await tail.errorLine((line) => line.includes('stale since'));
    let unread = 1_500;
    // In several pages: what was not read yet when the connection is back would not be missed.
    const read = nextEvent(server.flagcast.lifecycle, 'reader:read', ({ fresh }) => {
      unread -= fresh;
      return unread === 0;
    });
    await insertAudits(
      source.database.pool,
      { projectId: source.project.projectId, environmentId: source.project.environments.prod },
      unread,
    );
    await read;
    const back = await FaultyProxy.open([serverPort], { port });
    undo.push(async () => await back.close());
    await tail.errorLine(
      (line) => line.includes('events are missing here: ') && /too_many_missed/.test(line),
    );
    await tail.errorLine((line) => line === 'flagcast: live');
    const written = await write(source, 3);
    await printed(tail, written.at(-1));
    expect(listing(tail)).toEqual(written);
  });
});

describe('tail continues', () => {
  it('beyond the lifetime of its token, with a new one', async () => {
    const source = await seed(await sharedDatabase());
    const server = await startTestServer(source.database.url);
    undo.push(async () => await server.close());
    const stop = new AbortController();
    const statuses: string[] = [];
    const listed = new PassThrough();
    let made = 0;
    // The first is for looking the project up and the second for the connection; the fourth is asked for
    // when the life of both has long ended.
    const following = new Promise<void>((renewedTwice, failed) => {
      const ended = follow({
        serverUrl: new URL(server.httpUrl),
        of: { project: 'Web shop', environmentKey: 'prod' },
        makeToken: async () => {
          made += 1;
          if (made === 4) renewedTwice();
          return await signForName(testSecret, 'root', 6_000);
        },
        line: jsonLine,
        output: listed,
        report: (status) => statuses.push(status),
        stop: stop.signal,
      });
      ended.catch(failed);
      undo.push(async () => {
        stop.abort();
        await ended;
      });
    });
    await following;
    const [entityId] = await write(source, 1);
    const [line] = (await once(listed, 'data')) as [Buffer];
    expect(JSON.parse(line.toString('utf8'))).toMatchObject({ entity_id: entityId });
    // It was not even interrupted.
    expect(statuses).toEqual([`watching Web shop / prod at ${server.httpUrl}`]);
  });

  it.each([
    ['a WebSocket', true],
    ['server-sent events', false],
  ])(
    'after its reader has stalled (%s): it reads nothing meanwhile, and resumes',
    async (_way, webSockets) => {
      const server = await ScriptedServer.open({ heartbeatIntervalMs: 200, webSockets });
      undo.push(async () => await server.close());
      const tail = await startTail(server.url, 'token');
      const connection = await server.connection();
      tail.process.stdout?.pause();

      // Far more than the pipes and sockets in between hold. Silence makes the client give the line up.
      const padding = 'x'.repeat(100_000);
      const limit = 1_000;
      const sentAll = new Promise<string>((resolve) => {
        const send = (number: number): void => {
          if (number > limit) resolve('sent all');
          else connection.send(scriptedEvent(number, padding), () => send(number + 1));
        };
        send(1);
      });
      expect(await Promise.race([sentAll, connection.closed.then(() => 'given up')])).toBe('given up');

      tail.process.stdout?.resume();
      const { cursor } = await server.connection();
      const last = Number(cursor?.replace('cursor-', ''));
      await printed(tail, `"cursor-${last}"`);
      expect(listing(tail)).toEqual(
        Array.from({ length: last }, (_event, index) => `f${index + 1}${padding}`),
      );
    },
  );

  it('until Ctrl-C, although its reader has stalled', async () => {
    const server = await ScriptedServer.open({ heartbeatIntervalMs: 200 });
    undo.push(async () => await server.close());
    const tail = await startTail(server.url, 'token');
    const connection = await server.connection();
    tail.process.stdout?.pause();
    connection.send(scriptedEvent(1, 'x'.repeat(1_000_000)));
    connection.send(scriptedEvent(2));
    await connection.closed;
    const exited = once(tail.process, 'exit');
    tail.signal('SIGINT');
    expect(await exited).toEqual([0, null]);
    tail.process.stdout?.resume();
  });
});
