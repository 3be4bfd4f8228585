import { randomUUID } from 'node:crypto';
import type { FeatureState } from '@flagcast/protocol';
import type pg from 'pg';
// The demo's history and ours are one history: what a state holds is said once.
import type { Queries } from '../../postgres/session-pool.js';
import { featureState } from '../../host/audit-state.js';
import { featureJson } from '../../host/feature-state.js';
import { isoUtc } from '../../host/time-text.js';
import { HttpProblem } from '../../http-problem.js';
import { unknownFeature } from '../problem.js';
import { changedFields, environmentFields, sharedFields, type FeatureFields } from './feature-fields.js';
import type { Rights } from '../../host/rights.js';

/** Who changes something; written into every audit row. */
export interface Author {
  readonly userId: string;
  readonly username: string;
  /** The same in all audit rows of one request. */
  readonly requestId: string;
}

/** The author of what somebody with these rights does in one request. */
export function authorOf({ userId, username }: Rights): Author {
  return { userId, username, requestId: randomUUID() };
}

/** A row of audit_log; values are JSON texts as PostgreSQL writes them. */
export interface AuditRow {
  readonly environmentId: string;
  readonly entity: string;
  readonly entityId: string;
  /** Null: it was not there. */
  readonly before: string | null;
  /** Null: it is gone. */
  readonly after: string | null;
}

/** The project of a feature. Throws HttpProblem `unknown_feature`. */
export async function projectOf(database: Queries, featureId: string): Promise<string> {
  const { rows } = await database.query<{ project_id: string }>(
    'SELECT project_id FROM public.features WHERE id = $1',
    [featureId],
  );
  if (rows[0] === undefined) throw unknownFeature();
  return rows[0].project_id;
}

/** Keeps a feature as it is in all environments until the transaction ends. Throws HttpProblem where it is gone. */
export async function lockFeature(
  client: pg.ClientBase,
  place: { readonly projectId: string; readonly featureId: string },
): Promise<void> {
  const { rowCount } = await client.query(
    'SELECT FROM public.features WHERE id = $1 AND project_id = $2 FOR UPDATE',
    [place.featureId, place.projectId],
  );
  if (rowCount === 0) throw unknownFeature();
  // A host may write the parameters without asking for the feature first.
  await client.query(
    'SELECT FROM public.feature_params WHERE feature_id = $1 ORDER BY environment_id FOR UPDATE',
    [place.featureId],
  );
}

/** A feature as it is in one environment; null where there is none. */
export async function readFeature(
  database: Queries,
  featureId: string,
  environmentId: string,
): Promise<FeatureState | null> {
  const { rows } = await database.query<{ feature: FeatureState }>(
    `SELECT ${featureJson} AS feature
     FROM public.features f
     LEFT JOIN public.feature_params p ON p.feature_id = f.id AND p.environment_id = $2
     WHERE f.id = $1`,
    [featureId, environmentId],
  );
  return rows[0]?.feature ?? null;
}

/** The locked feature, if it is what the writer has seen. Throws HttpProblem `stale_version`. */
export async function expectVersion(
  client: pg.ClientBase,
  place: { readonly featureId: string; readonly environmentId: string },
  version: string,
): Promise<FeatureState> {
  const current = await readFeature(client, place.featureId, place.environmentId);
  if (current === null) throw unknownFeature();
  if (current.version === version) return current;
  const changedBy = await lastChange(client, place);
  throw new HttpProblem(
    409,
    'stale_version',
    `${changedBy?.username ?? 'Somebody else'} has changed this feature meanwhile: look at what it is now, then change it again`,
    { details: { current, changed_by: changedBy } },
  );
}

async function lastChange(
  client: pg.ClientBase,
  place: { readonly featureId: string; readonly environmentId: string },
): Promise<{ username: string; at: string } | null> {
  // Materialized: a plain LIMIT 1 lets the planner read the whole table backwards in hope of an early hit.
  const { rows } = await client.query<{ username: string; at: string }>(
    `WITH history AS MATERIALIZED (
       SELECT id, username, actor, created_at FROM public.audit_log WHERE feature_id = $1 AND environment_id = $2
     )
     SELECT coalesce(nullif(username, ''), actor)::text AS username, ${isoUtc('created_at')} AS at
     FROM history ORDER BY id DESC LIMIT 1`,
    [place.featureId, place.environmentId],
  );
  return rows[0] ?? null;
}

/**
 * Changes a locked feature, with an audit row for each environment in which it shows. What is so
 * already is left alone; `environmentId` is where `enabled` and `default_value` are meant.
 */
export async function changeFeature(
  client: pg.ClientBase,
  place: { readonly projectId: string; readonly featureId: string; readonly environmentId: string },
  wanted: FeatureFields,
  author: Author,
): Promise<void> {
  const current = await readFeature(client, place.featureId, place.environmentId);
  if (current === null) throw unknownFeature();
  const changed = changedFields(current, wanted);
  const before = await readStates(client, place.featureId);
  const shared = sharedFields.filter((field) => changed.includes(field));
  if (shared.length > 0) {
    const assignments = shared.map((field, index) => `${field} = $${index + 2}`);
    await client.query(
      `UPDATE public.features SET ${assignments.join(', ')}, updated_at = now() WHERE id = $1`,
      [place.featureId, ...shared.map((field) => wanted[field])],
    );
  }
  if (environmentFields.some((field) => changed.includes(field))) {
    await client.query(
      `INSERT INTO public.feature_params AS p (feature_id, environment_id, enabled, default_value)
       VALUES ($1, $2, coalesce($3::boolean, false), coalesce($4::text, ''))
       ON CONFLICT (feature_id, environment_id) DO UPDATE SET
         enabled = coalesce($3::boolean, p.enabled), default_value = coalesce($4::text, p.default_value), updated_at = now()`,
      [place.featureId, place.environmentId, wanted.enabled ?? null, wanted.default_value ?? null],
    );
  }
  await auditFeature(client, place, { before, after: await readStates(client, place.featureId) }, author);
}

/** Makes a feature, off in every environment, with an audit row for each. Answers its id. */
export async function createFeature(
  client: pg.ClientBase,
  projectId: string,
  feature: {
    readonly key: string;
    readonly name: string;
    readonly description: string | null;
    readonly kind: string;
    readonly rollout_key: string | null;
    readonly default_value: string;
  },
  author: Author,
): Promise<string> {
  const featureId = randomUUID();
  const { rowCount } = await client.query(
    `INSERT INTO public.features (id, project_id, key, name, description, kind, rollout_key)
     SELECT $1::uuid, $2::uuid, $3::text, $4::text, $5::text, $6::text, $7::text
     WHERE NOT EXISTS (SELECT FROM public.features WHERE project_id = $2::uuid AND key = $3::text)
     ON CONFLICT DO NOTHING`,
    [featureId, projectId, feature.key, feature.name, feature.description, feature.kind, feature.rollout_key],
  );
  if (rowCount === 0) {
    throw new HttpProblem(
      409,
      'key_taken',
      `This project has a feature with the key ${feature.key} already: choose another one`,
      { details: { fields: { key: 'is taken by another feature of this project' } } },
    );
  }
  // Where the tables do not do it by themselves, or have done it with their own default.
  await client.query(
    `INSERT INTO public.feature_params (feature_id, environment_id, enabled, default_value)
     SELECT $1::uuid, e.id, false, $3::text FROM public.environments e WHERE e.project_id = $2
     ON CONFLICT (feature_id, environment_id) DO UPDATE SET default_value = excluded.default_value`,
    [featureId, projectId, feature.default_value],
  );
  const after = await readStates(client, featureId);
  await auditFeature(client, { projectId, featureId }, { before: new Map(), after }, author);
  return featureId;
}

/** Deletes a locked feature, with an audit row for each environment. */
export async function deleteFeature(
  client: pg.ClientBase,
  place: { readonly projectId: string; readonly featureId: string },
  author: Author,
): Promise<void> {
  const before = await readStates(client, place.featureId);
  await client.query('DELETE FROM public.features WHERE id = $1', [place.featureId]);
  await auditFeature(client, place, { before, after: new Map() }, author);
}

/** The feature in every environment of its project, by the environment's id, as the audit keeps it. */
async function readStates(client: pg.ClientBase, featureId: string): Promise<Map<string, string>> {
  const { rows } = await client.query<{ environment_id: string; state: string }>(
    `SELECT e.id::text AS environment_id, ${featureState}::text AS state
     FROM public.features f
     JOIN public.environments e ON e.project_id = f.project_id
     LEFT JOIN public.feature_params p ON p.feature_id = f.id AND p.environment_id = e.id
     WHERE f.id = $1
     ORDER BY e.id`,
    [featureId],
  );
  return new Map(rows.map((row) => [row.environment_id, row.state]));
}

async function auditFeature(
  client: pg.ClientBase,
  place: { readonly projectId: string; readonly featureId: string },
  { before, after }: { before: ReadonlyMap<string, string>; after: ReadonlyMap<string, string> },
  author: Author,
): Promise<void> {
  const environmentIds = [...new Set([...before.keys(), ...after.keys()])];
  const rows = environmentIds.map((environmentId) => ({
    environmentId,
    entity: 'feature',
    entityId: place.featureId,
    before: before.get(environmentId) ?? null,
    after: after.get(environmentId) ?? null,
  }));
  await writeAudit(client, place, rows, author);
}

/** Writes what has changed into audit_log; a row whose two states are equal tells of nothing and is left out. */
export async function writeAudit(
  client: pg.ClientBase,
  place: { readonly projectId: string; readonly featureId: string },
  rows: readonly AuditRow[],
  author: Omit<Author, 'userId'> & { readonly actor?: 'user' | 'system' },
): Promise<void> {
  const changed = rows.filter(({ before, after }) => before !== after);
  if (changed.length === 0) return;
  await client.query(
    `INSERT INTO public.audit_log
       (project_id, environment_id, feature_id, entity, entity_id, actor, username, action, old_value, new_value, request_id)
     SELECT $1::uuid, r.environment_id, $2::uuid, r.entity, r.entity_id, $10::text, $3::text,
       CASE WHEN r.before IS NULL THEN 'create' WHEN r.after IS NULL THEN 'delete' ELSE 'update' END,
       r.before::jsonb, r.after::jsonb, $4::uuid
     FROM unnest($5::bigint[], $6::text[], $7::uuid[], $8::text[], $9::text[]) WITH ORDINALITY
       AS r (environment_id, entity, entity_id, before, after, position)
     ORDER BY r.position`,
    [
      place.projectId,
      place.featureId,
      author.username,
      author.requestId,
      changed.map((row) => row.environmentId),
      changed.map((row) => row.entity),
      changed.map((row) => row.entityId),
      changed.map((row) => row.before),
      changed.map((row) => row.after),
      author.actor ?? 'user',
    ],
  );
}
