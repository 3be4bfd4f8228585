import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { CloseCode } from '@flagcast/protocol';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { WebSocketServer } from 'ws';
import { eventLine } from '../src/cli/tail-line.js';
import { RunningCommand } from './command.js';
import {
  createTestDatabase,
  insertAudit,
  seedProject,
  type SeededProject,
  type TestDatabase,
} from './database.js';
import { Relay, unusedPort } from './relay.js';
import { addMember, createUser, startTestServer, type TestServer, type TestUser } from './server.js';

let database: TestDatabase;
let server: TestServer;
let project: SeededProject;
let viewer: TestUser;
let stranger: TestUser;
const undo: (() => Promise<void>)[] = [];

beforeAll(async () => {
  database = await createTestDatabase({ schema: 'tables' });
  server = await startTestServer(database.url);
  project = await seedProject(database.pool, { name: 'Web shop' });
  viewer = await createUser(database.pool, 'carol');
  stranger = await createUser(database.pool, 'dave');
  await addMember(database.pool, project.projectId, viewer.id, 'project_viewer');
});

afterEach(async () => {
  for (const step of undo.splice(0).reverse()) await step();
});

afterAll(async () => {
  await server.close();
  await database.drop();
});

/** `tail` of the channel Web shop / prod as carol, but for what `changes` says. */
function startTail(changes: Record<string, string> = {}, flags: readonly string[] = []): RunningCommand {
  const values = { url: server.httpUrl, project: 'Web shop', env: 'prod', token: viewer.token, ...changes };
  const args = Object.entries(values).flatMap(([name, value]) => [`--${name}`, value]);
  const tail = new RunningCommand(['tail', ...args, ...flags]);
  undo.push(async () => await tail.end());
  return tail;
}

const watching = (line: string): boolean => line.includes('watching Web shop / prod');

async function change(): Promise<string> {
  const { prod: environmentId } = project.environments;
  const { featureId } = await insertAudit(database.pool, { projectId: project.projectId, environmentId });
  return featureId;
}

describe('tail', () => {
  it('prints a line for each event of the channel: time, type, entity, id', async () => {
    const tail = startTail();
    await tail.errorLine(watching);
    const other = project.environments.stage;
    await insertAudit(database.pool, { projectId: project.projectId, environmentId: other });
    const featureId = await change();
    const line = await tail.line((text) => text.includes(featureId));
    expect(line).toMatch(
      new RegExp(
        `^\\d{4}-\\d\\d-\\d\\dT\\d\\d:\\d\\d:\\d\\d\\.\\d{3}Z  feature_updated {11}feature {11}${featureId}$`,
      ),
    );
    expect(tail.stdout).toBe(`${line}\n`);
    tail.signal('SIGINT');
    expect((await tail.ended).code).toBe(0);
  });

  it('takes the id of a project, and with --json prints what the server sent', async () => {
    const tail = startTail({ project: project.projectId }, ['--json']);
    await tail.errorLine(watching);
    const featureId = await change();
    const message: unknown = JSON.parse(await tail.line((text) => text.includes(featureId)));
    expect(Object.keys(message as object)).toEqual([
      'source',
      'type',
      'timestamp',
      'project_id',
      'environment',
      'entity',
      'entity_id',
      'action',
    ]);
  });

  it('connects again by itself when the line breaks', async () => {
    const relay = await Relay.open(Number(new URL(server.httpUrl).port));
    undo.push(async () => await relay.close());
    const tail = startTail({ url: `http://127.0.0.1:${relay.port}` });
    await tail.errorLine(watching);
    relay.cut();
    await tail.errorLine((line) => line.includes('connected again'));
    const featureId = await change();
    await tail.line((text) => text.includes(featureId));
  });

  it('waits for a server that is not there yet', async () => {
    const port = await unusedPort();
    const tail = startTail({ url: `http://127.0.0.1:${port}` });
    await tail.errorLine((line) => /not connected: .*ECONNREFUSED/.test(line));
    const relay = await Relay.open(Number(new URL(server.httpUrl).port), port);
    undo.push(async () => await relay.close());
    await tail.errorLine(watching);
  });

  it('ends quietly when nobody reads its output any more', async () => {
    const tail = startTail();
    await tail.errorLine(watching);
    const [first] = await Promise.all([change(), tail.line(() => true)]);
    expect(tail.stdout).toContain(first);
    tail.process.stdout?.destroy();
    await change();
    const { code, stderr } = await tail.ended;
    expect(code).toBe(0);
    expect(stderr.trimEnd().split('\n')).toHaveLength(1);
  });

  it.each([
    [
      'a project that the user does not see',
      (): object => ({ token: stranger.token }),
      /sees no project "Web shop"/,
    ],
    [
      'its id',
      (): object => ({ token: stranger.token, project: project.projectId }),
      /HTTP 403.*project\.view/,
    ],
    [
      'an environment that is none',
      (): object => ({ env: 'test' }),
      /no environment "test"; give one of prod, stage, dev/,
    ],
    [
      'a project that is none',
      (): object => ({ project: '11111111-1111-4111-8111-111111111111' }),
      /HTTP 404.*no project/,
    ],
    ['a token that is none', (): object => ({ token: 'nonsense' }), /HTTP 401.*token/],
    ['a server that is none', (): object => ({ url: 'nonsense' }), /--url/],
  ])('ends with one line for %s', async (_case, changes, problem) => {
    const { code, stdout, stderr } = await startTail(changes() as Record<string, string>).ended;
    expect({ code, stdout }).toEqual({ code: 1, stdout: '' });
    expect(stderr).toMatch(/^flagcast: [^\n]+\n$/);
    expect(stderr).toMatch(problem);
  });

  it('ends with one line when its token runs out', async () => {
    const { token } = await createUser(database.pool, 'erin', { superuser: true, ttlMs: 2_000 });
    const tail = startTail({ token });
    const { code, stderr } = await tail.ended;
    expect(code).toBe(1);
    expect(stderr).toMatch(/close code 4001.*\n.*HTTP 401.*expired.*\n$/s);
    expect(stderr).not.toContain(token);
  });

  it('reconnects or gives up as the close code says', async () => {
    const codes = [CloseCode.slow, CloseCode.forbidden];
    const http = createServer((_request, response) => {
      const environments = [{ id: '1', key: 'prod', name: 'Production' }];
      response.end(JSON.stringify({ projects: [{ id: 'p', name: 'Web shop', environments }] }));
    });
    const sockets = new WebSocketServer({ server: http });
    sockets.on('connection', (socket) => socket.close(codes.shift(), 'said why'));
    http.listen(0, '127.0.0.1');
    await once(http, 'listening');
    undo.push(async () => {
      http.closeAllConnections();
      http.close();
      await once(http, 'close');
    });
    const { code, stderr } = await startTail({
      url: `http://127.0.0.1:${(http.address() as AddressInfo).port}`,
    }).ended;
    expect(code).toBe(1);
    expect(stderr.trimEnd().split('\n').slice(-2)).toEqual([
      expect.stringContaining('connected again'),
      'flagcast: The server ended the connection for good: said why (close code 4503)',
    ]);
  });
});

describe('a line of tail', () => {
  const message = {
    source: 'pending',
    type: 'pending_change_created',
    timestamp: '2025-09-26T12:00:00Z',
    project_id: 'p',
    environment: 'prod',
    entity: 'rule',
    entity_id: 'r1',
    action: 'pending',
  };

  it('is coloured by its action, on terminals only', () => {
    const plain = eventLine(JSON.stringify(message), { colors: false });
    expect(plain).toBe('2025-09-26T12:00:00Z  pending_change_created    rule              r1\n');

    expect(eventLine(JSON.stringify(message), { colors: true }).replace(/\x1b\[\d+m/g, '')).toBe(plain);
    expect(eventLine(JSON.stringify(message), { colors: true })).not.toBe(plain);
  });

  it('never steers the terminal, whatever a row holds', () => {
    const evil = { ...message, type: 'a\x1b[2J', entity_id: 'b\r\nc\x07\u202e' };

    expect(eventLine(JSON.stringify(evil), { colors: false })).not.toMatch(/[\x00-\x09\x0b-\x1f\u202e]/);
    expect(eventLine(JSON.stringify(evil), { colors: false }).split('\n')).toHaveLength(2);
  });
});
