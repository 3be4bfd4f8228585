import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import type { PlainMessage } from '@flagcast/protocol';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { WebSocket, WebSocketServer } from 'ws';
import { textFrame } from '../src/connections/codecs/frame.js';
import {
  createTestDatabase,
  insertAudit,
  seedProject,
  type SeededProject,
  type TestDatabase,
} from './database.js';
import { handshake, PlainClient } from './plain-client.js';
import { createUser, startTestServer, type TestServer, type TestUser } from './server.js';

const keys = ['source', 'type', 'timestamp', 'project_id', 'environment', 'entity', 'entity_id', 'action'];

let database: TestDatabase;
let server: TestServer;
let root: TestUser;
let project: SeededProject;
let prod: { projectId: string; environmentId: string };

beforeAll(async () => {
  database = await createTestDatabase({ schema: 'tables' });
  // A host whose sessions print times in their own way.
  await database.pool.query(
    `ALTER DATABASE ${database.name} SET timezone = 'Asia/Kolkata';
     ALTER DATABASE ${database.name} SET datestyle = 'German, DMY'`,
  );
  root = await createUser(database.pool, 'root', { superuser: true });
  project = await seedProject(database.pool);
  prod = { projectId: project.projectId, environmentId: project.environments.prod };
  server = await startTestServer(database.url, { database: { pollIntervalMs: 50 } });
});

afterAll(async () => {
  await server.close();
  await database.drop();
});

async function connect(env = 'prod'): Promise<PlainClient> {
  const query = { project_id: project.projectId, env };
  return await PlainClient.connect(server.wsUrl, query, { token: root.token });
}

/** The message about the entity; its time must equal the result of `SELECT <time>`, to the microsecond. */
async function expectMessage(
  client: PlainClient,
  expected: Omit<PlainMessage, 'timestamp' | 'project_id' | 'environment'>,
  time: { sql: string; values: unknown[] },
): Promise<void> {
  const message = await client.received(
    ({ entity_id: id, action }) => id === expected.entity_id && action === expected.action,
  );
  expect(Object.keys(message)).toStrictEqual(keys);
  expect(message).toMatchObject({ ...expected, project_id: project.projectId, environment: 'prod' });
  expect(message.timestamp).toMatch(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$/);
  const { rows } = await database.pool.query<{ matches: boolean }>(
    `SELECT $1::timestamptz = (${time.sql}) AS matches`,
    [message.timestamp, ...time.values],
  );
  expect(rows).toStrictEqual([{ matches: true }]);
}

describe('the message of an audit row', () => {
  it.each([
    ['feature', 'create', 'feature_created', 'created'],
    ['feature', 'update', 'feature_updated', 'updated'],
    ['feature', 'delete', 'feature_deleted', 'deleted'],
    ['rule', 'update', 'rule_updated', 'updated'],
    ['flag_variant', 'create', 'flag_variant_created', 'created'],
    ['segment', 'archive', 'segment_archive', 'archive'],
  ])('%s %s is %s', async (entity, stored, type, action) => {
    const client = await connect();
    const { id, entityId } = await insertAudit(database.pool, {
      ...prod,
      entity,
      entityId: randomUUID(),
      action: stored,
    });
    await expectMessage(
      client,
      { source: 'audit', type, entity, entity_id: entityId, action },
      { sql: 'SELECT created_at FROM audit_log WHERE id = $2', values: [id] },
    );
    expect(client.messages).toHaveLength(1);
    await client.close();
  });
});

describe('the messages of a pending change', () => {
  async function request(entity: string, age: string): Promise<{ changeId: string; entityId: string }> {
    const [changeId, entityId] = [randomUUID(), randomUUID()];
    await database.pool.query(
      `WITH change AS (
         INSERT INTO pending_changes (id, project_id, environment_id, requested_by, change, created_at)
         VALUES ($1, $2, $3, 'bob', '{"entities":[]}', now() - $6::interval) RETURNING id
       )
       INSERT INTO pending_change_entities (pending_change_id, entity, entity_id, created_at)
       SELECT id, $4, $5, now() - $6::interval FROM change`,
      [changeId, prod.projectId, prod.environmentId, entity, entityId, age],
    );
    return { changeId, entityId };
  }

  it('has the type pending_change_created for a request', async () => {
    const client = await connect();
    const { entityId } = await request('rule', '0');
    await expectMessage(
      client,
      {
        source: 'pending',
        type: 'pending_change_created',
        entity: 'rule',
        entity_id: entityId,
        action: 'pending',
      },
      { sql: 'SELECT created_at FROM pending_change_entities WHERE entity_id = $2', values: [entityId] },
    );
    await client.close();
  });

  it.each(['0', '3 days'])('have the time of the decision, %s after the request', async (age) => {
    const client = await connect();
    const ends = [
      // A host sets these times from the clock of another machine.
      ['approved', `approved_by = 'alice', approved_at = now() - interval '1 hour'`],
      ['rejected', `rejected_by = 'alice', rejected_at = now() + interval '1 hour'`],
      ['cancelled', `rejection_reason = 'no'`],
    ] as const;
    for (const [status, columns] of ends) {
      const { changeId, entityId } = await request('feature', age);
      const { rows } = await database.pool.query<{ decided_at: string }>(
        `UPDATE pending_changes SET status = $2, ${columns} WHERE id = $1 RETURNING clock_timestamp()::text AS decided_at`,
        [changeId, status],
      );
      await expectMessage(
        client,
        {
          source: 'pending',
          type: `pending_change_${status}`,
          entity: 'feature',
          entity_id: entityId,
          action: status,
        },
        {
          sql: 'SELECT $1::timestamptz WHERE $1::timestamptz BETWEEN $2::timestamptz AND clock_timestamp()',
          values: [rows[0]?.decided_at],
        },
      );
    }
    await client.close();
  });

  it('have the type pending_change_updated for a changed request', async () => {
    const client = await connect();
    const { changeId, entityId } = await request('feature', '0');
    const { rows } = await database.pool.query<{ changed_at: string }>(
      `UPDATE pending_changes SET change = '{"entities":[],"meta":{"edited":true}}' WHERE id = $1
       RETURNING clock_timestamp()::text AS changed_at`,
      [changeId],
    );
    await expectMessage(
      client,
      {
        source: 'pending',
        type: 'pending_change_updated',
        entity: 'feature',
        entity_id: entityId,
        action: 'updated',
      },
      {
        sql: 'SELECT $1::timestamptz WHERE $1::timestamptz BETWEEN $2::timestamptz AND clock_timestamp()',
        values: [rows[0]?.changed_at],
      },
    );
    await client.close();
  });
});

describe('plain messages', () => {
  it('arrive unchanged with any characters', async () => {
    const environment = `"\\/'<💥 \u202Eשלום`;
    const entity = `a "quote", a \\, a \n, a \u0001, 💥, שלום \u202E\u2028 é e\u0301`;
    const { rows } = await database.pool.query<{ id: string }>(
      'INSERT INTO environments (project_id, key, name) VALUES ($1, $2, $2) RETURNING id',
      [project.projectId, environment],
    );
    const client = await connect(environment);
    const { entityId } = await insertAudit(database.pool, {
      projectId: project.projectId,
      environmentId: rows[0]?.id ?? '',
      entity,
      action: `${'💥'.repeat(49)}"`,
      username: '💥'.repeat(255),
      newValue: { name: 'x'.repeat(100_000) },
    });
    const message = await client.received(({ entity_id: id }) => id === entityId);
    expect(message).toMatchObject({ environment, entity, action: `${'💥'.repeat(49)}"` });
    expect(message.type).toBe(`${entity}_${'💥'.repeat(49)}"`);
    await client.close();
  });

  it('of every length are valid WebSocket frames', async () => {
    const texts = [
      ...[0, 1, 125, 126, 127, 60_000, 65_535, 65_536, 100_000].map((length) => 'x'.repeat(length)),
      // More bytes than characters: the frame counts bytes.
      ...[31, 32, 16_383, 16_384].map((length) => '💥'.repeat(length)),
      `שלום "\\\n\u0000\u2028`,
    ];
    const http = createServer();
    const webSockets = new WebSocketServer({ noServer: true });
    http.on('upgrade', (incoming, socket, head) => {
      webSockets.handleUpgrade(incoming, socket, head, () => {
        for (const text of texts) socket.write(textFrame(text));
        // A batch is many frames in one write.
        socket.write(Buffer.concat(texts.map(textFrame)));
      });
    });
    http.listen(0, '127.0.0.1');
    await once(http, 'listening');
    const client = new WebSocket(`ws://127.0.0.1:${(http.address() as AddressInfo).port}`);
    const received: string[] = [];
    await new Promise<void>((resolve, reject) => {
      client.on('error', reject);
      client.on('message', (data, isBinary) => {
        expect(isBinary).toBe(false);
        received.push((data as Buffer).toString('utf8'));
        if (received.length === 2 * texts.length) resolve();
      });
    });
    expect(received).toStrictEqual([...texts, ...texts]);
    client.terminate();
    http.close();
  });

  it('are the same bytes for each client of a channel', async () => {
    const query = `project_id=${project.projectId}&env=stage`;
    const headers = { Authorization: `Bearer ${root.token}` };
    const clients = await Promise.all(
      [1, 2, 3].map(async () => await handshake(server.wsUrl, query, headers)),
    );
    const stage = { projectId: project.projectId, environmentId: project.environments.stage };
    for (let count = 0; count < 5; count += 1) await insertAudit(database.pool, stage);
    const last = await insertAudit(database.pool, stage);
    const streams = await Promise.all(
      clients.map(
        async ({ socket }) => await readUntil(socket, (bytes) => bytes.includes(`${last.entityId}","action`)),
      ),
    );
    expect(streams[0]?.length).toBeGreaterThan(6 * 100);
    expect(streams[1]?.equals(streams[0] ?? Buffer.of())).toBe(true);
    expect(streams[2]?.equals(streams[0] ?? Buffer.of())).toBe(true);
    for (const { socket } of clients) socket?.destroy();
  });
});

async function readUntil(socket: Socket | null, isEnough: (bytes: Buffer) => boolean): Promise<Buffer> {
  let bytes = Buffer.of();
  if (socket === null) throw new Error('not connected');
  for await (const chunk of socket.iterator({ destroyOnReturn: false })) {
    bytes = Buffer.concat([bytes, chunk as Buffer]);
    if (isEnough(bytes)) return bytes;
  }
  return bytes;
}

describe('a message of a plain client', () => {
  it('is answered with a pong and the time in seconds if it is {"type":"ping"}, and otherwise ignored', async () => {
    const client = await connect();
    const { socket } = client;
    const answers: unknown[] = [];
    socket.on('message', (data: Buffer) => answers.push(JSON.parse(data.toString('utf8'))));
    const junk = [
      '',
      ' ',
      'ping',
      'null',
      '[]',
      '"ping"',
      '{}',
      '{"type":"Ping"}',
      '{"type":["ping"]}',
      '{',
      '💥',
    ];
    for (const text of junk) socket.send(text);
    socket.send(Buffer.from('{"type":"ping"}'), { binary: true });
    socket.send(Buffer.alloc(4_096), { binary: true });
    socket.send(`{"type":"ignored"${' '.repeat(4_000)}}`);
    const beforeS = Math.floor(Date.now() / 1_000);
    socket.send('{"type":', { fin: false });
    socket.send('"ping"}', { fin: true });
    socket.send('{"type":"ping","more":1}');
    // An event after all that: by now every answer has arrived.
    await once(socket, 'message');
    const { entityId } = await insertAudit(database.pool, prod);
    await client.received(({ entity_id: id }) => id === entityId);
    const pongs = answers.slice(0, -1) as { type: string; timestamp: number }[];
    expect(pongs.map((pong) => Object.keys(pong))).toStrictEqual([
      ['type', 'timestamp'],
      ['type', 'timestamp'],
    ]);
    for (const { type, timestamp } of pongs) {
      expect(type).toBe('pong');
      expect(Number.isInteger(timestamp)).toBe(true);
      expect(timestamp).toBeGreaterThanOrEqual(beforeS);
      expect(timestamp).toBeLessThanOrEqual(Date.now() / 1_000);
    }
    await client.close();
  });

  it.each([
    ['messages', (socket: WebSocket) => socket.send('{"type":"ping"}')],
    ['pings of the WebSocket', (socket: WebSocket) => socket.ping()],
  ])('100 %s in 10 s are accepted; one more closes only this connection', async (_, send) => {
    const [bystander, client] = await Promise.all([connect(), connect()]);
    for (let count = 0; count < 100; count += 1) send(client.socket);
    const { entityId } = await insertAudit(database.pool, prod);
    for (const each of [bystander, client]) await each.received(({ entity_id: id }) => id === entityId);
    send(client.socket);
    expect(await client.closed).toStrictEqual({ code: 4505, reason: 'too_many_messages' });
    send(bystander.socket);
    const { entityId: later } = await insertAudit(database.pool, prod);
    await bystander.received(({ entity_id: id }) => id === later);
    await bystander.close();
  });

  it.each([
    ['more than 4,096 bytes', 1009, Buffer.from([0x81, 0xfe, 0x10, 0x01, 0, 0, 0, 0])],
    [
      'more bytes than there are',
      1009,
      Buffer.from([0x81, 0xff, 0x7f, ...Array<number>(7).fill(0xff), 0, 0, 0, 0]),
    ],
    ['text that is not UTF-8', 1007, Buffer.from([0x81, 0x82, 0, 0, 0, 0, 0xc3, 0x28])],
    ['an unmasked frame', 1002, Buffer.from([0x81, 0x02, 0x7b, 0x7d])],
    ['an unknown opcode', 1002, Buffer.from([0x83, 0x80, 0, 0, 0, 0])],
    ['a compressed frame', 1002, Buffer.from([0xc1, 0x82, 0, 0, 0, 0, 0x7b, 0x7d])],
    ['no WebSocket frame at all', 1002, Buffer.from('GET / HTTP/1.1\r\n\r\n')],
  ])('%s closes only its connection, with %i', async (_, code, bytes) => {
    const bystander = await connect();
    const { socket } = await handshake(server.wsUrl, `project_id=${project.projectId}&env=prod`, {
      Authorization: `Bearer ${root.token}`,
    });
    socket?.write(bytes);
    const answer = await readUntil(socket, (received) => received.length >= 4);
    expect([answer[0], answer.readUInt16BE(2)]).toStrictEqual([0x88, code]);
    socket?.destroy();
    const { entityId } = await insertAudit(database.pool, prod);
    await bystander.received(({ entity_id: id }) => id === entityId);
    await bystander.close();
  });
});
