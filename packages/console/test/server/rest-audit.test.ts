import { randomUUID } from 'node:crypto';
import { beforeAll, describe, expect, it } from 'vitest';
import { createTestDatabase, insertAudit, seedProject } from '../../../server/test/database.js';
import { decide, useRestFixture, requestChange, send } from '../../../server/test/rest-fixture.js';
import { createUser, startTestServer } from '../../../server/test/server.js';
import { V1Client } from '../../../server/test/v1-client.js';

const rest = await useRestFixture();

interface Page {
  readonly entries: {
    id: string;
    audit_id: string | null;
    pending_change_id: string | null;
    created_at: string | null;
    requested_at: string | null;
    action: string;
    diff: unknown;
    [name: string]: unknown;
  }[];
  readonly next: string | null;
}

async function page(env: string, query: Record<string, string> = {}): Promise<Page> {
  const parameters = new URLSearchParams({ project_id: rest.shop.projectId, env, ...query });
  const { status, body } = await rest.ask('carol', 'GET', `/api/audit?${parameters.toString()}`);
  expect(status).toBe(200);
  return body as unknown as Page;
}

describe('the history', () => {
  it('has pages without a gap or a repetition while it grows', async () => {
    const place = { projectId: rest.shop.projectId, environmentId: rest.shop.environments.stage };
    const written: string[] = [];
    for (let count = 0; count < 23; count += 1) {
      written.push((await insertAudit(rest.pool, place)).id);
      // Of another environment, in between.
      await insertAudit(rest.pool, { ...place, environmentId: rest.shop.environments.prod });
    }
    const read: string[] = [];
    let next: string | null = null;
    let pages = 0;
    do {
      const { entries, next: following }: Page = await page('stage', {
        limit: '5',
        ...(next === null ? {} : { before: next }),
      });
      read.push(...entries.map(({ audit_id: id }) => id ?? ''));
      next = following;
      pages += 1;
      await insertAudit(rest.pool, place);
    } while (next !== null);
    expect(read).toStrictEqual(written.toReversed());
    expect(pages).toBe(5);
  });

  it('lists each field that a write changed', async () => {
    const { id, key } = await rest.addFeature();
    const change = {
      env: 'dev',
      version: await rest.version(id, 'dev'),
      enabled: true,
      default_value: 'blue',
    };
    await rest.ask('alice', 'PATCH', `/api/features/${id}`, change);
    const { entries } = await page('dev', { feature_id: id });
    expect(entries).toMatchObject([
      {
        action: 'updated',
        entity: 'feature',
        entity_id: id,
        feature_key: key,
        feature_name: 'A flag',
        username: 'alice',
        old_value: { enabled: false },
        new_value: { enabled: true },
      },
    ]);
    const [{ diff } = {}] = entries;
    expect(
      [...(diff as { field: string }[])].sort((one, other) => one.field.localeCompare(other.field)),
    ).toStrictEqual([
      { field: 'default_value', old: '', new: 'blue' },
      { field: 'enabled', old: false, new: true },
    ]);
  });

  it.each([
    ['made', null, { a: 1, b: null }, [{ field: 'a', old: null, new: 1 }]],
    ['gone', { a: [1] }, null, [{ field: 'a', old: [1], new: null }]],
    ['equal inside', { a: { b: [1, 2] } }, { a: { b: [1, 2] } }, []],
    [
      'other inside',
      { a: { b: [1] } },
      { a: { b: [2] } },
      [{ field: 'a', old: { b: [1] }, new: { b: [2] } }],
    ],
    ['no objects', 'on', 'off', [{ field: 'value', old: 'on', new: 'off' }]],
    ['nothing', null, null, []],
  ])('of an entity that is %s', async (_, oldValue, newValue, diff) => {
    const { featureId } = await insertAudit(rest.pool, {
      projectId: rest.shop.projectId,
      environmentId: rest.shop.environments.dev,
      oldValue: oldValue ?? undefined,
      newValue: newValue ?? undefined,
    });
    expect((await page('dev', { feature_id: featureId })).entries[0]?.diff).toStrictEqual(diff);
  });

  it('can be filtered by entity, user and feature', async () => {
    const place = { projectId: rest.shop.projectId, environmentId: rest.shop.environments.dev };
    const featureId = randomUUID();
    const rule = await insertAudit(rest.pool, { ...place, featureId, entity: 'rule', username: 'erin' });
    const system = await insertAudit(rest.pool, { ...place, featureId, username: null });
    const ids = async (query: Record<string, string>): Promise<string[]> =>
      (await page('dev', query)).entries.map(({ audit_id: id }) => id ?? '');
    expect(await ids({ entity: 'rule' })).toStrictEqual([rule.id]);
    expect(await ids({ username: 'erin' })).toStrictEqual([rule.id]);
    expect(await ids({ username: 'user', feature_id: featureId })).toStrictEqual([system.id]);
    expect(await ids({ feature_id: featureId })).toStrictEqual([system.id, rule.id]);
    expect(await ids({ feature_id: featureId, entity: 'variant' })).toStrictEqual([]);
  });

  it('can be filtered by action and time', async () => {
    const place = { projectId: rest.shop.projectId, environmentId: rest.shop.environments.dev };
    const featureId = randomUUID();
    const times = ['2001-03-01T10:00:00Z', '2001-03-01T11:00:00Z', '2001-03-01T12:00:00Z'];
    const [early, middle, late] = await Promise.all(
      times.map(async (createdAt, index) => {
        const action = index === 1 ? 'delete' : 'update';
        return (await insertAudit(rest.pool, { ...place, featureId, action, createdAt })).id;
      }),
    );
    const ids = async (query: Record<string, string>): Promise<(string | null)[]> =>
      (await page('dev', { feature_id: featureId, ...query })).entries.map(({ audit_id: id }) => id);
    expect(await ids({})).toStrictEqual([late, middle, early]);
    expect(await ids({ action: 'deleted' })).toStrictEqual([middle]);
    expect(await ids({ since: '2001-03-01T11:00:00Z' })).toStrictEqual([late, middle]);
    expect(await ids({ until: '2001-03-01T11:00:00Z' })).toStrictEqual([early]);
    expect(await ids({ since: '2001-03-01T10:30:00Z', until: '2001-03-01T11:30:00Z' })).toStrictEqual([
      middle,
    ]);
  });
});

describe('the steps of requests in the history', () => {
  /** By action, oldest first, and for the audit log its number. */
  const toldOf = ({ entries }: Page): string[] =>
    entries.map(({ action, audit_id: id }) => (id === null ? action : `${action} in the log`)).reverse();

  beforeAll(async () => {
    await rest.guard(rest.shop.environments.prod);
  });

  it('are listed among the changes, each with user, time and reason, with the names of its event', async () => {
    const client = await V1Client.connect(rest.server.wsUrl, { token: rest.users.carol.token });
    await client.caughtUp({
      projectId: rest.shop.projectId,
      environmentId: rest.shop.environments.prod,
    });
    const { featureId, changeId: first } = await requestChange(rest, 'bob');
    await decide(rest, 'alice', first, 'reject');
    const { changeId: second } = await requestChange(rest, 'bob', { enabled: true }, featureId);
    await decide(rest, 'alice', second, 'approve');
    const { changeId: third } = await requestChange(rest, 'bob', { enabled: false }, featureId);
    await decide(rest, 'bob', third, 'cancel');
    await client.message((message) => 'source' in message && message.action === 'cancelled');
    await client.close();

    const history = await page('prod', { feature_id: featureId });
    const feature = {
      entity: 'feature',
      entity_id: featureId,
      feature_id: featureId,
      feature_name: 'A flag',
    };
    const step = { ...feature, source: 'pending', audit_id: null, request_id: null };
    expect(history.entries.toReversed()).toMatchObject([
      {
        ...step,
        action: 'pending',
        pending_change_id: first,
        username: 'bob',
        reason: 'The launch is today',
        diff: [{ field: 'enabled', old: false, new: true }],
      },
      {
        ...step,
        action: 'rejected',
        pending_change_id: first,
        username: 'alice',
        reason: 'Not before Monday',
        diff: [],
      },
      { ...step, action: 'pending', pending_change_id: second },
      {
        ...feature,
        source: 'audit',
        action: 'updated',
        pending_change_id: null,
        username: 'alice',
        reason: null,
      },
      { ...step, action: 'approved', pending_change_id: second, username: 'alice', reason: null, diff: [] },
      { ...step, action: 'pending', pending_change_id: third },
      {
        ...step,
        action: 'cancelled',
        pending_change_id: third,
        username: 'bob',
        reason: null,
      },
    ]);
    const events = client.events.filter((event) => event.feature_id === featureId);
    expect(history.entries.map(({ id }) => id).reverse()).toStrictEqual(
      events.map((event) =>
        [event.source, event.row_id, event.entity, event.entity_id, event.action].join(':'),
      ),
    );
    for (const [index, entry] of history.entries.toReversed().entries()) {
      const isDecision = ['approved', 'rejected', 'cancelled'].includes(entry.action);
      // A decision has the time that the host stored, and its event that of the database's clock after that.
      if (!isDecision) expect(entry.created_at).toBe(events[index]?.timestamp);
      else expect((entry.created_at ?? '') <= (events[index]?.timestamp ?? '')).toBe(true);
      if (entry.audit_id === null) expect(entry.requested_at).not.toBe(null);
    }
  });

  it('are on pages of any size, each once, and can be filtered like changes', async () => {
    const { featureId, changeId } = await requestChange(rest, 'bob');
    await decide(rest, 'alice', changeId, 'approve');
    const { changeId: cancelled } = await requestChange(rest, 'bob', { enabled: false }, featureId);
    await decide(rest, 'bob', cancelled, 'cancel');
    const all = await page('prod', { feature_id: featureId });
    expect(toldOf(all)).toStrictEqual(['pending', 'updated in the log', 'approved', 'pending', 'cancelled']);
    for (const limit of ['1', '2', '3', '4']) {
      const read: unknown[] = [];
      let next: string | null = null;
      do {
        const before: Record<string, string> = next === null ? {} : { before: next };
        const { entries, next: following }: Page = await page('prod', {
          feature_id: featureId,
          limit,
          ...before,
        });
        read.push(...entries);
        next = following;
      } while (next !== null);
      expect(read, `pages of ${limit}`).toStrictEqual(all.entries);
    }
    const steps = async (query: Record<string, string>): Promise<string[]> =>
      toldOf(await page('prod', { feature_id: featureId, ...query }));
    expect(await steps({ username: 'alice' })).toStrictEqual(['updated in the log', 'approved']);
    expect(await steps({ username: 'bob' })).toStrictEqual(['pending', 'pending', 'cancelled']);
    expect(await steps({ action: 'cancelled' })).toStrictEqual(['cancelled']);
    expect(await steps({ entity: 'rule' })).toStrictEqual([]);
    const decidedAt = all.entries[2]?.created_at ?? '';
    expect(await steps({ since: decidedAt })).toStrictEqual([
      'updated in the log',
      'approved',
      'pending',
      'cancelled',
    ]);
    expect(await steps({ until: decidedAt })).toStrictEqual(['pending']);
    // And nothing of it is in another environment.
    expect(toldOf(await page('stage', { feature_id: featureId }))).toStrictEqual([]);
  });

  it('of several entities count once, and are found by the feature of a rule', async () => {
    const { id: featureId } = await rest.addFeature();
    const [changeId, ruleId, scheduleId] = [randomUUID(), randomUUID(), randomUUID()];
    const entities = [
      { entity: 'feature_schedule', entity_id: scheduleId, action: 'delete' },
      {
        entity: 'rule',
        entity_id: ruleId,
        action: 'insert',
        changes: { feature_id: { new: featureId } },
      },
    ];
    const { projectId, environments } = rest.shop;
    const anHourAgo = new Date(Date.now() - 3_600_000).toISOString();
    await rest.pool.query(
      `INSERT INTO pending_changes
         (id, project_id, environment_id, requested_by, change, status, rejected_by, rejected_at, created_at)
       VALUES ($1, $2, $3, 'dora', $4, 'rejected', 'alice', $5, $6)`,
      // By a clock that is a minute behind the database's.
      [
        changeId,
        projectId,
        environments.prod,
        JSON.stringify({ entities }),
        new Date(Date.parse(anHourAgo) - 60_000).toISOString(),
        anHourAgo,
      ],
    );
    for (const { entity, entity_id: entityId } of entities) {
      await rest.pool.query(
        'INSERT INTO pending_change_entities (pending_change_id, entity, entity_id) VALUES ($1, $2, $3)',
        [changeId, entity, entityId],
      );
    }
    const newest = await page('prod', {
      limit: '1',
      until: new Date(Date.parse(anHourAgo) + 1).toISOString(),
    });
    expect(newest.entries).toMatchObject([
      {
        action: 'rejected',
        entity: 'feature_schedule',
        entity_id: scheduleId,
        feature_id: null,
        reason: null,
      },
      { action: 'rejected', entity: 'rule', entity_id: ruleId, feature_id: featureId },
    ]);
    expect((await page('prod', { feature_id: featureId })).entries).toMatchObject([
      { action: 'rejected', entity: 'rule', username: 'alice' },
      {
        action: 'pending',
        entity: 'rule',
        username: 'dora',
        diff: [{ field: 'feature_id', old: null, new: featureId }],
      },
    ]);
    expect((await page('prod', { entity: 'feature_schedule' })).entries).toHaveLength(2);
  });

  it('are listed also if Flagcast is not installed in the database', async () => {
    const database = await createTestDatabase({ schema: 'tables' });
    const { pool } = database;
    const { projectId, environments } = await seedProject(pool);
    await pool.query('DROP SCHEMA flagcast CASCADE');
    const root = await createUser(pool, 'root', { superuser: true });
    const featureId = randomUUID();
    for (const status of ['cancelled', 'pending']) {
      await pool.query(
        `WITH made AS (
           INSERT INTO pending_changes (project_id, environment_id, requested_by, change, status)
           VALUES ($1, $2, 'bob', '{}', $4) RETURNING id
         )
         INSERT INTO pending_change_entities (pending_change_id, entity, entity_id) SELECT id, 'feature', $3 FROM made`,
        [projectId, environments.dev, featureId, status],
      );
    }
    const server = await startTestServer(database.url);
    const get = async (path: string) =>
      await send(server.httpUrl, 'GET', path, undefined, { Authorization: `Bearer ${root.token}` });
    const history = await get(`/api/audit?project_id=${projectId}&env=dev`);
    const open = await get('/api/pending-changes');
    await server.close();
    await database.drop();
    expect(history).toMatchObject({
      status: 200,
      body: {
        entries: ['pending', 'cancelled', 'pending'].map((action) => ({ action, feature_id: featureId })),
      },
    });
    expect(open).toMatchObject({
      status: 200,
      body: { pending_changes: [{ requested_by: 'bob', entities: [{ feature_id: featureId }] }] },
    });
  });
});
