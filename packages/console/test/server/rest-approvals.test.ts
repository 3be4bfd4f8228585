import { randomUUID } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { PlainClient } from '../../../server/test/plain-client.js';
import {
  decide,
  historyOf,
  useRestFixture,
  roles,
  type UserName,
  requestChange,
  whileLocked,
} from '../../../server/test/rest-fixture.js';

const rest = await useRestFixture({ guarded: true });
const { projectId } = rest.shop;

async function statusOf(changeId: string): Promise<Record<string, unknown>> {
  const { rows } = await rest.pool.query<Record<string, unknown>>(
    `SELECT status, approved_by, approved_user_id, approved_at IS NOT NULL AS approved, rejected_by,
       rejected_at IS NOT NULL AS rejected, rejection_reason FROM pending_changes WHERE id = $1`,
    [changeId],
  );
  return rows[0] ?? {};
}

describe('a decision', () => {
  it('to approve applies the change in the name of the approver', async () => {
    const { featureId, changeId } = await requestChange(rest, 'bob', { enabled: true });
    const answer = await decide(rest, 'alice', changeId, 'approve');
    expect(answer).toMatchObject({
      status: 200,
      body: { id: changeId, status: 'approved', by: 'alice', at: expect.stringMatching(/Z$/) as string },
    });
    expect(await statusOf(changeId)).toMatchObject({
      status: 'approved',
      approved_by: 'alice',
      approved_user_id: Number(rest.users.alice.id),
      approved: true,
    });
    expect(await historyOf(rest.pool, featureId)).toMatchObject([
      { environment: 'prod', username: 'alice', old_value: { enabled: false }, new_value: { enabled: true } },
    ]);
    const { body } = await rest.ask('bob', 'GET', `/api/features/${featureId}?env=prod`);
    expect(body).toMatchObject({ feature: { enabled: true }, pending_changes: [] });
  });

  it.each(['approve', 'reject'])('to %s needs the versions that the user has seen', async (step) => {
    const { changeId } = await requestChange(rest, 'bob');
    const path = `/api/pending-changes/${changeId}/${step}`;
    for (const body of [undefined, {}, { version: '1' }]) {
      expect(await rest.ask('alice', 'POST', path, body && { ...body, reason: 'No' })).toMatchObject({
        status: 400,
      });
    }
    expect(await statusOf(changeId)).toMatchObject({ status: 'pending' });
  });

  it('to reject keeps the reason; to reject or to cancel changes no flag', async () => {
    const rejected = await requestChange(rest, 'bob');
    expect(await decide(rest, 'alice', rejected.changeId, 'reject', {})).toMatchObject({
      status: 400,
      body: { fields: { reason: 'is missing' } },
    });
    expect(await decide(rest, 'alice', rejected.changeId, 'reject')).toMatchObject({
      status: 200,
      body: { status: 'rejected', by: 'alice' },
    });
    expect(await statusOf(rejected.changeId)).toMatchObject({
      status: 'rejected',
      rejected_by: 'alice',
      rejected: true,
      rejection_reason: 'Not before Monday',
    });
    const cancelled = await requestChange(rest, 'bob');
    expect(await decide(rest, 'bob', cancelled.changeId, 'cancel')).toMatchObject({
      status: 200,
      body: { status: 'cancelled', by: 'bob' },
    });
    for (const { featureId } of [rejected, cancelled]) {
      expect(await historyOf(rest.pool, featureId)).toStrictEqual([]);
    }
  });

  it.each([
    ['approve', { alice: 200, erin: 200, bob: 403, carol: 403, dave: 403, root: 200 }],
    ['reject', { alice: 200, erin: 200, bob: 403, carol: 403, dave: 403, root: 200 }],
    ['cancel', { alice: 403, erin: 403, bob: 200, carol: 403, dave: 403, root: 200 }],
  ])('to %s is allowed by role', async (step, expected: Record<UserName, number>) => {
    const found = {} as Record<UserName, number>;
    for (const who of Object.keys(roles) as UserName[]) {
      const { changeId } = await requestChange(rest, 'bob');
      const { status } = await decide(rest, who, changeId, step);
      found[who] = status;
      expect((await statusOf(changeId))['status'] === 'pending').toBe(status !== 200);
    }
    expect(found).toStrictEqual(expected);
  });

  it('on an own request is refused, whatever permissions the user has', async () => {
    for (const who of ['alice', 'root'] as const) {
      const { changeId } = await requestChange(rest, who);
      for (const step of ['approve', 'reject']) {
        expect(await decide(rest, who, changeId, step)).toMatchObject({
          status: 403,
          body: { code: 'own_change' },
        });
      }
      expect(await statusOf(changeId)).toMatchObject({ status: 'pending' });
    }
    // A host may keep only the name.
    const { id } = await rest.addFeature();
    const { rows } = await rest.pool.query<{ id: string }>(
      `WITH made AS (
         INSERT INTO pending_changes (project_id, environment_id, requested_by, change)
         VALUES ($1, $2, 'alice', $3) RETURNING id
       )
       INSERT INTO pending_change_entities (pending_change_id, entity, entity_id)
       SELECT id, 'feature', $4 FROM made RETURNING pending_change_id AS id`,
      [
        projectId,
        rest.shop.environments.prod,
        { entities: [{ entity: 'feature', entity_id: id, action: 'update', changes: {} }] },
        id,
      ],
    );
    const changeId = rows[0]?.id ?? '';
    expect(await decide(rest, 'alice', changeId, 'approve')).toMatchObject({
      body: { code: 'own_change' },
    });
  });

  it('is made once: the second of two concurrent ones is refused with the user of the first', async () => {
    const { featureId, changeId } = await requestChange(rest, 'bob');
    const lock = { text: 'SELECT FROM pending_changes WHERE id = $1 FOR UPDATE', values: [changeId] };
    const answers = await whileLocked(
      rest.pool,
      lock,
      2,
      async () =>
        await Promise.all([
          decide(rest, 'alice', changeId, 'approve'),
          decide(rest, 'erin', changeId, 'approve'),
        ]),
    );
    const [winner] = answers.filter(({ status }) => status === 200);
    const [loser] = answers.filter(({ status }) => status !== 200);
    expect(loser).toMatchObject({
      status: 409,
      body: { code: 'already_decided', status: 'approved', by: winner?.body['by'], at: winner?.body['at'] },
    });
    expect(loser?.body.message).toContain(`approved by ${String(winner?.body['by'])}`);
    expect(await historyOf(rest.pool, featureId)).toHaveLength(1);
    for (const step of ['approve', 'reject', 'cancel']) {
      expect(await decide(rest, 'root', changeId, step)).toMatchObject({
        body: { code: 'already_decided' },
      });
    }
  });

  it.each([
    ['an entity that it does not list', (_id: string, other: string) => [other]],
    ['an entity twice', (id: string) => [id, id]],
    ['an id in another spelling', (id: string) => [id.toUpperCase()]],
  ])('applies nothing that the request does not show: %s', async (_what, named) => {
    const [{ id }, { id: other }] = [await rest.addFeature(), await rest.addFeature()];
    const ids = named(id, other);
    const entities = ids.map((entityId, index) => ({
      entity: 'feature',
      entity_id: entityId,
      action: 'update',
      changes: index === 0 && ids.length > 1 ? {} : { enabled: { old: false, new: true } },
    }));
    const { rows } = await rest.pool.query<{ id: string }>(
      `WITH request AS (
         INSERT INTO pending_changes (project_id, environment_id, requested_by, change) VALUES ($1, $2, 'bob', $3)
         RETURNING id)
       INSERT INTO pending_change_entities (pending_change_id, entity, entity_id)
       SELECT id, 'feature', $4 FROM request RETURNING pending_change_id AS id`,
      [projectId, rest.shop.environments.prod, { entities }, id],
    );
    const changeId = rows[0]?.id ?? '';
    expect(await decide(rest, 'alice', changeId, 'approve')).toMatchObject({
      status: 409,
      body: { code: 'unsupported_change' },
    });
    expect(await statusOf(changeId)).toMatchObject({ status: 'pending' });
    expect(await decide(rest, 'alice', changeId, 'reject')).toMatchObject({ status: 200 });
  });

  it('on a request that does not exist is refused as unknown', async () => {
    for (const id of [randomUUID(), 'x', '%00']) {
      expect(await decide(rest, 'root', id, 'approve')).toMatchObject({
        status: 404,
        body: { code: 'unknown_change' },
      });
    }
  });
});

describe('a field that changed after the request', () => {
  it('is a conflict that names the fields, and nothing is applied', async () => {
    const { featureId, changeId } = await requestChange(rest, 'alice', {
      enabled: true,
      default_value: 'blue',
    });
    await rest.pool.query(
      `UPDATE feature_params SET default_value = 'red' WHERE feature_id = $1 AND environment_id = $2`,
      [featureId, rest.shop.environments.prod],
    );
    const answer = await decide(rest, 'erin', changeId, 'approve');
    expect(answer).toMatchObject({ status: 409, body: { code: 'conflict' } });
    expect(answer.body['conflicts']).toStrictEqual([
      {
        entity: 'feature',
        entity_id: featureId,
        field: 'default_value',
        old: '',
        new: 'blue',
        current: 'red',
      },
    ]);
    expect(Object.keys(answer.body.fields ?? {})).toStrictEqual(['default_value']);
    expect(await statusOf(changeId)).toMatchObject({ status: 'pending', approved_by: null });
    expect(await historyOf(rest.pool, featureId)).toStrictEqual([]);
    expect(await decide(rest, 'erin', changeId, 'reject')).toMatchObject({ status: 200 });
  });

  it('is not a conflict if the request does not name it, but a deleted feature is', async () => {
    const { featureId, changeId } = await requestChange(rest, 'bob');
    await rest.pool.query(`UPDATE features SET name = 'Renamed' WHERE id = $1`, [featureId]);
    expect(await decide(rest, 'erin', changeId, 'approve')).toMatchObject({ status: 200 });
    const gone = await requestChange(rest, 'bob');
    await rest.pool.query('DELETE FROM features WHERE id = $1', [gone.featureId]);
    expect(await decide(rest, 'erin', gone.changeId, 'approve')).toMatchObject({
      status: 409,
      body: { code: 'conflict', message: expect.stringContaining('the feature no longer exists') as string },
    });
  });
});

describe('live events', () => {
  it('report every step of a request', async () => {
    const watcher = await PlainClient.connect(
      rest.server.wsUrl,
      { project_id: projectId, env: 'prod' },
      { token: rest.users.carol.token },
    );
    const { featureId, changeId } = await requestChange(rest, 'bob');
    await decide(rest, 'alice', changeId, 'reject');
    const second = await requestChange(rest, 'bob', { enabled: true }, featureId);
    await decide(rest, 'bob', second.changeId, 'cancel');
    const third = await requestChange(rest, 'bob', { enabled: true }, featureId);
    await decide(rest, 'erin', third.changeId, 'approve');
    const seen = (): string[] =>
      watcher.messages.filter((message) => message.entity_id === featureId).map(({ type }) => type);
    await watcher.received(
      ({ type, entity_id: id }) => id === featureId && type === 'pending_change_approved',
    );
    await watcher.received(({ type, entity_id: id }) => id === featureId && type === 'feature_updated');
    expect(seen().toSorted()).toStrictEqual([
      'feature_updated',
      'pending_change_approved',
      'pending_change_cancelled',
      'pending_change_created',
      'pending_change_created',
      'pending_change_created',
      'pending_change_rejected',
    ]);
    await watcher.close();
  });
});
