import { randomUUID } from 'node:crypto';
import { CloseCode, type EventMessage } from '@flagcast/protocol';
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import { eventLine, jsonLine } from '../src/cli/tail.js';
import { RunningCommand, runHere } from './command.js';
import {
  createTestDatabase,
  decideRequest,
  insertAudit,
  insertRequest,
  seedProject,
  type SeededProject,
  type TestDatabase,
} from './database.js';
import { FaultyProxy } from '../../../testing/testkit/faulty-proxy.ts';
import { freePort } from '../../../testing/testkit/program.ts';
import { ScriptedServer, scriptedEvent } from './scripted-server.js';
import { addMember, createUser, startTestServer, type TestServer, type TestUser } from './server.js';

let database: TestDatabase;
let server: TestServer;
let project: SeededProject;
let viewer: TestUser;
let stranger: TestUser;
let deleted: TestUser;
const undo: (() => Promise<void>)[] = [];

beforeAll(async () => {
  database = await createTestDatabase({ schema: 'tables' });
  server = await startTestServer(database.url);
  project = await seedProject(database.pool, { name: 'Web shop' });
  viewer = await createUser(database.pool, 'carol');
  stranger = await createUser(database.pool, 'dave');
  deleted = await createUser(database.pool, 'frank');
  await database.pool.query("DELETE FROM users WHERE username = 'frank'");
  await addMember(database.pool, project.projectId, viewer.id, 'project_viewer');
});

afterEach(async () => {
  for (const step of undo.splice(0).reverse()) await step();
});

afterAll(async () => {
  await server.close();
  await database.drop();
});

/** For the channel Web shop / prod as carol, with the changes in `changes`. */
function tailArguments(changes: Record<string, string>): string[] {
  const values = { url: server.httpUrl, project: 'Web shop', env: 'prod', token: viewer.token, ...changes };
  return ['tail', ...Object.entries(values).flatMap(([name, value]) => [`--${name}`, value])];
}

function startTail(changes: Record<string, string> = {}, flags: readonly string[] = []): RunningCommand {
  const tail = new RunningCommand([...tailArguments(changes), ...flags]);
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
  it('prints a line for each event of the channel: time, type, actor, entity, feature, id', async () => {
    const featureId = randomUUID();
    await database.pool.query(
      `INSERT INTO features (id, project_id, key, name, kind) VALUES ($1, $2, 'guest-checkout', 'Guests', 'simple')`,
      [featureId, project.projectId],
    );
    const tail = startTail();
    await tail.errorLine(watching);
    const other = project.environments.stage;
    await insertAudit(database.pool, { projectId: project.projectId, environmentId: other });
    const { prod: environmentId } = project.environments;
    await insertAudit(database.pool, { projectId: project.projectId, environmentId, featureId });
    const line = await tail.line((text) => text.includes(featureId));
    expect(line).toMatch(
      new RegExp(
        `^\\d{4}-\\d\\d-\\d\\dT\\d\\d:\\d\\d:\\d\\d\\.\\d{3}Z  feature_updated {11}alice {9}feature {11}guest-checkout {12}${featureId}$`,
      ),
    );
    expect(tail.stdout).toBe(`${line}\n`);
    tail.signal('SIGINT');
    expect(await tail.ended).toMatchObject({
      code: 0,
      stderr: `flagcast: watching Web shop / prod at ${server.httpUrl}\n`,
    });
  });

  it('accepts the id of a project, and with --json prints messages as the server sent them', async () => {
    const tail = startTail({ project: project.projectId }, ['--json']);
    await tail.errorLine(watching);
    const featureId = await change();
    const message: unknown = JSON.parse(await tail.line((text) => text.includes(featureId)));
    expect(Object.keys(message as object).sort()).toEqual([
      'action',
      'actor',
      'committed_at',
      'cursor',
      'entity',
      'entity_id',
      'environment',
      'environment_id',
      'feature',
      'feature_id',
      'id',
      'pending_change_id',
      'project_id',
      'row_id',
      'seen_at',
      'source',
      'timestamp',
      'type',
    ]);
  });

  it('retries until the server answers', async () => {
    const port = await freePort();
    const tail = startTail({ url: `http://127.0.0.1:${port}` });
    await tail.errorLine((line) => /not connected: .*ECONNREFUSED.*; retrying/.test(line));
    const relay = await FaultyProxy.open([Number(new URL(server.httpUrl).port)], { port });
    undo.push(async () => await relay.close());
    await tail.errorLine(watching);
  });

  it('ends without an error when the reader closes its output', async () => {
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
      /sees no project "Web shop"; give the token of a user who may view it: --token/,
    ],
    [
      'its id',
      (): object => ({ token: stranger.token, project: project.projectId }),
      /may not see this project.*project\.view/,
    ],
    [
      'an environment that is none',
      (): object => ({ env: 'test' }),
      /no environment "test"; give one of prod, stage, dev/,
    ],
    [
      'a project that is none',
      (): object => ({ project: '11111111-1111-4111-8111-111111111111' }),
      /no project with this project_id/,
    ],
    [
      'a user who does not exist',
      (): object => ({ token: deleted.token }),
      /user of the token does not exist.*--token "\$\(flagcast token/,
    ],
    ['a token that is none', (): object => ({ token: 'nonsense' }), /HTTP 401.*token/],
    ['a server that is none', (): object => ({ url: 'nonsense' }), /--url/],
  ])('ends with one line for %s', async (_case, changes, problem) => {
    const { code, stdout, stderr } = await runHere(tailArguments(changes() as Record<string, string>));
    expect({ code, stdout }).toEqual({ code: 1, stdout: '' });
    expect(stderr).toMatch(/^flagcast: [^\n]+\n$/);
    expect(stderr).toMatch(problem);
  });

  it('ends with one line when its token expires', async () => {
    const { token } = await createUser(database.pool, 'erin', { superuser: true, ttlMs: 8_000 });
    const tail = startTail({ token });
    const { code, stderr } = await tail.ended;
    expect(code).toBe(1);
    expect(stderr.trimEnd().split('\n').at(-1)).toBe(
      'flagcast: The token has expired; start again with a new one, see flagcast token --help',
    );
    expect(stderr).not.toContain(token);
  });

  it('reconnects or ends as the close code says, and prints the code', async () => {
    const scripted = await ScriptedServer.open();
    undo.push(async () => await scripted.close());
    const tail = startTail({ url: scripted.url });
    await tail.errorLine(watching);
    (await scripted.connection()).end(CloseCode.slow, 'said why');
    await tail.errorLine((line) => line === 'flagcast: live');
    (await scripted.connection()).end(CloseCode.forbidden, 'no more');
    const { code, stderr } = await tail.ended;
    expect(code).toBe(1);
    expect(
      stderr
        .trimEnd()
        .split('\n')
        .filter((line) => line !== 'flagcast: catching up'),
    ).toEqual([
      `flagcast: watching Web shop / prod at ${scripted.url}`,
      expect.stringMatching(
        /^flagcast: stale since \d\d:\d\d:\d\d, connecting again \(close code 4002: said why\)$/,
      ),
      'flagcast: live',
      'flagcast: Refused: no more (close code 4503)',
    ]);
  });
});

describe('tail --approvals', () => {
  function startFeed(...flags: readonly string[]): RunningCommand {
    const tail = new RunningCommand([
      ...['tail', '--approvals', '--url', server.httpUrl, '--token', viewer.token],
      ...flags,
    ]);
    undo.push(async () => await tail.end());
    return tail;
  }

  it('prints a line for each step of a request that the user may view: time, action, actor, environment, feature, reason', async () => {
    const tail = startFeed();
    await tail.errorLine((line) => line === `flagcast: watching the approvals feed at ${server.httpUrl}`);
    const foreign = await seedProject(database.pool);
    const { prod, stage } = project.environments;
    await insertRequest(database.pool, {
      projectId: foreign.projectId,
      environmentId: foreign.environments.prod,
    });
    const one = await insertRequest(database.pool, { projectId: project.projectId, environmentId: prod });
    await decideRequest(database.pool, one.id, 'rejected');
    const other = await insertRequest(database.pool, { projectId: project.projectId, environmentId: stage });
    await tail.line((line) => line.includes('Web shop / stage'));
    const [key, otherKey] = [one, other].map(({ featureId }) => `flag-${featureId.slice(0, 8)}`.padEnd(24));
    expect(tail.stdout.replace(/^[\dT:.-]+Z/gm, 'TIME')).toBe(
      [
        `TIME  pending    ada           Web shop / prod           ${key}  because`,
        `TIME  rejected   root          Web shop / prod           ${key}  not on Fridays`,
        `TIME  pending    ada           Web shop / stage          ${otherKey}  because`,
        '',
      ].join('\n'),
    );
  });

  it('resumes after a lost connection, with --json', async () => {
    const serverPort = Number(new URL(server.httpUrl).port);
    const proxy = await FaultyProxy.open([serverPort]);
    const { port } = proxy;
    const tail = startFeed('--json', '--url', `http://127.0.0.1:${port}`);
    await tail.errorLine((line) => line.includes('watching the approvals feed'));
    await proxy.close();
    await tail.errorLine((line) => line.includes('stale since'));
    const channel = { projectId: project.projectId, environmentId: project.environments.prod };
    const { id } = await insertRequest(database.pool, channel);
    await decideRequest(database.pool, id, 'approved');
    const back = await FaultyProxy.open([serverPort], { port });
    undo.push(async () => await back.close());
    // The line of `pending` contains `approved`, too: it has the request as it is now.
    await tail.line((line) => {
      const event = JSON.parse(line) as EventMessage;
      return event.pending_change_id === id && event.action === 'approved';
    });
    const actions = tail.stdout
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line) as EventMessage)
      // Steps of the last moments before the start may be sent at the resume: a crash could have undone them.
      .filter(({ pending_change_id: request }) => request === id)
      .map(({ feed, action }) => [feed, action]);
    expect(actions).toEqual([
      ['approvals', 'pending'],
      ['approvals', 'approved'],
    ]);
    tail.signal('SIGINT');
    expect((await tail.ended).stderr).not.toContain('missing');
  });

  it('reports that events may be missing when the rights of its user change', async () => {
    const tail = startFeed();
    await tail.errorLine((line) => line.includes('watching the approvals feed'));
    const { projectId } = await seedProject(database.pool);
    await addMember(database.pool, projectId, viewer.id, 'project_viewer');
    await tail.errorLine(
      (line) => line === 'flagcast: events may be missing here: what this user may view has changed',
    );
  });

  it('takes no environment', async () => {
    const { code, stderr } = await runHere([...tailArguments({}), '--approvals']);
    expect({ code, stderr }).toEqual({
      code: 2,
      stderr: 'flagcast: --approvals takes no --project and no --env; see flagcast tail --help\n',
    });
  });
});

describe('tail reports missing events after a resync', () => {
  it.each([
    ['a WebSocket', true],
    ['server-sent events', false],
  ])('over %s', async (_line, webSockets) => {
    const scripted = await ScriptedServer.open({ webSockets });
    undo.push(async () => await scripted.close());
    const tail = startTail({ url: scripted.url });
    await tail.errorLine(watching);
    (await scripted.connection()).send({
      type: 'resync',
      project_id: 'p',
      environment: 'prod',
      environment_id: '1',
      reason: 'too_many_missed',
    });
    await tail.errorLine((line) => /events are missing here: .*too_many_missed/.test(line));
  });
});

describe('a line of tail', () => {
  const event = { ...scriptedEvent(1), entity: 'rule', action: 'pending', type: 'pending_change_created' };

  it('is coloured by its action, on terminals only', () => {
    const plain = eventLine(event);
    expect(plain).toBe(
      '2025-09-26T12:00:00Z  pending_change_created    alice         rule              -                         f1\n',
    );

    vi.stubEnv('FORCE_COLOR', '1');
    const colored = eventLine(event);
    vi.unstubAllEnvs();
    expect(colored.replace(/\x1b\[\d+m/g, '')).toBe(plain);
    expect(colored).not.toBe(plain);
  });

  it('has the key of a guarded environment, and a shortened actor', () => {
    const guarded = {
      ...event,
      type: 'environment_updated',
      actor: 'owner (flagcast guard)',
      entity: 'environment',
      entity_id: '00000000-0000-0000-0000-000000000000',
      environment: 'prod',
      environment_id: '7',
      feature: null,
    };
    expect(eventLine(guarded)).toBe(
      '2025-09-26T12:00:00Z  environment_updated       owner (flag…  environment       prod                      7\n',
    );
  });

  it('has no control characters, with any row', () => {
    const evil = { ...event, type: 'a\x1b[2J', actor: '\x9b2J', entity_id: 'b\r\nc\x07\u202e\u{e0001}' };

    for (const line of [eventLine(evil), jsonLine(evil)]) {
      expect(line).not.toMatch(/[\x00-\x09\x0b-\x1f\x7f-\x9f]|\p{Cf}/u);
      expect(line.split('\n')).toHaveLength(2);
    }
    expect(JSON.parse(jsonLine(evil))).toEqual(evil);
  });
});
