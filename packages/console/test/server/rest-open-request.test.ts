import { describe, expect, it } from 'vitest';
import {
  type Answer,
  decide,
  historyOf,
  useRestFixture,
  requestChange,
} from '../../../server/test/rest-fixture.js';
import { createUser } from '../../../server/test/server.js';

const rest = await useRestFixture({ guarded: true });

async function patch(featureId: string, env: string, change: object): Promise<Answer> {
  const version = await rest.version(featureId, env);
  return await rest.ask('alice', 'PATCH', `/api/features/${featureId}`, { env, version, ...change });
}

/** A request of the host's for a rule of the feature, which may be listed under another entity than the feature. */
async function requestRule(featureId: string): Promise<string> {
  const { rows } = await rest.pool.query<{ id: string }>(
    `WITH made AS (
       INSERT INTO pending_changes (project_id, environment_id, requested_by, change)
       VALUES ($1, $2, 'bob', jsonb_build_object('entities', jsonb_build_array(jsonb_build_object(
         'entity', 'rule', 'entity_id', '7b1d0a10-0000-4000-8000-00000000abcd', 'action', 'insert',
         'changes', jsonb_build_object('feature_id', jsonb_build_object('old', null, 'new', $3::text))))))
       RETURNING id
     ), listed AS (
       INSERT INTO pending_change_entities (pending_change_id, entity, entity_id)
       SELECT id, 'rule', '7b1d0a10-0000-4000-8000-00000000abcd' FROM made
     )
     SELECT id FROM made`,
    [rest.shop.projectId, rest.shop.environments.prod, featureId],
  );
  return rows[0]?.id ?? '';
}

describe('while a request for a feature is open', () => {
  it.each([
    ['name', { name: 'Something else' }],
    ['description', { description: 'Something else' }],
    ['rollout_key', { rollout_key: 'account', reason: 'By account' }],
  ])('its %s stays as the approver saw it, whatever environment it is edited in', async (_, change) => {
    const { featureId, changeId } = await requestChange(rest, 'bob');
    for (const env of ['dev', 'stage', 'prod']) {
      expect(await patch(featureId, env, { reason: 'Why not', ...change })).toMatchObject({
        status: 409,
        body: { code: 'change_pending', pending_change: { id: changeId, requested_by: 'bob' } },
      });
    }
    expect(await patch(featureId, 'dev', { enabled: true, ...change, reason: 'Why not' })).toMatchObject({
      status: expect.toBeOneOf([400, 409]) as number,
    });
    expect(await historyOf(rest.pool, featureId)).toStrictEqual([]);
  });

  it('its enabled and default_value can be changed in the environments without a guard', async () => {
    const { featureId } = await requestChange(rest, 'bob');
    expect(await patch(featureId, 'dev', { enabled: true, default_value: 'b' })).toMatchObject({
      status: 200,
    });
  });

  it('it is not deleted, also after the guard was removed', async () => {
    const { featureId, changeId } = await requestChange(rest, 'bob');
    const remove = async (): Promise<Answer> => {
      const body = { env: 'dev', version: await rest.version(featureId, 'dev'), reason: 'Unused' };
      return await rest.ask('alice', 'DELETE', `/api/features/${featureId}`, body);
    };
    const refused = { status: 409, body: { code: 'change_pending', pending_change: { id: changeId } } };
    expect(await remove()).toMatchObject(refused);
    await rest.pool.query('DELETE FROM flagcast.guarded_environments');
    expect(await remove()).toMatchObject(refused);
    await rest.guard(rest.shop.environments.prod);
  });

  it('a request for one of its rules locks its shared fields, too', async () => {
    const { id } = await rest.addFeature();
    const changeId = await requestRule(id);
    expect(await patch(id, 'dev', { name: 'Something else' })).toMatchObject({
      status: 409,
      body: { code: 'change_pending', pending_change: { id: changeId } },
    });
  });

  it('its shared fields can be changed again once the request is decided', async () => {
    const { featureId, changeId } = await requestChange(rest, 'bob');
    await decide(rest, 'alice', changeId, 'reject');
    expect(await patch(featureId, 'dev', { name: 'Something else' })).toMatchObject({ status: 200 });
  });
});

describe('a request of a user who is no longer active', () => {
  it('is marked in the list and with its feature, and can still be approved', async () => {
    const { featureId, changeId } = await requestChange(rest, 'bob');
    const marks = async (): Promise<unknown[]> => {
      const paths = ['/api/pending-changes', `/api/features/${featureId}?env=prod`];
      const answers = await Promise.all(paths.map(async (path) => await rest.ask('carol', 'GET', path)));
      return answers.map(({ body }) => {
        const changes = body['pending_changes'] as { id: string; requester_active: boolean }[];
        return changes.find(({ id }) => id === changeId)?.requester_active;
      });
    };
    expect(await marks()).toStrictEqual([true, true]);
    await rest.pool.query('UPDATE users SET is_active = false WHERE id = $1', [rest.users.bob.id]);
    expect(await marks()).toStrictEqual([false, false]);
    expect(await decide(rest, 'alice', changeId, 'approve')).toMatchObject({ status: 200 });
    await rest.pool.query('UPDATE users SET is_active = true WHERE id = $1', [rest.users.bob.id]);
  });

  it('is marked when the user was deleted, or is known by name only', async () => {
    const leaver = await createUser(rest.pool, 'leaver');
    const { rows } = await rest.pool.query<{ id: string }>(
      `WITH made AS (
         INSERT INTO pending_changes (project_id, environment_id, requested_by, request_user_id, change)
         SELECT $1, $2, 'leaver', user_id, '{}' FROM unnest(ARRAY[$3::int, NULL]) AS user_id RETURNING id
       )
       INSERT INTO pending_change_entities (pending_change_id, entity, entity_id)
       SELECT id, 'rule', gen_random_uuid() FROM made RETURNING pending_change_id AS id`,
      [rest.shop.projectId, rest.shop.environments.prod, leaver.id],
    );
    const ids = rows.map(({ id }) => id);
    const marks = async (): Promise<boolean[]> => {
      const { body } = await rest.ask('carol', 'GET', '/api/pending-changes');
      const changes = body['pending_changes'] as { id: string; requester_active: boolean }[];
      return changes.filter(({ id }) => ids.includes(id)).map((change) => change.requester_active);
    };
    expect(await marks()).toStrictEqual([true, true]);
    await rest.pool.query('DELETE FROM users WHERE id = $1', [leaver.id]);
    expect(await marks()).toStrictEqual([false, false]);
  });
});
