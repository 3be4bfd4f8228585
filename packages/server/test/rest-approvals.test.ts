import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { PlainClient } from './plain-client.js';
import {
  type Company,
  decide,
  historyOf,
  openCompany,
  people,
  type Person,
  requestChange,
  whileLocked,
} from './rest-company.js';

let company: Company;
let projectId: string;

beforeAll(async () => {
  company = await openCompany();
  projectId = company.shop.projectId;
  await company.guard(company.shop.environments.prod);
});

afterAll(async () => {
  await company.close();
});

async function statusOf(changeId: string): Promise<Record<string, unknown>> {
  const { rows } = await company.pool.query<Record<string, unknown>>(
    `SELECT status, approved_by, approved_user_id, approved_at IS NOT NULL AS approved, rejected_by,
       rejected_at IS NOT NULL AS rejected, rejection_reason FROM pending_changes WHERE id = $1`,
    [changeId],
  );
  return rows[0] ?? {};
}

describe('a decision', () => {
  it('to approve does it in the name of whoever approves', async () => {
    const { featureId, changeId } = await requestChange(company, 'bob', { enabled: true });
    const answer = await decide(company, 'alice', changeId, 'approve');
    expect(answer).toMatchObject({
      status: 200,
      body: { id: changeId, status: 'approved', by: 'alice', at: expect.stringMatching(/Z$/) as string },
    });
    expect(await statusOf(changeId)).toMatchObject({
      status: 'approved',
      approved_by: 'alice',
      approved_user_id: Number(company.users.alice.id),
      approved: true,
    });
    expect(await historyOf(company.pool, featureId)).toMatchObject([
      { environment: 'prod', username: 'alice', old_value: { enabled: false }, new_value: { enabled: true } },
    ]);
    const { body } = await company.ask('bob', 'GET', `/api/features/${featureId}?env=prod`);
    expect(body).toMatchObject({ feature: { enabled: true }, pending_changes: [] });
  });

  it('to approve needs no body, also of a program that names the type of none', async () => {
    const { changeId } = await requestChange(company, 'bob');
    const headers = { 'Content-Type': 'application/json' };
    const path = `/api/pending-changes/${changeId}/approve`;
    expect(await company.ask('alice', 'POST', path, undefined, headers)).toMatchObject({ status: 200 });
  });

  it('to reject keeps the reason; to cancel takes it back; neither changes anything', async () => {
    const rejected = await requestChange(company, 'bob');
    expect(await decide(company, 'alice', rejected.changeId, 'reject', {})).toMatchObject({
      status: 400,
      body: { fields: { reason: 'is missing' } },
    });
    expect(await decide(company, 'alice', rejected.changeId, 'reject')).toMatchObject({
      status: 200,
      body: { status: 'rejected', by: 'alice' },
    });
    expect(await statusOf(rejected.changeId)).toMatchObject({
      status: 'rejected',
      rejected_by: 'alice',
      rejected: true,
      rejection_reason: 'Not before Monday',
    });
    const cancelled = await requestChange(company, 'bob');
    expect(await decide(company, 'bob', cancelled.changeId, 'cancel')).toMatchObject({
      status: 200,
      body: { status: 'cancelled', by: 'bob' },
    });
    for (const { featureId } of [rejected, cancelled]) {
      expect(await historyOf(company.pool, featureId)).toStrictEqual([]);
    }
  });

  it.each([
    ['approve', { alice: 200, erin: 200, bob: 403, carol: 403, dave: 403, root: 200 }],
    ['reject', { alice: 200, erin: 200, bob: 403, carol: 403, dave: 403, root: 200 }],
    ['cancel', { alice: 403, erin: 403, bob: 200, carol: 403, dave: 403, root: 200 }],
  ])('to %s is for those who may', async (step, expected: Record<Person, number>) => {
    const found = {} as Record<Person, number>;
    for (const who of Object.keys(people) as Person[]) {
      const { changeId } = await requestChange(company, 'bob');
      const { status } = await decide(company, who, changeId, step);
      found[who] = status;
      expect((await statusOf(changeId))['status'] === 'pending').toBe(status !== 200);
    }
    expect(found).toStrictEqual(expected);
  });

  it("on one's own change is nobody's, whatever they may do", async () => {
    for (const who of ['alice', 'root'] as const) {
      const { changeId } = await requestChange(company, who);
      for (const step of ['approve', 'reject']) {
        expect(await decide(company, who, changeId, step)).toMatchObject({
          status: 403,
          body: { code: 'own_change' },
        });
      }
      expect(await statusOf(changeId)).toMatchObject({ status: 'pending' });
    }
    // A host may keep only the name.
    const { id } = await company.addFeature();
    const { rows } = await company.pool.query<{ id: string }>(
      `INSERT INTO pending_changes (project_id, environment_id, requested_by, change)
       VALUES ($1, $2, 'alice', $3) RETURNING id`,
      [
        projectId,
        company.shop.environments.prod,
        { entities: [{ entity: 'feature', entity_id: id, action: 'update', changes: {} }] },
      ],
    );
    const changeId = rows[0]?.id ?? '';
    expect(await decide(company, 'alice', changeId, 'approve')).toMatchObject({
      body: { code: 'own_change' },
    });
  });

  it('of two at the same moment one is taken, and the other is told by whom', async () => {
    const { featureId, changeId } = await requestChange(company, 'bob');
    const lock = { text: 'SELECT FROM pending_changes WHERE id = $1 FOR UPDATE', values: [changeId] };
    const answers = await whileLocked(
      company.pool,
      lock,
      2,
      async () =>
        await Promise.all([
          decide(company, 'alice', changeId, 'approve'),
          decide(company, 'erin', changeId, 'approve'),
        ]),
    );
    const [winner] = answers.filter(({ status }) => status === 200);
    const [loser] = answers.filter(({ status }) => status !== 200);
    expect(loser).toMatchObject({
      status: 409,
      body: { code: 'already_decided', status: 'approved', by: winner?.body['by'], at: winner?.body['at'] },
    });
    expect(loser?.body.message).toContain(`approved by ${String(winner?.body['by'])}`);
    expect(await historyOf(company.pool, featureId)).toHaveLength(1);
    for (const step of ['approve', 'reject', 'cancel']) {
      expect(await decide(company, 'root', changeId, step)).toMatchObject({
        body: { code: 'already_decided' },
      });
    }
  });

  it.each([
    ['an entity that it does not list', (_id: string, other: string) => [other]],
    ['an entity twice', (id: string) => [id, id]],
    ['an id in another spelling', (id: string) => [id.toUpperCase()]],
  ])('applies nothing that the request does not show: %s', async (_what, named) => {
    const [{ id }, { id: other }] = [await company.addFeature(), await company.addFeature()];
    const ids = named(id, other);
    const entities = ids.map((entityId, index) => ({
      entity: 'feature',
      entity_id: entityId,
      action: 'update',
      changes: index === 0 && ids.length > 1 ? {} : { enabled: { old: false, new: true } },
    }));
    const { rows } = await company.pool.query<{ id: string }>(
      `WITH request AS (
         INSERT INTO pending_changes (project_id, environment_id, requested_by, change) VALUES ($1, $2, 'bob', $3)
         RETURNING id)
       INSERT INTO pending_change_entities (pending_change_id, entity, entity_id)
       SELECT id, 'feature', $4 FROM request RETURNING pending_change_id AS id`,
      [projectId, company.shop.environments.prod, { entities }, id],
    );
    const changeId = rows[0]?.id ?? '';
    expect(await decide(company, 'alice', changeId, 'approve')).toMatchObject({
      status: 409,
      body: { code: 'unsupported_change' },
    });
    expect(await statusOf(changeId)).toMatchObject({ status: 'pending' });
    expect(await decide(company, 'alice', changeId, 'reject')).toMatchObject({ status: 200 });
  });

  it('on what nobody asked for is unknown', async () => {
    for (const id of [randomUUID(), 'x', '%00']) {
      expect(await decide(company, 'root', id, 'approve')).toMatchObject({
        status: 404,
        body: { code: 'unknown_change' },
      });
    }
  });
});

describe('what has changed since it was asked for', () => {
  it('is a conflict that names the fields, and nothing is applied', async () => {
    const { featureId, changeId } = await requestChange(company, 'alice', {
      enabled: true,
      default_value: 'blue',
    });
    await company.pool.query(
      `UPDATE feature_params SET default_value = 'red' WHERE feature_id = $1 AND environment_id = $2`,
      [featureId, company.shop.environments.prod],
    );
    const answer = await decide(company, 'erin', changeId, 'approve');
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
    expect(await historyOf(company.pool, featureId)).toStrictEqual([]);
    expect(await decide(company, 'erin', changeId, 'reject')).toMatchObject({ status: 200 });
  });

  it('a field that nobody asked about is none, and a feature that is gone is one', async () => {
    const { featureId, changeId } = await requestChange(company, 'bob');
    await company.pool.query(`UPDATE features SET name = 'Renamed' WHERE id = $1`, [featureId]);
    expect(await decide(company, 'erin', changeId, 'approve')).toMatchObject({ status: 200 });
    const gone = await requestChange(company, 'bob');
    await company.pool.query('DELETE FROM features WHERE id = $1', [gone.featureId]);
    expect(await decide(company, 'erin', gone.changeId, 'approve')).toMatchObject({
      status: 409,
      body: { code: 'conflict', message: expect.stringContaining('the feature is gone') as string },
    });
  });
});

describe('live', () => {
  it('every step arrives', async () => {
    const watcher = await PlainClient.connect(
      company.server.wsUrl,
      { project_id: projectId, env: 'prod' },
      { token: company.users.carol.token },
    );
    const { featureId, changeId } = await requestChange(company, 'bob');
    await decide(company, 'alice', changeId, 'reject');
    const second = await requestChange(company, 'bob', { enabled: true }, featureId);
    await decide(company, 'bob', second.changeId, 'cancel');
    const third = await requestChange(company, 'bob', { enabled: true }, featureId);
    await decide(company, 'erin', third.changeId, 'approve');
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
