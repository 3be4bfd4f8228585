import { randomUUID } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import {
  historyOf,
  useRestFixture,
  roles,
  type UserName,
  send,
  whileLocked,
} from '../../../server/test/rest-fixture.js';
import { startTestServer } from '../../../server/test/server.js';

const rest = await useRestFixture();
/** Nothing in it is guarded. */
const { projectId } = rest.shop;

const names = Object.keys(roles) as UserName[];

describe('permissions of features', () => {
  const expected: Record<string, Record<UserName, number>> = {
    list: { alice: 200, erin: 200, bob: 200, carol: 200, dave: 403, root: 200 },
    read: { alice: 200, erin: 200, bob: 200, carol: 200, dave: 403, root: 200 },
    audit: { alice: 200, erin: 200, bob: 200, carol: 200, dave: 403, root: 200 },
    toggle: { alice: 200, erin: 200, bob: 200, carol: 403, dave: 403, root: 200 },
    value: { alice: 200, erin: 200, bob: 403, carol: 403, dave: 403, root: 200 },
    rename: { alice: 200, erin: 200, bob: 403, carol: 403, dave: 403, root: 200 },
    'toggle and rename': { alice: 200, erin: 200, bob: 403, carol: 403, dave: 403, root: 200 },
    create: { alice: 201, erin: 201, bob: 403, carol: 403, dave: 403, root: 201 },
    delete: { alice: 200, erin: 200, bob: 403, carol: 403, dave: 403, root: 200 },
  };

  async function attempt(who: UserName, what: string): Promise<number> {
    const { id } = await rest.addFeature();
    const basis = { env: 'dev', version: await rest.version(id, 'dev') };
    const changes: Record<string, object> = {
      toggle: { enabled: true },
      value: { default_value: 'blue' },
      rename: { name: 'Another name' },
      'toggle and rename': { enabled: true, name: 'Another name' },
    };
    const requests: Record<string, [string, string, object?]> = {
      list: ['GET', `/api/features?project_id=${projectId}&env=dev`],
      read: ['GET', `/api/features/${id}?env=dev`],
      audit: ['GET', `/api/audit?project_id=${projectId}&env=dev`],
      create: ['POST', '/api/features', { project_id: projectId, key: `made-by-${who}`, name: 'New' }],
      delete: ['DELETE', `/api/features/${id}`, basis],
    };
    const change = changes[what];
    const request = requests[what] ?? (['PATCH', `/api/features/${id}`, { ...basis, ...change }] as const);
    const { status, body } = await rest.ask(who, ...request);
    if (status === 403) expect(body.code).toBe('forbidden');
    const written = (await historyOf(rest.pool, id)).length > 0;
    expect(written).toBe(status === 200 && !['list', 'read', 'audit'].includes(what));
    return status;
  }

  it.each(Object.keys(expected))('%s', async (what) => {
    const found = {} as Record<UserName, number>;
    for (const who of names) found[who] = await attempt(who, what);
    expect(found).toStrictEqual(expected[what]);
  });

  it('are read from the database at the time of the write, not from the token', async () => {
    const { id } = await rest.addFeature();
    const change = { env: 'dev', version: await rest.version(id, 'dev'), enabled: true };
    const { rows } = await rest.pool.query<{ role_id: string }>(
      'DELETE FROM memberships WHERE user_id = $1 RETURNING role_id',
      [rest.users.bob.id],
    );
    expect(await rest.ask('bob', 'PATCH', `/api/features/${id}`, change)).toMatchObject({ status: 403 });
    await rest.pool.query('INSERT INTO memberships (project_id, user_id, role_id) VALUES ($1, $2, $3)', [
      projectId,
      rest.users.bob.id,
      rows[0]?.role_id,
    ]);
    expect(await rest.ask('bob', 'PATCH', `/api/features/${id}`, change)).toMatchObject({ status: 200 });
  });

  it('are lost by a user who is deactivated during the request', async () => {
    const { id } = await rest.addFeature();
    const change = { env: 'dev', version: await rest.version(id, 'dev'), enabled: true };
    const text = `LOCK TABLE memberships; UPDATE users SET is_active = false WHERE username = 'erin'`;
    const answer = await whileLocked(rest.pool, { text, values: [] }, 1, async () => {
      return await rest.ask('erin', 'PATCH', `/api/features/${id}`, change);
    });
    await rest.pool.query(`UPDATE users SET is_active = true WHERE username = 'erin'`);
    expect(answer).toMatchObject({ status: 403, body: { code: 'user_inactive' } });
    expect(await historyOf(rest.pool, id)).toStrictEqual([]);
  });

  it('need a token and an allowed origin', async () => {
    const { id } = await rest.addFeature();
    for (const [method, path, body] of [
      ['GET', '/api/auth/me'],
      ['GET', `/api/features/${id}?env=dev`],
      ['POST', '/api/features', {}],
      ['PATCH', `/api/features/${id}`, {}],
      ['DELETE', `/api/features/${id}`],
      ['GET', '/api/pending-changes'],
      ['POST', `/api/pending-changes/${id}/approve`, {}],
      ['GET', `/api/audit?project_id=${projectId}&env=dev`],
    ] as const) {
      const stranger = await rest.ask(null, method, path, body);
      expect(stranger).toMatchObject({ status: 401, body: { code: 'token_missing' } });
      const foreign = await rest.ask('alice', method, path, body, { Origin: 'https://evil.example' });
      expect(foreign).toMatchObject({ status: 403, body: { code: 'origin_forbidden' } });
      expect(foreign.headers.get('cache-control')).toBe('no-store');
    }
  });
});

describe('reads of features', () => {
  it('list the features of a channel by key, with the user of the last change', async () => {
    const { id, key } = await rest.addFeature(rest.billing);
    const { billing } = rest;
    const list = async (env: string): Promise<unknown> => {
      const path = `/api/features?project_id=${billing.projectId}&env=${env}`;
      const { body } = await rest.ask('dave', 'GET', path);
      return (body['features'] as { id: string }[]).find((feature) => feature.id === id);
    };
    expect(await list('dev')).toMatchObject({ key, enabled: false, updated_by: null });
    const change = { env: 'dev', version: await rest.version(id, 'dev'), enabled: true };
    await rest.ask('dave', 'PATCH', `/api/features/${id}`, change);
    expect(await list('dev')).toMatchObject({ key, enabled: true, updated_by: 'dave' });
    expect(await list('prod')).toMatchObject({ key, enabled: false, updated_by: null });
    const rename = { env: 'dev', version: await rest.version(id, 'dev'), name: 'Renamed' };
    await rest.ask('root', 'PATCH', `/api/features/${id}`, rename);
    expect(await list('prod')).toMatchObject({ name: 'Renamed', updated_by: 'root' });
    // The host writes no audit row for this write, so the user of the previous row did not make it.
    await rest.pool.query(
      'UPDATE feature_params SET enabled = false, updated_at = now() WHERE feature_id = $1',
      [id],
    );
    expect(await list('dev')).toMatchObject({ enabled: false, updated_by: null });
  });

  it('show the rules and schedules of the environment, in their order', async () => {
    const { id } = await rest.addFeature();
    const ruleIds = [randomUUID(), randomUUID(), randomUUID()];
    for (const [index, [env, priority]] of (
      [
        ['dev', 10],
        ['dev', 9],
        ['prod', 1],
      ] as const
    ).entries()) {
      await rest.pool.query(
        `INSERT INTO rules (id, project_id, feature_id, environment_id, conditions, action, priority)
         VALUES ($1, $2, $3, $4, '[]', 'include', $5)`,
        [ruleIds[index], projectId, id, rest.shop.environments[env], priority],
      );
    }
    await rest.pool.query(
      `INSERT INTO feature_schedules (project_id, feature_id, environment_id, starts_at, action)
       VALUES ($1, $2, $3, now(), 'enable')`,
      [projectId, id, rest.shop.environments.dev],
    );
    const { body } = await rest.ask('carol', 'GET', `/api/features/${id}?env=dev`);
    expect(body).toMatchObject({
      project_id: projectId,
      environment: { id: rest.shop.environments.dev, key: 'dev', name: 'Development' },
      feature: { id },
      rules: [{ id: ruleIds[1] }, { id: ruleIds[0] }],
      schedules: [{ action: 'enable' }],
      pending_changes: [],
    });
  });
});

describe('a server without writes', () => {
  it('refuses every write with writes_off, and allows all reads', async () => {
    const { id } = await rest.addFeature();
    const closed = await startTestServer(rest.database.url);
    const headers = { Authorization: `Bearer ${rest.users.alice.token}` };
    for (const [method, path, body] of [
      ['POST', '/api/features', { project_id: projectId, key: 'k', name: 'n' }],
      ['PATCH', `/api/features/${id}`, { env: 'dev', version: '1', enabled: true }],
      ['DELETE', `/api/features/${id}`, { env: 'dev', version: '1' }],
      ['POST', `/api/pending-changes/${id}/approve`, { version: '1', feature_versions: {} }],
      ['POST', `/api/pending-changes/${id}/reject`, { version: '1', feature_versions: {}, reason: 'no' }],
      ['POST', `/api/pending-changes/${id}/cancel`],
    ] as const) {
      expect(await send(closed.httpUrl, method, path, body, headers)).toMatchObject({
        status: 403,
        body: { code: 'writes_off', message: expect.stringContaining('FLAGCAST_WRITES=on') as string },
      });
    }
    expect(
      await send(closed.httpUrl, 'GET', `/api/features/${id}?env=dev`, undefined, headers),
    ).toMatchObject({
      status: 200,
    });
    const me = await send(closed.httpUrl, 'GET', '/api/auth/me', undefined, headers);
    expect(me.body).toMatchObject({ writes: false });
    await closed.close();
  });
});
