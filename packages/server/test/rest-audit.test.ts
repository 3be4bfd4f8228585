import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { insertAudit } from './database.js';
import { type Company, openCompany } from './rest-company.js';

let company: Company;

beforeAll(async () => {
  company = await openCompany();
});

afterAll(async () => {
  await company.close();
});

interface Page {
  readonly entries: {
    id: string;
    username: string;
    entity: string;
    diff: unknown;
    [name: string]: unknown;
  }[];
  readonly next: string | null;
}

async function page(env: string, query: Record<string, string> = {}): Promise<Page> {
  const parameters = new URLSearchParams({ project_id: company.shop.projectId, env, ...query });
  const { status, body } = await company.ask('carol', 'GET', `/api/audit?${parameters.toString()}`);
  expect(status).toBe(200);
  return body as unknown as Page;
}

describe('the history', () => {
  it('comes in pages without a gap or a repetition while it grows', async () => {
    const place = { projectId: company.shop.projectId, environmentId: company.shop.environments.stage };
    const written: string[] = [];
    for (let count = 0; count < 23; count += 1) {
      written.push((await insertAudit(company.pool, place)).id);
      // Of another environment, in between.
      await insertAudit(company.pool, { ...place, environmentId: company.shop.environments.prod });
    }
    const read: string[] = [];
    let next: string | null = null;
    let pages = 0;
    do {
      const { entries, next: following }: Page = await page('stage', {
        limit: '5',
        ...(next === null ? {} : { before: next }),
      });
      read.push(...entries.map(({ id }) => id));
      next = following;
      pages += 1;
      await insertAudit(company.pool, place);
    } while (next !== null);
    expect(read).toStrictEqual(written.toReversed());
    expect(pages).toBe(5);
  });

  it('tells field by field what a write changed', async () => {
    const { id, key } = await company.addFeature();
    const change = {
      env: 'dev',
      version: await company.version(id, 'dev'),
      enabled: true,
      default_value: 'blue',
    };
    await company.ask('alice', 'PATCH', `/api/features/${id}`, change);
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
  ])('of what is %s', async (_, oldValue, newValue, diff) => {
    const { featureId } = await insertAudit(company.pool, {
      projectId: company.shop.projectId,
      environmentId: company.shop.environments.dev,
      oldValue: oldValue ?? undefined,
      newValue: newValue ?? undefined,
    });
    expect((await page('dev', { feature_id: featureId })).entries[0]?.diff).toStrictEqual(diff);
  });

  it('can be asked for by entity, by user and by feature', async () => {
    const place = { projectId: company.shop.projectId, environmentId: company.shop.environments.dev };
    const featureId = randomUUID();
    const rule = await insertAudit(company.pool, { ...place, featureId, entity: 'rule', username: 'erin' });
    const system = await insertAudit(company.pool, { ...place, featureId, username: null });
    const ids = async (query: Record<string, string>): Promise<string[]> =>
      (await page('dev', query)).entries.map(({ id }) => id);
    expect(await ids({ entity: 'rule' })).toStrictEqual([rule.id]);
    expect(await ids({ username: 'erin' })).toStrictEqual([rule.id]);
    expect(await ids({ username: 'user', feature_id: featureId })).toStrictEqual([system.id]);
    expect(await ids({ feature_id: featureId })).toStrictEqual([system.id, rule.id]);
    expect(await ids({ feature_id: featureId, entity: 'variant' })).toStrictEqual([]);
  });
});
