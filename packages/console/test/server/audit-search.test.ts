import { randomUUID } from 'node:crypto';
import type pg from 'pg';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { insertAudit, withClient } from '../../../server/test/database.js';
import { type RestFixture, createRestFixture } from '../../../server/test/rest-fixture.js';

let rest: RestFixture;
let place: { projectId: string; environmentId: string };

beforeEach(async () => {
  rest = await createRestFixture();
  place = { projectId: rest.shop.projectId, environmentId: rest.shop.environments.prod };
});

afterEach(async () => await rest.close());

interface Page {
  readonly entries: readonly {
    readonly id: string;
    readonly audit_id: string | null;
    readonly pending_change_id: string | null;
    readonly old_value: unknown;
    readonly new_value: unknown;
    readonly truncated: boolean;
    readonly diff: unknown;
  }[];
  readonly next: string | null;
  readonly searched_until: string | null;
  readonly index: string | null;
}

async function page(query: Record<string, string> = {}): Promise<Page & { bytes: number }> {
  const parameters = new URLSearchParams({ project_id: place.projectId, env: 'prod', ...query });
  const { status, body } = await rest.ask('carol', 'GET', `/api/audit?${parameters.toString()}`);
  expect(status).toBe(200);
  return { ...(body as unknown as Page), bytes: JSON.stringify(body).length };
}

/** All pages, newest first. */
async function allPages(query: Record<string, string>): Promise<Page[]> {
  const pages = [await page(query)];
  for (let next = pages[0]?.next ?? null; next !== null; next = pages.at(-1)?.next ?? null) {
    pages.push(await page({ ...query, before: next }));
  }
  return pages;
}

const idsOf = (pages: readonly Page[]): (string | null)[] =>
  pages.flatMap(({ entries }) => entries.map(({ audit_id: id }) => id));

/** Runs `work` in a transaction without the triggers of these tables, which would take most of the time. */
async function withoutTriggers<Result>(
  tables: readonly string[],
  work: (client: pg.Client) => Promise<Result>,
): Promise<Result> {
  const each = (statement: string): string =>
    tables.map((table) => `ALTER TABLE ${table} ${statement};`).join('');
  return await withClient(rest.database.url, async (client) => {
    await client.query(`BEGIN; ${each('DISABLE TRIGGER ALL')}`);
    const result = await work(client);
    const enable = `${each('ENABLE TRIGGER ALL')} ${each('ENABLE ALWAYS TRIGGER flagcast_log')}`;
    await client.query(`${enable} COMMIT; ANALYZE ${tables.join(', ')}`);
    return result;
  });
}

/** Inserts rows of other features, a second apart or at one time; returns their ids, newest first. */
async function fill(
  count: number,
  secondsApart: number,
  environmentId = place.environmentId,
): Promise<string[]> {
  return await withoutTriggers(['audit_log'], async (client) => {
    const { rows } = await client.query<{ id: string }>(
      `INSERT INTO audit_log (project_id, environment_id, feature_id, entity, entity_id, actor, username, action, created_at)
       SELECT $1, $2, gen_random_uuid(), 'feature', gen_random_uuid(), 'user', 'user ' || n % 100, 'update',
         '2026-01-01T00:00:00Z'::timestamptz + n * $4 * interval '1 s'
       FROM generate_series(1, $3) AS n RETURNING id::text`,
      [place.projectId, environmentId, count, secondsApart],
    );
    return rows.map(({ id }) => id).reverse();
  });
}

describe('a search of the history', () => {
  it('for a rare entry reads 20,000 rows a page, reports its progress, and continues', async () => {
    const old = { ...place, createdAt: '2025-12-31T00:00:00Z', username: 'zoe' };
    const { id } = await insertAudit(rest.pool, old);
    await fill(41_000, 1);
    const pages = await allPages({ username: 'zoe' });
    expect(pages.map(({ entries }) => entries.length)).toStrictEqual([0, 0, 1]);
    expect(idsOf(pages)).toStrictEqual([id]);
    expect(pages.map(({ searched_until: until }) => until)).toStrictEqual([
      '2026-01-01T05:50:00.000000Z',
      '2026-01-01T00:16:40.000000Z',
      null,
    ]);
    expect(pages[0]?.index).toBe('audit_log_environment_id_created_at_idx');
  });

  it('finds every row also if one transaction wrote more than a page reads', async () => {
    const before = await insertAudit(rest.pool, {
      ...place,
      createdAt: '2025-12-31T00:00:00Z',
      username: 'user 7',
    });
    const rows = await fill(21_000, 0);
    const after = await insertAudit(rest.pool, {
      ...place,
      createdAt: '2026-01-02T00:00:00Z',
      username: 'user 7',
    });
    // The first is of user 1, so that every hundredth from the 94th of the newest on is of user 7.
    const wanted = rows.filter((_, index) => (21_000 - index) % 100 === 7);
    for (const limit of ['200', '97']) {
      expect(idsOf(await allPages({ username: 'user 7', limit }))).toStrictEqual([
        after.id,
        ...wanted,
        before.id,
      ]);
    }
    const [newest] = await allPages({
      until: '2026-01-01T00:00:01Z',
      since: '2026-01-01T00:00:00Z',
      limit: '50',
      username: 'user 1',
    });
    expect(newest?.entries).toHaveLength(0);
    const first = await page({ until: '2026-01-01T00:00:01Z', limit: '3' });
    const second = await page({ until: '2026-01-01T00:00:01Z', limit: '3', before: first.next ?? '' });
    expect(idsOf([second])).toStrictEqual(rows.slice(0, 3));
  });

  it('uses an index on created_at alone, which contains the rows of other environments', async () => {
    await rest.pool.query('DROP INDEX audit_log_environment_id_created_at_idx');
    const { id } = await insertAudit(rest.pool, { ...place, createdAt: '2025-12-31T00:00:00Z' });
    await fill(21_000, 1, rest.shop.environments.stage);
    const pages = await allPages({});
    expect(idsOf(pages)).toStrictEqual([id]);
    expect(pages.map(({ index }) => index)).toStrictEqual(Array(2).fill('audit_log_created_at_idx'));
  });

  it('reads only the newest 5,000 rows, and reports it, without an index by time', async () => {
    await rest.pool.query(
      'DROP INDEX audit_log_environment_id_created_at_idx, audit_log_created_at_idx, audit_log_feature_id_idx',
    );
    await insertAudit(rest.pool, { ...place, createdAt: '2025-12-31T00:00:00Z', username: 'zoe' });
    const rows = await fill(6_000, 1);
    expect(await page({ username: 'zoe' })).toMatchObject({
      entries: [],
      next: null,
      searched_until: '2026-01-01T00:16:40.000000Z',
      index: null,
    });
    expect(idsOf(await allPages({ limit: '200' }))).toStrictEqual(rows.slice(0, 5_000));
  });

  it('finds the whole history of a feature by its index', async () => {
    const featureId = randomUUID();
    const { id } = await insertAudit(rest.pool, {
      ...place,
      featureId,
      createdAt: '2025-12-31T00:00:00Z',
    });
    await fill(21_000, 1);
    const pages = await allPages({ feature_id: featureId });
    expect(idsOf(pages)).toStrictEqual([id]);
    expect(pages).toHaveLength(1);
    expect(pages[0]?.index).toBe('audit_log_feature_id_idx');
  });

  it('reads 2,000 steps of requests a page', async () => {
    const ruleId = randomUUID();
    await withoutTriggers(['pending_changes', 'pending_change_entities'], async (client) => {
      await client.query(
        `WITH made AS (
           INSERT INTO pending_changes (project_id, environment_id, requested_by, change, status)
           SELECT $1, $2, 'bob', '{}', 'cancelled' FROM generate_series(1, 2500) RETURNING id
         )
         INSERT INTO pending_change_entities (pending_change_id, entity, entity_id)
         SELECT id, CASE WHEN row_number() OVER (ORDER BY id) = 1 THEN 'rule' ELSE 'feature_schedule' END, $3::uuid FROM made`,
        [place.projectId, place.environmentId, ruleId],
      );
    });
    const pages = await allPages({ entity: 'rule' });
    expect(pages.length).toBeGreaterThan(1);
    expect(pages.flatMap(({ entries }) => entries)).toHaveLength(2);
    expect(new Set(pages.flatMap(({ entries }) => entries.map(({ id }) => id))).size).toBe(2);
  });
});

describe('a page of the history', () => {
  it('shortens values that are too large, and marks them', async () => {
    const large = await insertAudit(rest.pool, { ...place, oldValue: { a: 1 } });
    await rest.pool.query(
      `UPDATE audit_log SET new_value = jsonb_build_object('text', (
         SELECT string_agg(md5(n::text), '') FROM generate_series(1, 650000) AS n)) WHERE id = $1`,
      [large.id],
    );
    const small = await insertAudit(rest.pool, { ...place, oldValue: { a: 1 }, newValue: { a: 2 } });
    const { entries, bytes } = await page();
    expect(entries).toMatchObject([
      { audit_id: small.id, truncated: false, new_value: { a: 2 } },
      {
        audit_id: large.id,
        truncated: true,
        old_value: { a: 1 },
        new_value: '(too large to be shown: look it up in the database)',
        diff: [],
      },
    ]);
    expect(bytes).toBeLessThan(10_000);
  });

  it('shortens requests that are too large, and marks them', async () => {
    const { rows } = await rest.pool.query<{ id: string }>(
      `WITH made AS (
         INSERT INTO pending_changes (project_id, environment_id, requested_by, change)
         SELECT $1, $2, 'bob', jsonb_build_object('meta', jsonb_build_object('reason', repeat('because ', 1000000)))
         RETURNING id
       )
       INSERT INTO pending_change_entities (pending_change_id, entity, entity_id)
       SELECT id, 'feature', gen_random_uuid() FROM made RETURNING pending_change_id AS id`,
      [place.projectId, place.environmentId],
    );
    const { entries, bytes } = await page();
    expect(entries).toMatchObject([
      { pending_change_id: rows[0]?.id, truncated: true, diff: [], reason: null },
    ]);
    expect(bytes).toBeLessThan(10_000);
  });

  it('ends after 1 MiB of values, and the next page continues after it', async () => {
    const ids: string[] = [];
    for (let count = 0; count < 60; count += 1) {
      ids.push(
        (await insertAudit(rest.pool, { ...place, newValue: { [`text ${count}`]: 'x'.repeat(60_000) } })).id,
      );
    }
    const pages = await allPages({ limit: '200' });
    expect(idsOf(pages)).toStrictEqual(ids.toReversed());
    expect(pages).toHaveLength(4);
    expect(pages.flatMap(({ entries }) => entries).some(({ truncated }) => truncated)).toBe(false);
  });
});
