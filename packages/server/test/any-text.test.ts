import { randomUUID } from 'node:crypto';
import type { EventMessage, FeatureState, PendingChange, Snapshot } from '@flagcast/protocol';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { insertAudit } from './database.js';
import { EventStreamClient } from '../../../testing/testkit/clients/event-stream-client.ts';
import { PlainClient } from './plain-client.js';
import { type Answer, type RestFixture, createRestFixture } from './rest-fixture.js';
import { type TestChannel, V1Client } from './v1-client.js';

/** Texts that columns can hold and that have caused errors in real systems. */
const texts = [
  `'; DROP TABLE users; --`,
  `' OR '1'='1`,
  '$1',
  '%s %n %00 %',
  '\\',
  '\\ud800',
  `"quoted" 'and' \`so\``,
  '\u0001\u0008\u001b[2J\u007f\u0085',
  'two\nlines\r\nand\ttabs',
  '\u2028\u2029',
  '👩‍👩‍👧‍👦💥',
  'שלום \u202eabc\u202c',
  '\u0301\u0301 lone marks \ufeff',
  '{"type":"ping"}',
  'data: x',
  '<script>alert(1)</script>',
  '__proto__',
  'constructor',
  'null',
  ' ',
];

let rest: RestFixture;
let channel: TestChannel;
let plain: PlainClient;
let v1: V1Client;
let stream: EventStreamClient;

beforeAll(async () => {
  rest = await createRestFixture({ database: { pollIntervalMs: 20 } });
  const { projectId, environments } = rest.shop;
  channel = { projectId, environmentId: environments.dev };
  const { token } = rest.users.alice;
  const address = { project_id: projectId, env: 'dev' };
  plain = await PlainClient.connect(rest.server.wsUrl, address, { token });
  v1 = await V1Client.connect(rest.server.wsUrl, { token });
  await v1.caughtUp(channel);
  stream = await EventStreamClient.open(rest.server.httpUrl, address, {
    Authorization: `Bearer ${token}`,
  });
});

afterAll(async () => {
  await Promise.all([plain.close(), v1.close()]);
  stream.response.destroy();
  await rest.close();
});

/** Creates a feature with this text in all columns, up to their length. */
async function addFeature(text: string): Promise<string> {
  const id = randomUUID();
  await rest.pool.query(
    `INSERT INTO features (id, project_id, key, name, description, kind, rollout_key)
     VALUES ($1, $2, left($3, 50), left($3, 50), left($3, 300), 'simple', $3)`,
    [id, channel.projectId, text],
  );
  await rest.pool.query('UPDATE feature_params SET default_value = left($2, 128) WHERE feature_id = $1', [
    id,
    text,
  ]);
  return id;
}

async function ask(path: string): Promise<Answer> {
  return await rest.ask('alice', 'GET', path);
}

/** The event of the entity as every client receives it; the plain client gets eight keys. */
async function delivered(entityId: string): Promise<EventMessage[]> {
  const message = await plain.received(({ entity_id: id }) => id === entityId);
  const events = [await v1.event(entityId), await stream.event(entityId)];
  for (const event of events) expect(event).toMatchObject(message);
  return events;
}

/** What a feature of this text has to look like. */
function stateOf(text: string): Partial<FeatureState> {
  const cut = (length: number): string => Array.from(text).slice(0, length).join('');
  return {
    key: cut(50),
    name: cut(50),
    description: cut(300),
    rollout_key: text,
    default_value: cut(128),
  };
}

describe('G10: any content of a row', () => {
  it.each(texts)('%j arrives unchanged through every entry point', async (text) => {
    const featureId = await addFeature(text);
    const change = {
      ...channel,
      featureId,
      username: text,
      oldValue: { [text]: 1 },
      newValue: { [text]: text },
    };
    await insertAudit(rest.pool, change);
    for (const event of await delivered(featureId)) {
      expect(event).toMatchObject({ actor: text, feature: stateOf(text) });
    }
    const { projectId } = channel;
    const address = `project_id=${projectId}&env=dev`;
    const { body } = await ask(`/api/snapshot?${address}`);
    const { features } = body as unknown as Snapshot;
    expect(features.find(({ id }) => id === featureId)).toMatchObject(stateOf(text));
    expect((await ask(`/api/features/${featureId}?env=dev`)).body.feature).toMatchObject(stateOf(text));
    const audit = await ask(`/api/audit?${address}&feature_id=${featureId}`);
    expect(audit.body['entries']).toMatchObject([
      { username: text, feature_name: stateOf(text).name, diff: [{ field: text, old: 1, new: text }] },
    ]);
  });

  it.each([
    [60_000, 'with their state'],
    // The page of events has a limit, so the state is omitted and the event says so.
    [1_000_000, 'as unreadable'],
  ])('features of %i bytes arrive %s, many in one transaction', async (bytes, how) => {
    const text = `💥"\\${'x'.repeat(bytes)}`;
    const featureIds = [];
    for (let count = 0; count < 4; count += 1) featureIds.push(await addFeature(`${count}${text}`));
    const writer = await rest.pool.connect();
    await writer.query('BEGIN');
    for (const featureId of featureIds) {
      await insertAudit(writer, {
        ...channel,
        featureId,
        oldValue: { text },
        newValue: { text: `${text}!` },
      });
    }
    await writer.query('COMMIT');
    writer.release();
    for (const [count, featureId] of featureIds.entries()) {
      for (const event of await delivered(featureId)) {
        const isWhole = event.feature?.rollout_key === `${count}${text}`;
        const { feature_unreadable: isUnreadable = false } = event;
        expect({ isWhole, isUnreadable, hasState: 'feature' in event }).toStrictEqual({
          isWhole: how === 'with their state',
          isUnreadable: how === 'as unreadable',
          hasState: how === 'with their state',
        });
      }
    }
    const audit = await ask(
      `/api/audit?project_id=${channel.projectId}&env=dev&feature_id=${featureIds[0] ?? ''}`,
    );
    const [entry] = audit.body['entries'] as { truncated: boolean; diff: { new: string }[] }[];
    // 64 KiB is the bound of a value in the history.
    const isLarge = text.length > 65_536;
    expect(entry?.truncated).toBe(isLarge);
    expect(entry?.diff[0]?.new === `${text}!`).toBe(!isLarge);
    await rest.pool.query(`DELETE FROM features WHERE rollout_key LIKE '%xxxx%'`);
  });

  it.each([
    [900, 'as it is'],
    [2_000, 'as a text that says so'],
    [6_000, 'as a text that says so'],
  ])('JSON of %i levels is in responses %s', async (levels, how) => {
    const deep = `${'{"a":['.repeat(levels / 2)}1${']}'.repeat(levels / 2)}`;
    const shown = how === 'as it is' ? deep : '(nested in more than 1000 levels: look it up in the database)';
    const { projectId, environmentId } = channel;
    const featureId = await addFeature(`deep ${levels}`);
    await rest.pool.query(
      `INSERT INTO audit_log (project_id, environment_id, feature_id, entity, entity_id, actor, action, old_value, new_value)
       VALUES ($1, $2, $3, 'feature', $3, 'user', 'update', $4, $5)`,
      [projectId, environmentId, featureId, `{"deep":${deep}}`, `{"deep":[${deep}]}`],
    );
    await delivered(featureId);
    await rest.pool.query(
      `INSERT INTO rules (project_id, feature_id, environment_id, conditions, action) VALUES ($1, $2, $3, $4, 'include')`,
      [projectId, featureId, environmentId, deep],
    );
    const changeId = randomUUID();
    const asked = {
      entity: 'feature',
      entity_id: featureId,
      action: 'update',
      changes: { name: { new: 0 } },
    };
    const change = JSON.stringify({ entities: [asked], note: 1 }).replace('"note":1', `"note":${deep}`);
    await rest.pool.query(
      `INSERT INTO pending_changes (id, project_id, environment_id, requested_by, change) VALUES ($1, $2, $3, 'bob', $4)`,
      [changeId, projectId, environmentId, change],
    );
    await rest.pool.query(
      `INSERT INTO pending_change_entities (pending_change_id, entity, entity_id) VALUES ($1, 'feature', $2)`,
      [changeId, featureId],
    );
    const address = `project_id=${projectId}&env=dev`;
    for (const [path, text] of [
      // The history omits values that are too large before it checks their depth.
      [`/api/audit?${address}&feature_id=${featureId}`, levels > 2_000 ? '(too large' : shown],
      [`/api/features/${featureId}?env=dev`, shown],
    ] as const) {
      const { status, body } = await ask(path);
      expect({ path, status }).toStrictEqual({ path, status: 200 });
      expect(JSON.stringify(body)).toContain(text);
    }
    expect((await ask('/api/pending-changes')).status).toBe(200);
    // A client's library could not compare deeper values.
    const { status, body } = await ask(`/api/snapshot?${address}`);
    expect(status).toBe(200);
    const pending = body['pending_changes'] as PendingChange[];
    const found = pending.find(({ id }) => id === changeId)?.entities[0]?.diff;
    const diff = [{ field: 'name', old: 'null', new: '0' }];
    expect(found).toStrictEqual(shown === deep ? diff : []);
    await rest.pool.query('DELETE FROM pending_changes WHERE id = $1', [changeId]);
  });
});
