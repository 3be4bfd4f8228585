import { hashSync } from 'bcryptjs';
import { describe, expect, it } from 'vitest';
import { install } from '../../../server/src/install/install.js';
import { withClient } from '../../../server/test/database.js';
import {
  type Answer,
  historyOf,
  useTogglrRestFixture,
  type UserName,
  send,
  seenBy,
} from '../../../server/test/rest-fixture.js';
import { startTestServer } from '../../../server/test/server.js';

const { rest, host } = await useTogglrRestFixture();

async function addTaggedFeature(slug = 'guarded'): Promise<string> {
  const { id } = await rest.addFeature();
  await rest.pool.query(
    `INSERT INTO feature_tags (feature_id, tag_id) SELECT $1, id FROM tags WHERE project_id = $2 AND slug = $3`,
    [id, rest.shop.projectId, slug],
  );
  return id;
}

async function write(who: UserName, method: 'PATCH' | 'DELETE', id: string, body: object): Promise<Answer> {
  return await rest.ask(who, method, `/api/features/${id}`, {
    env: 'dev',
    version: await rest.version(id, 'dev'),
    reason: 'The launch is today',
    ...body,
  });
}

describe('a feature with the tag guarded', () => {
  it.each([
    ['enabled', 'prod', { enabled: true }, false],
    ['enabled', 'dev', { enabled: true }, false],
    ['default_value', 'stage', { default_value: 'b' }, ''],
    ['name', 'dev', { name: 'Renamed' }, 'A flag'],
    ['description', 'dev', { description: 'Described again' }, null],
    ['rollout_key', 'dev', { rollout_key: 'account' }, null],
  ])('turns a write of %s in %s into the request that Togglr writes', async (field, env, change, old) => {
    const id = await addTaggedFeature();
    const answer = await write('alice', 'PATCH', id, {
      env,
      version: await rest.version(id, env),
      ...change,
    });
    expect(answer).toMatchObject({ status: 202, body: { pending_change: { environment: env } } });
    expect(await historyOf(rest.pool, id)).toStrictEqual([]);
    const { rows } = await rest.pool.query(
      `SELECT c.change, c.status, c.requested_by, c.request_user_id::text AS user_id, e.key AS environment,
         (SELECT json_agg(json_build_object('entity', p.entity, 'entity_id', p.entity_id))
          FROM pending_change_entities p WHERE p.pending_change_id = c.id) AS entities
       FROM pending_changes c JOIN environments e ON e.id = c.environment_id WHERE c.id = $1`,
      [answer.body.pending_change?.id],
    );
    expect(rows).toStrictEqual([
      {
        change: {
          entities: [
            {
              entity: 'feature',
              entity_id: id,
              action: 'update',
              changes: { [field]: { old, new: Object.values(change)[0] as unknown } },
            },
          ],
          meta: { reason: 'The launch is today', client: 'console', origin: 'api' },
        },
        status: 'pending',
        requested_by: 'alice',
        user_id: rest.users.alice.id,
        environment: env,
        entities: [{ entity: 'feature', entity_id: id }],
      },
    ]);
  });

  it('turns its deletion into a request', async () => {
    const id = await addTaggedFeature();
    expect(await write('alice', 'DELETE', id, {})).toMatchObject({
      status: 202,
      body: { pending_change: { environment: 'dev', entities: [{ entity_id: id, action: 'delete' }] } },
    });
  });

  it('asks for a reason in every environment', async () => {
    const id = await addTaggedFeature();
    expect(await write('alice', 'PATCH', id, { enabled: true, reason: undefined })).toMatchObject({
      status: 400,
      body: { code: 'invalid', fields: { reason: expect.stringContaining('guarded') as string } },
    });
  });

  it('is not guarded by other tags', async () => {
    const id = await addTaggedFeature('critical');
    expect(await write('alice', 'PATCH', id, { enabled: true })).toMatchObject({ status: 200 });
  });
});

describe('tags', () => {
  it('cause a refusal of the write while the server cannot read them', async () => {
    const server = await startTestServer(host.urlOf(host.backend), { writes: true });
    const { pool } = rest;
    const id = await addTaggedFeature();
    const path = `/api/features/${id}`;
    const headers = { Authorization: `Bearer ${rest.users.alice.token}` };
    const patch = async (): Promise<Answer> => {
      const version = await rest.version(id, 'dev');
      const body = { env: 'dev', version, enabled: true, reason: 'Now' };
      return await send(server.httpUrl, 'PATCH', path, body, headers);
    };
    const refused = {
      status: 503,
      body: { code: 'guard_unreadable', message: expect.stringContaining('feature_tags') as string },
    };
    await pool.query(`REVOKE SELECT ON feature_tags FROM ${host.backend}`);
    expect(await patch()).toMatchObject(refused);
    await pool.query(`GRANT SELECT ON feature_tags TO ${host.backend}`);
    await pool.query('ALTER TABLE feature_tags ENABLE ROW LEVEL SECURITY');
    expect(await patch()).toMatchObject(refused);
    await pool.query('ALTER TABLE feature_tags DISABLE ROW LEVEL SECURITY');
    await pool.query('ALTER TABLE tags RENAME COLUMN slug TO label');
    expect(await patch()).toMatchObject(refused);
    await pool.query('ALTER TABLE tags RENAME COLUMN label TO slug');
    expect(await patch()).toMatchObject({ status: 202 });
    await server.close();
  });

  it('apply as soon as their tables exist', async () => {
    const { pool } = rest;
    await pool.query('ALTER TABLE feature_tags RENAME TO feature_tags_later');
    const { id } = await rest.addFeature();
    expect(await write('alice', 'PATCH', id, { enabled: true })).toMatchObject({ status: 200 });
    await pool.query('ALTER TABLE feature_tags_later RENAME TO feature_tags');
    const tagged = await addTaggedFeature();
    expect(await write('alice', 'PATCH', tagged, { enabled: true })).toMatchObject({ status: 202 });
  });
});

describe('a server with the role of install --role --writes', () => {
  it('changes, requests, approves, deletes and guards', async () => {
    const { pool } = rest;
    const role = `writer_${rest.shop.projectId.slice(0, 8)}`;
    await withClient(host.database.url, async (client) => {
      await install(client, { role, writes: true });
      await client.query(`ALTER ROLE ${role} PASSWORD 'secret'`);
      await client.query(`UPDATE users SET password_hash = $1`, [hashSync('correct horse', 4)]);
    });
    const server = await startTestServer(host.urlOf(role), { writes: true });
    const ask = async (who: UserName, method: string, path: string, body: object): Promise<Answer> =>
      await send(server.httpUrl, method, path, body, {
        Authorization: `Bearer ${rest.users[who].token}`,
      });
    const { projectId, environments } = rest.shop;
    const made = await ask('alice', 'POST', '/api/features', {
      project_id: projectId,
      key: 'made',
      name: 'Made',
    });
    expect(made).toMatchObject({ status: 201 });
    const path = `/api/features/${String(made.body['id'])}`;
    const basis = async (): Promise<object> => ({
      env: 'dev',
      version: await rest.version(String(made.body['id']), 'dev'),
      reason: 'Now',
    });
    const change = { enabled: true, name: 'Changed' };
    expect(await ask('alice', 'PATCH', path, { ...(await basis()), ...change })).toMatchObject({
      status: 200,
    });
    const guard = `/api/environments/${environments.dev}`;
    expect(await ask('alice', 'PATCH', guard, { guarded: true })).toMatchObject({ status: 200 });
    for (const [method, asked] of [
      ['PATCH', { enabled: false, description: 'Asked for' }],
      ['DELETE', {}],
    ] as const) {
      const answer = await ask('alice', method, path, { ...(await basis()), ...asked });
      expect(answer).toMatchObject({ status: 202 });
      const changeId = answer.body.pending_change?.id ?? '';
      const seen = await seenBy({ ask }, 'erin', changeId);
      const approval = `/api/pending-changes/${changeId}/approve`;
      expect(await ask('erin', 'POST', approval, { ...seen, password: 'correct horse' })).toMatchObject({
        status: 200,
      });
    }
    expect(await ask('alice', 'PATCH', guard, { guarded: false })).toMatchObject({ status: 200 });
    await server.close();
    await pool.query(`DROP OWNED BY ${role}`);
  });
});
