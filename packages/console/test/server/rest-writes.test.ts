import { describe, expect, it } from 'vitest';
import { PlainClient } from '../../../server/test/plain-client.js';
import { historyOf, useRestFixture, whileLocked } from '../../../server/test/rest-fixture.js';

const rest = await useRestFixture();
/** Nothing in it is guarded. */
const { projectId } = rest.shop;

describe('a write', () => {
  it('of an environment writes one audit row there, and changes the version', async () => {
    const { id, key } = await rest.addFeature();
    const version = await rest.version(id, 'dev');
    const elsewhere = await rest.version(id, 'stage');
    const answer = await rest.ask('bob', 'PATCH', `/api/features/${id}`, {
      env: 'dev',
      version,
      enabled: true,
    });
    expect(answer.body.feature).toMatchObject({ id, key, enabled: true });
    expect(answer.body.feature?.version).not.toBe(version);
    expect(answer.body.feature?.version).toBe(await rest.version(id, 'dev'));
    expect(await rest.version(id, 'stage')).toBe(elsewhere);
    const before = {
      id,
      key,
      name: 'A flag',
      description: null,
      kind: 'simple',
      rollout_key: null,
      enabled: false,
      default_value: '',
    };
    expect(await historyOf(rest.pool, id)).toStrictEqual([
      {
        environment: 'dev',
        action: 'update',
        username: 'bob',
        entity: 'feature',
        old_value: before,
        new_value: { ...before, enabled: true },
        request_id: expect.any(String) as string,
      },
    ]);
    const { rows } = await rest.pool.query(
      `SELECT p.updated_at = a.created_at AS same FROM feature_params p JOIN audit_log a USING (feature_id, environment_id)
       WHERE p.feature_id = $1`,
      [id],
    );
    expect(rows).toStrictEqual([{ same: true }]);
  });

  it('of the feature itself writes one audit row in every environment, with one request id', async () => {
    const { id } = await rest.addFeature();
    const version = await rest.version(id, 'dev');
    const change = { env: 'dev', version, name: 'Neu', description: 'Wozu', enabled: true };
    expect(await rest.ask('alice', 'PATCH', `/api/features/${id}`, change)).toMatchObject({ status: 200 });
    const history = await historyOf(rest.pool, id);
    expect(history.map(({ environment }) => environment).sort()).toStrictEqual(['dev', 'prod', 'stage']);
    expect(new Set(history.map((row) => row.request_id)).size).toBe(1);
    for (const { environment, new_value: now } of history) {
      expect(now).toMatchObject({ name: 'Neu', description: 'Wozu', enabled: environment === 'dev' });
    }
    expect(await rest.version(id, 'prod')).not.toBe(version);
  });

  it('that changes nothing writes nothing', async () => {
    const { id } = await rest.addFeature();
    const version = await rest.version(id, 'dev');
    const change = { env: 'dev', version, name: 'A flag', enabled: false };
    const { status, body } = await rest.ask('alice', 'PATCH', `/api/features/${id}`, change);
    expect({ status, version: body.feature?.version }).toStrictEqual({ status: 200, version });
    expect(await historyOf(rest.pool, id)).toStrictEqual([]);
  });

  it('creates a feature that is off everywhere, and refuses a key that exists', async () => {
    const feature = {
      project_id: projectId,
      key: 'new-checkout',
      name: 'New checkout',
      kind: 'multivariant',
      default_value: 'blue',
      description: 'Ein 🏁',
    };
    const both = await Promise.all([
      rest.ask('alice', 'POST', '/api/features', feature),
      rest.ask('root', 'POST', '/api/features', feature),
    ]);
    const made = both.find(({ status }) => status === 201) ?? both[0];
    const refused = both.find(({ status }) => status !== 201);
    expect(refused).toMatchObject({
      status: 409,
      body: { code: 'key_taken', fields: { key: 'is taken by another feature of this project' } },
    });
    const { id, environments } = made.body as {
      id: string;
      environments: { key: string; feature: object }[];
    };
    expect(environments.map(({ key }) => key).sort()).toStrictEqual(['dev', 'prod', 'stage']);
    for (const { feature: state } of environments) {
      expect(state).toMatchObject({
        key: 'new-checkout',
        enabled: false,
        default_value: 'blue',
        description: 'Ein 🏁',
      });
    }
    const history = await historyOf(rest.pool, id);
    expect(history.map(({ action, old_value: old }) => [action, old])).toStrictEqual(
      Array.from({ length: 3 }, () => ['create', null]),
    );
    const other = { ...feature, project_id: rest.billing.projectId };
    expect(await rest.ask('root', 'POST', '/api/features', other)).toMatchObject({ status: 201 });
  });

  it('deletes a feature and keeps its history', async () => {
    const { id } = await rest.addFeature();
    const basis = { env: 'stage', version: await rest.version(id, 'stage') };
    const answer = await rest.ask('alice', 'DELETE', `/api/features/${id}`, basis);
    expect(answer).toMatchObject({ status: 200, body: { feature: null } });
    expect(await rest.ask('alice', 'GET', `/api/features/${id}?env=dev`)).toMatchObject({
      status: 404,
      body: { code: 'unknown_feature' },
    });
    const history = await historyOf(rest.pool, id);
    expect(history.map(({ action, new_value: now }) => [action, now])).toStrictEqual(
      Array.from({ length: 3 }, () => ['delete', null]),
    );
  });

  it('that a trigger of the host refuses has the message of the trigger, and changes nothing', async () => {
    const { id } = await rest.addFeature();
    await rest.pool.query(`
      CREATE FUNCTION hold_still() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'frozen until Monday'; END $$;
      CREATE TRIGGER hold_still BEFORE UPDATE ON features FOR EACH ROW EXECUTE FUNCTION hold_still()`);
    const change = { env: 'dev', version: await rest.version(id, 'dev'), enabled: true, name: 'Neu' };
    expect(await rest.ask('alice', 'PATCH', `/api/features/${id}`, change)).toMatchObject({
      status: 409,
      body: { code: 'database_refused', message: expect.stringContaining('frozen until Monday') as string },
    });
    await rest.pool.query('DROP FUNCTION hold_still CASCADE');
    expect(await historyOf(rest.pool, id)).toStrictEqual([]);
    expect(await rest.version(id, 'dev')).toBe(change.version);
  });

  it('is refused with busy if it waits too long for a lock', async () => {
    const { id } = await rest.addFeature();
    const change = { env: 'dev', version: await rest.version(id, 'dev'), enabled: true };
    const gate = await rest.pool.connect();
    await gate.query('BEGIN');
    await gate.query('SELECT FROM feature_params WHERE feature_id = $1 FOR UPDATE', [id]);
    const answer = await rest.ask('alice', 'PATCH', `/api/features/${id}`, change);
    await gate.query('ROLLBACK');
    gate.release();
    expect(answer).toMatchObject({ status: 503, body: { code: 'busy' } });
    expect(answer.headers.get('retry-after')).toBe('1');
    expect(await rest.ask('alice', 'PATCH', `/api/features/${id}`, change)).toMatchObject({ status: 200 });
  });
});

describe('a stale version', () => {
  it.each([
    ['the feature itself', { name: 'Neu' }],
    ['the environment', { enabled: true }],
  ])('of %s is refused with the current state and the user of the last change', async (_, theirs) => {
    const { id } = await rest.addFeature();
    const version = await rest.version(id, 'dev');
    const first = await rest.ask('erin', 'PATCH', `/api/features/${id}`, {
      env: 'dev',
      version,
      ...theirs,
    });
    expect(first).toMatchObject({ status: 200 });
    for (const second of [
      await rest.ask('alice', 'PATCH', `/api/features/${id}`, { env: 'dev', version, default_value: 'x' }),
      await rest.ask('alice', 'DELETE', `/api/features/${id}`, { env: 'dev', version }),
    ]) {
      expect(second).toMatchObject({
        status: 409,
        body: {
          code: 'stale_version',
          message: expect.stringMatching(/^erin has changed this feature meanwhile/) as string,
          current: { ...theirs, default_value: '', version: first.body.feature?.version },
          changed_by: {
            username: 'erin',
            at: expect.stringMatching(/^\d{4}-.*Z$/) as string,
            audit_id: expect.stringMatching(/^\d+$/) as string,
          },
        },
      });
    }
  });

  it('makes one of two concurrent writes fail', async () => {
    const { id } = await rest.addFeature();
    const version = await rest.version(id, 'dev');
    const lock = { text: 'SELECT FROM features WHERE id = $1 FOR UPDATE', values: [id] };
    const answers = await whileLocked(
      rest.pool,
      lock,
      2,
      async () =>
        await Promise.all(
          (['alice', 'bob'] as const).map(
            async (who) =>
              await rest.ask(who, 'PATCH', `/api/features/${id}`, { env: 'dev', version, enabled: true }),
          ),
        ),
    );
    expect(answers.map(({ status }) => status).sort()).toStrictEqual([200, 409]);
    expect(await historyOf(rest.pool, id)).toHaveLength(1);
  });

  it('is noticed also after a write of the host', async () => {
    const { id } = await rest.addFeature();
    const version = await rest.version(id, 'dev');
    const host = { text: 'UPDATE feature_params SET enabled = true WHERE feature_id = $1', values: [id] };
    const [answer] = await whileLocked(rest.pool, host, 1, async () => [
      await rest.ask('alice', 'PATCH', `/api/features/${id}`, { env: 'dev', version, default_value: 'x' }),
    ]);
    expect(answer).toMatchObject({ status: 409, body: { current: { enabled: true }, changed_by: null } });
  });
});

describe('live events', () => {
  it('report every write in every environment that it changes, and in no other', async () => {
    const watch = async (env: string): Promise<PlainClient> =>
      await PlainClient.connect(
        rest.server.wsUrl,
        { project_id: projectId, env },
        { token: rest.users.carol.token },
      );
    const watchers = await Promise.all(['dev', 'stage', 'prod'].map(watch));
    const [dev] = watchers;
    const made = await rest.ask('alice', 'POST', '/api/features', {
      project_id: projectId,
      key: 'live',
      name: 'Live',
    });
    const id = made.body['id'] as string;
    const patch = async (fields: object): Promise<unknown> =>
      await rest.ask('alice', 'PATCH', `/api/features/${id}`, {
        env: 'dev',
        version: await rest.version(id, 'dev'),
        ...fields,
      });
    await patch({ enabled: true });
    await patch({ name: 'Live indeed' });
    const last = { env: 'dev', version: await rest.version(id, 'dev') };
    await rest.ask('alice', 'DELETE', `/api/features/${id}`, last);

    for (const watcher of watchers) {
      await watcher.received(({ entity_id: of, type }) => of === id && type === 'feature_deleted');
      const types = watcher.messages.filter(({ entity_id: of }) => of === id).map(({ type }) => type);
      expect(types).toStrictEqual([
        'feature_created',
        ...(watcher === dev ? ['feature_updated'] : []),
        'feature_updated',
        'feature_deleted',
      ]);
      await watcher.close();
    }
  });
});
