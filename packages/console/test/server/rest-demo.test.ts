import { afterAll, beforeAll, expect, it } from 'vitest';
import { signToken } from '../../../server/src/auth/sign-token.js';
import { createTestDatabase, type TestDatabase } from '../../../server/test/database.js';
import { type Answer, send, seenOf } from '../../../server/test/rest-fixture.js';
import { startTestServer, type TestServer, testSecret } from '../../../server/test/server.js';

let database: TestDatabase;
let server: TestServer;

beforeAll(async () => {
  database = await createTestDatabase({ schema: 'demo' });
  server = await startTestServer(database.url, { writes: true });
});

afterAll(async () => {
  await server.close();
  await database.drop();
});

async function ask(username: string, method: string, path: string, sent?: object): Promise<Answer> {
  const { rows } = await database.pool.query<{ id: string }>(
    'SELECT id::text AS id FROM users WHERE username = $1',
    [username],
  );
  const userId = rows[0]?.id ?? '';
  const token = await signToken({ secret: testSecret, userId, username, ttlMs: 60_000 });
  return await send(server.httpUrl, method, path, sent, { Authorization: `Bearer ${token}` });
}

it('the demo guards the prod environments and no others', async () => {
  const { body } = await ask('root', 'GET', '/api/projects');
  const projects = body['projects'] as { environments: { key: string; guarded: boolean }[] }[];
  expect(projects).toHaveLength(3);
  for (const { environments } of projects) {
    expect(environments.map(({ key, guarded }) => [key, guarded])).toStrictEqual([
      ['prod', true],
      ['stage', false],
      ['dev', false],
    ]);
  }
});

it('each open request of the demo can be approved by another user, and is in the history', async () => {
  const { body } = await ask('root', 'GET', '/api/pending-changes');
  const open = body['pending_changes'] as {
    id: string;
    project_id: string;
    environment: string;
    requested_by: string;
    may_decide: boolean;
    entities: {
      entity: string;
      entity_id: string;
      feature_id: string | null;
      feature_name: string | null;
      diff: object[];
    }[];
  }[];
  expect(open.length).toBeGreaterThanOrEqual(4);
  for (const change of open) {
    expect(change).toMatchObject({ environment: 'prod', may_decide: true });
    for (const { feature_name: name, diff } of change.entities) {
      expect(name).not.toBe(null);
      expect(diff.length).toBeGreaterThan(0);
    }
    expect(
      await ask('root', 'POST', `/api/pending-changes/${change.id}/approve`, seenOf({ ...change })),
    ).toMatchObject({
      status: 200,
      body: { status: 'approved', by: 'root' },
    });
    const query = new URLSearchParams({ project_id: change.project_id, env: 'prod', username: 'root' });
    const history = await ask('alice', 'GET', `/api/audit?${query.toString()}`);
    expect(history.body['entries']).toContainEqual(
      expect.objectContaining({ entity_id: change.entities[0]?.entity_id, username: 'root' }),
    );
  }
});
