import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import { createTestCluster, type TestCluster } from '../../../server/test/database.js';
import { FaultyProxy } from '../../../../testing/testkit/faulty-proxy.ts';
import { type Answer, type RestFixture, createRestFixture, send } from '../../../server/test/rest-fixture.js';
import { startTestServer } from '../../../server/test/server.js';

const queryTimeoutMs = 1_000;

let cluster: TestCluster;
let rest: RestFixture;

beforeAll(async () => {
  cluster = await createTestCluster();
  rest = await createRestFixture(
    { timeouts: { queryTimeoutMs } },
    await cluster.createDatabase({ schema: 'tables' }),
  );
  // A transaction that has notified blocks the COMMIT of every other one that notifies.
  await rest.pool.query(`ALTER DATABASE ${rest.database.name} SET flagcast.notify = 'off'`);
});

afterEach(async () => await standby(''));

afterAll(async () => {
  await rest.close();
  await cluster.remove();
});

/** Every COMMIT waits for a standby with this name; no COMMIT waits if it is empty. */
async function standby(name: string): Promise<void> {
  await rest.pool.query(`ALTER SYSTEM SET synchronous_standby_names = '${name}'`);
  await rest.pool.query('SELECT pg_reload_conf()');
  await vi.waitFor(async () => {
    const { rows } = await rest.pool.query<{ setting: string }>(
      "SELECT setting FROM pg_settings WHERE name = 'synchronous_standby_names'",
    );
    expect(rows[0]?.setting).toBe(name);
  }, 60_000);
}

async function commitsThatWait(): Promise<number> {
  const { rowCount } = await rest.pool.query(
    "SELECT FROM pg_stat_activity WHERE application_name = 'flagcast writes' AND wait_event = 'SyncRep'",
  );
  return rowCount ?? 0;
}

async function enabled(featureId: string): Promise<unknown> {
  const { body } = await rest.ask('alice', 'GET', `/api/features/${featureId}?env=prod`);
  return body.feature?.enabled;
}

const outcomeUnknown = {
  status: 504,
  body: { code: 'outcome_unknown', message: expect.stringContaining('Do not repeat it') as string },
};

describe('a write whose COMMIT is not confirmed in time', () => {
  it('answers that its outcome is unknown, and is neither cancelled nor repeated', async () => {
    const feature = await rest.addFeature();
    const version = await rest.version(feature.id, 'prod');
    await standby('absent');
    const answer = await rest.ask('alice', 'PATCH', `/api/features/${feature.id}`, {
      env: 'prod',
      version,
      enabled: true,
    });
    expect(answer).toMatchObject(outcomeUnknown);
    expect(answer.headers.get('retry-after')).toBeNull();
    expect(await commitsThatWait()).toBe(1);
    expect(await enabled(feature.id)).toBe(false);
    await standby('');
    await expect.poll(async () => await enabled(feature.id)).toBe(true);
    await expect.poll(commitsThatWait).toBe(0);
  });

  it('counts in the budget until it has ended: later writes are refused with 503 and were not begun', async () => {
    const features = [await rest.addFeature(), await rest.addFeature(), await rest.addFeature()];
    const bodies = await Promise.all(
      features.map(async ({ id }) => ({
        env: 'prod',
        version: await rest.version(id, 'prod'),
        enabled: true,
      })),
    );
    await standby('absent');
    const answers: Answer[] = [];
    for (const [index, { id }] of features.entries()) {
      answers.push(await rest.ask('alice', 'PATCH', `/api/features/${id}`, bodies[index]));
    }
    expect(answers.map(({ status, body }) => [status, body.code])).toEqual([
      [504, 'outcome_unknown'],
      [504, 'outcome_unknown'],
      [503, 'busy'],
    ]);
    expect(await commitsThatWait()).toBe(2);
    await standby('');
    await expect.poll(commitsThatWait).toBe(0);
    const [, , last] = features;
    expect(await enabled(last?.id ?? '')).toBe(false);
    expect((await rest.ask('alice', 'PATCH', `/api/features/${last?.id}`, bodies[2])).status).toBe(200);
  });

  it('does not keep a server from closing', async () => {
    const server = await startTestServer(rest.database.url, {
      writes: true,
      timeouts: { queryTimeoutMs },
    });
    const feature = await rest.addFeature();
    const version = await rest.version(feature.id, 'prod');
    await standby('absent');
    const body = { env: 'prod', version, enabled: true };
    const headers = { Authorization: `Bearer ${rest.users.alice.token}` };
    expect(await send(server.httpUrl, 'PATCH', `/api/features/${feature.id}`, body, headers)).toMatchObject(
      outcomeUnknown,
    );
    await server.close();
    expect(await commitsThatWait()).toBe(1);
    await standby('');
    await expect.poll(async () => await enabled(feature.id)).toBe(true);
  });

  it('answers the same when the connection breaks meanwhile', async () => {
    const relay = await FaultyProxy.open([Number(new URL(rest.database.url).port)]);
    const url = new URL(rest.database.url);
    url.port = String(relay.port);
    const server = await startTestServer(url.href, { writes: true });
    const feature = await rest.addFeature();
    const version = await rest.version(feature.id, 'prod');
    await standby('absent');
    try {
      const body = { env: 'prod', version, enabled: true };
      const headers = { Authorization: `Bearer ${rest.users.alice.token}` };
      const answer = send(server.httpUrl, 'PATCH', `/api/features/${feature.id}`, body, headers);
      await expect.poll(commitsThatWait).toBe(1);
      relay.inject('reset');
      expect(await answer).toMatchObject(outcomeUnknown);
    } finally {
      await server.close();
      await relay.close();
    }
  });
});
