import { describe, expect, it } from 'vitest';
import { decide, historyOf, useRestFixture, requestChange } from '../../../server/test/rest-fixture.js';

const rest = await useRestFixture({ guarded: true });
const { projectId } = rest.shop;

describe('in a guarded environment', () => {
  it('a change waits with its reason, and nothing is written', async () => {
    const { id, key } = await rest.addFeature();
    const version = await rest.version(id, 'prod');
    const { answer, changeId } = await requestChange(rest, 'bob', { enabled: true }, id);
    expect(answer.status).toBe(202);
    expect(answer.body.pending_change).toMatchObject({
      project_id: projectId,
      project: 'Shop',
      environment: 'prod',
      environment_name: 'Production',
      requested_by: 'bob',
      reason: 'The launch is today',
      entities: [
        {
          entity: 'feature',
          entity_id: id,
          action: 'update',
          feature_id: id,
          feature_key: key,
          feature_name: 'A flag',
          diff: [{ field: 'enabled', old: false, new: true }],
        },
      ],
      own: true,
      may_decide: false,
      may_cancel: true,
    });
    expect(await rest.version(id, 'prod')).toBe(version);
    expect(await historyOf(rest.pool, id)).toStrictEqual([]);
    const { rows } = await rest.pool.query(
      'SELECT change, request_user_id FROM pending_changes WHERE id = $1',
      [changeId],
    );
    expect(rows).toStrictEqual([
      {
        change: {
          entities: [
            {
              entity: 'feature',
              entity_id: id,
              action: 'update',
              changes: { enabled: { old: false, new: true } },
            },
          ],
          meta: { reason: 'The launch is today', client: 'console', origin: 'api' },
        },
        request_user_id: Number(rest.users.bob.id),
      },
    ]);
  });

  it('a change needs a reason, a fresh version and something to change', async () => {
    const { id } = await rest.addFeature();
    const version = await rest.version(id, 'prod');
    const path = `/api/features/${id}`;
    expect(await rest.ask('bob', 'PATCH', path, { env: 'prod', version, enabled: true })).toMatchObject({
      status: 400,
      body: {
        code: 'invalid',
        fields: { reason: expect.stringMatching(/^is missing: .* guarded in Production/) as string },
      },
    });
    const stale = { env: 'prod', version: '1.1', enabled: true, reason: 'Why' };
    expect(await rest.ask('bob', 'PATCH', path, stale)).toMatchObject({
      status: 409,
      body: { code: 'stale_version' },
    });
    expect(await rest.ask('bob', 'PATCH', path, { ...stale, version, enabled: false })).toMatchObject({
      status: 200,
    });
  });

  it('an entity has one open change at a time, also of two at the same moment', async () => {
    const { featureId, changeId } = await requestChange(rest, 'bob');
    const second = await requestChange(rest, 'alice', { enabled: true }, featureId);
    expect(second.answer).toMatchObject({
      status: 409,
      body: { code: 'change_pending', pending_change: { id: changeId, requested_by: 'bob' } },
    });
    // A request of the host takes no lock of Flagcast, so the trigger of the table reports the conflict.
    const { id } = await rest.addFeature();
    const version = await rest.version(id, 'prod');
    const host = await rest.pool.connect();
    await host.query('BEGIN');
    const { rows } = await host.query<{ id: string }>(
      `INSERT INTO pending_changes (project_id, environment_id, requested_by, change) VALUES ($1, $2, 'host', '{}') RETURNING id`,
      [projectId, rest.shop.environments.prod],
    );
    await host.query(
      `INSERT INTO pending_change_entities (pending_change_id, entity, entity_id) VALUES ($1, 'feature', $2)`,
      [rows[0]?.id, id],
    );
    const asked = rest.ask('bob', 'PATCH', `/api/features/${id}`, {
      env: 'prod',
      version,
      enabled: true,
      reason: 'Why',
    });
    await expect
      .poll(
        async () =>
          (await rest.pool.query(`SELECT FROM pg_locks WHERE locktype = 'advisory' AND NOT granted`))
            .rowCount,
      )
      .toBe(1);
    await host.query('COMMIT');
    host.release();
    expect(await asked).toMatchObject({ status: 409, body: { code: 'change_pending' } });
  });

  it('changes of other environments, and of name and description, need no approval', async () => {
    const { id } = await rest.addFeature();
    const version = await rest.version(id, 'dev');
    const change = { env: 'dev', version, enabled: true, name: 'Neu' };
    expect(await rest.ask('alice', 'PATCH', `/api/features/${id}`, change)).toMatchObject({ status: 200 });
    const made = { project_id: projectId, key: 'free', name: 'Free' };
    expect(await rest.ask('alice', 'POST', '/api/features', made)).toMatchObject({ status: 201 });
  });

  it('a change of the rollout key waits, from whichever environment it is edited', async () => {
    const { id } = await rest.addFeature();
    const basis = { env: 'dev', version: await rest.version(id, 'dev'), reason: 'By account' };
    const path = `/api/features/${id}`;
    expect(
      await rest.ask('alice', 'PATCH', path, { ...basis, rollout_key: 'account', enabled: true }),
    ).toMatchObject({
      status: 400,
      body: { fields: { rollout_key: expect.stringContaining('prod') as string } },
    });
    const asked = await rest.ask('alice', 'PATCH', path, { ...basis, rollout_key: 'account' });
    expect(asked).toMatchObject({ status: 202, body: { pending_change: { environment: 'prod' } } });
    expect(await decide(rest, 'root', asked.body.pending_change?.id ?? '', 'approve')).toMatchObject({
      status: 200,
    });
    const { body } = await rest.ask('alice', 'GET', `${path}?env=stage`);
    expect(body.feature?.rollout_key).toBe('account');
  });

  it('a deletion waits, from whichever environment, and is done when it is approved', async () => {
    const { id } = await rest.addFeature();
    const basis = { env: 'dev', version: await rest.version(id, 'dev') };
    expect(await rest.ask('alice', 'DELETE', `/api/features/${id}`, basis)).toMatchObject({
      status: 400,
      body: { fields: { reason: expect.any(String) as string } },
    });
    const asked = await rest.ask('alice', 'DELETE', `/api/features/${id}`, { ...basis, reason: 'Unused' });
    expect(asked).toMatchObject({
      status: 202,
      body: { pending_change: { environment: 'prod', entities: [{ action: 'delete' }] } },
    });
    expect(await decide(rest, 'erin', asked.body.pending_change?.id ?? '', 'approve')).toMatchObject({
      status: 200,
    });
    const history = await historyOf(rest.pool, id);
    expect(history.map(({ action, username }) => [action, username])).toStrictEqual(
      Array.from({ length: 3 }, () => ['delete', 'erin']),
    );
    expect(await rest.ask('alice', 'GET', `/api/features/${id}?env=dev`)).toMatchObject({ status: 404 });
  });

  it('/api/projects lists the guarded environments', async () => {
    const { body } = await rest.ask('carol', 'GET', '/api/projects');
    const projects = body['projects'] as { environments: { key: string; guarded: boolean }[] }[];
    const environments = projects.flatMap((project) => project.environments);
    const guarded = environments.filter((each) => each.guarded).map(({ key }) => key);
    expect(guarded).toStrictEqual(['prod']);
  });
});
