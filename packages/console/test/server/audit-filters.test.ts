import { randomUUID } from 'node:crypto';
import { expect, it } from 'vitest';
import { insertAudit } from '../../../server/test/database.js';
import { useRestFixture } from '../../../server/test/rest-fixture.js';

const rest = await useRestFixture();

it('the history of all projects contains what the user may see, with the names of the environments', async () => {
  const here = { projectId: rest.shop.projectId, environmentId: rest.shop.environments.dev };
  const there = { projectId: rest.billing.projectId, environmentId: rest.billing.environments.prod };
  const username = randomUUID();
  const own = await insertAudit(rest.pool, { ...here, username });
  const other = await insertAudit(rest.pool, { ...there, username });
  const seenBy = async (who: 'carol' | 'dave' | 'root') =>
    (await rest.ask(who, 'GET', `/api/audit?projects=all&username=${username}`)).body['entries'];
  const [shop, billing] = [
    { audit_id: own.id, project: 'Shop', environment: 'dev', environment_id: here.environmentId },
    { audit_id: other.id, project: 'Billing', environment: 'prod', project_id: there.projectId },
  ];
  expect(await seenBy('carol')).toMatchObject([shop]);
  expect(await seenBy('dave')).toMatchObject([billing]);
  expect(await seenBy('root')).toMatchObject([billing, shop]);
  const both = await rest.ask('root', 'GET', `/api/audit?projects=all&project_id=${here.projectId}&env=dev`);
  expect(both).toMatchObject({ status: 400, body: { code: 'conflicting_parameters' } });
});

it('the history names a deleted flag in all entries, also in those before its deletion', async () => {
  const place = { projectId: rest.shop.projectId, environmentId: rest.shop.environments.dev };
  const { featureId } = await insertAudit(rest.pool, place);
  for (let count = 0; count < 60; count += 1) await insertAudit(rest.pool, { ...place, featureId });
  await insertAudit(rest.pool, {
    ...place,
    featureId,
    action: 'delete',
    oldValue: { key: 'old', name: 'Old' },
  });
  const unknown = await insertAudit(rest.pool, place);
  const { id } = await rest.addFeature();
  const entries = async (feature: string) => {
    const path = `/api/audit?project_id=${place.projectId}&env=dev&feature_id=${feature}`;
    return (await rest.ask('carol', 'GET', path)).body['entries'];
  };
  const deleted = { feature_key: 'old', feature_name: 'Old', feature_deleted: true };
  const named = (await entries(featureId)) as object[];
  expect([named.at(0), named.at(-1)]).toMatchObject([deleted, deleted]);
  expect(await entries(unknown.featureId)).toMatchObject([{ feature_name: null, feature_deleted: true }]);
  await insertAudit(rest.pool, { ...place, featureId: id });
  expect(await entries(id)).toMatchObject([{ feature_name: 'A flag', feature_deleted: false }]);
});

it('the history is counted by time, with the same filters', async () => {
  const place = { projectId: rest.shop.projectId, environmentId: rest.shop.environments.dev };
  for (const second of [0, 1, 59, 60, 119]) {
    const createdAt = new Date(Date.UTC(2001, 0, 1, 10, 0, second)).toISOString();
    await insertAudit(rest.pool, { ...place, createdAt, username: `user ${second % 2}` });
  }
  const counts = async (query: Record<string, string>) => {
    const range = { since: '2001-01-01T10:00:00Z', until: '2001-01-01T10:02:00Z', buckets: '2' };
    const parameters = new URLSearchParams({ project_id: place.projectId, env: 'dev', ...range, ...query });
    return (await rest.ask('carol', 'GET', `/api/audit/histogram?${parameters.toString()}`)).body;
  };
  expect(await counts({})).toStrictEqual({ counts: [3, 2], searched_until: null });
  expect(await counts({ username: 'user 1' })).toMatchObject({ counts: [2, 1] });
  expect(await counts({ until: '2001-01-01T10:00:01Z', buckets: '1' })).toMatchObject({ counts: [1] });
  // As many parts as there are entries.
  expect(await counts({ buckets: '5' })).toMatchObject({ counts: [2, 0, 2, 0, 1] });
});
