import { randomUUID } from 'node:crypto';
import type { FeatureState } from '@flagcast/protocol';
import type pg from 'pg';
import {
  auditFeatureState,
  type Author,
  featureJson,
  type FeatureWrite,
  HttpProblem,
  isoUtc,
  type Queries,
  type Rights,
  writeAudit,
} from 'flagcast/support';
import { unknownFeature } from '../problems.js';
import type { FeatureFields, NewFeature } from '../schemas.js';

export function authorOf({ username }: Rights): Author {
  return { actor: 'user', username, requestId: randomUUID() };
}

/** The fields of the feature itself: a change of one is visible in every environment. */
export const sharedFields = ['name', 'description', 'rollout_key'] as const;
/** The fields that each environment has of its own. */
export const environmentFields = ['enabled', 'default_value'] as const;

/** The fields of a feature's state that a deletion removes. */
export const deletableFields = ['id', 'key', 'kind', ...sharedFields, ...environmentFields] as const;

type FeatureField = keyof FeatureFields;

/** The wanted fields that differ from the current ones. */
export function changedFields(current: FeatureState, wanted: FeatureFields): FeatureField[] {
  return [...sharedFields, ...environmentFields].filter(
    (field) => wanted[field] !== undefined && wanted[field] !== current[field],
  );
}

/** Throws HttpProblem `unknown_feature`. */
export async function projectOf(database: Queries, featureId: string): Promise<string> {
  const { rows } = await database.query<{ project_id: string }>(
    'SELECT project_id FROM public.features WHERE id = $1',
    [featureId],
  );
  if (rows[0] === undefined) throw unknownFeature();
  return rows[0].project_id;
}

/** Locks a feature in all environments until the transaction ends. Throws HttpProblem `unknown_feature`. */
export async function lockFeature(
  client: pg.ClientBase,
  { projectId, featureId }: Omit<FeatureWrite, 'author'>,
): Promise<void> {
  const { rowCount } = await client.query(
    'SELECT FROM public.features WHERE id = $1 AND project_id = $2 FOR UPDATE',
    [featureId, projectId],
  );
  if (rowCount === 0) throw unknownFeature();
  // A host may write the parameters without locking the feature.
  await client.query(
    'SELECT FROM public.feature_params WHERE feature_id = $1 ORDER BY environment_id FOR UPDATE',
    [featureId],
  );
}

/** A feature in one environment. Throws HttpProblem `unknown_feature`. */
export async function readFeature(
  database: Queries,
  featureId: string,
  environmentId: string,
): Promise<FeatureState> {
  const { rows } = await database.query<{ feature: FeatureState }>(
    `SELECT ${featureJson} AS feature
     FROM public.features f
     LEFT JOIN public.feature_params p ON p.feature_id = f.id AND p.environment_id = $2
     WHERE f.id = $1`,
    [featureId, environmentId],
  );
  if (rows[0] === undefined) throw unknownFeature();
  return rows[0].feature;
}

/** Throws HttpProblem `stale_version`, with the last change, if the current state has another version. */
export async function requireVersion(
  client: pg.ClientBase,
  environmentId: string,
  { current, version }: { readonly current: FeatureState; readonly version: string },
): Promise<void> {
  if (current.version === version) return;
  // Materialized: with a plain LIMIT 1, the planner may read the whole table backwards, expecting an early hit.
  const { rows } = await client.query<{ username: string; at: string; audit_id: string }>(
    `WITH history AS MATERIALIZED (
       SELECT id, username, actor, created_at FROM public.audit_log WHERE feature_id = $1 AND environment_id = $2
     )
     SELECT coalesce(nullif(username, ''), actor)::text AS username, ${isoUtc('created_at')} AS at, id::text AS audit_id
     FROM history ORDER BY id DESC LIMIT 1`,
    [current.id, environmentId],
  );
  throw new HttpProblem(
    'stale_version',
    `${rows[0]?.username ?? 'Another user'} has changed this feature meanwhile: look at its current state, then change it again`,
    { details: { current, changed_by: rows[0] ?? null } },
  );
}

/** Changes a locked feature; `enabled` and `default_value` are those of the environment. */
export async function updateFeatureRow(
  client: pg.ClientBase,
  write: FeatureWrite,
  { environmentId, wanted }: { readonly environmentId: string; readonly wanted: FeatureFields },
): Promise<void> {
  const { featureId } = write;
  const changed = changedFields(await readFeature(client, featureId, environmentId), wanted);
  await withAudit(client, write, async () => {
    const shared = sharedFields.filter((field) => changed.includes(field));
    if (shared.length > 0) {
      const assignments = shared.map((field, index) => `${field} = $${index + 2}`);
      await client.query(
        `UPDATE public.features SET ${assignments.join(', ')}, updated_at = now() WHERE id = $1`,
        [featureId, ...shared.map((field) => wanted[field])],
      );
    }
    if (environmentFields.some((field) => changed.includes(field))) {
      await client.query(
        `INSERT INTO public.feature_params AS p (feature_id, environment_id, enabled, default_value)
         VALUES ($1, $2, coalesce($3::boolean, false), coalesce($4::text, ''))
         ON CONFLICT (feature_id, environment_id) DO UPDATE SET
           enabled = coalesce($3::boolean, p.enabled), default_value = coalesce($4::text, p.default_value), updated_at = now()`,
        [featureId, environmentId, wanted.enabled ?? null, wanted.default_value ?? null],
      );
    }
  });
}

/** Creates a feature, off in every environment. Returns its id. Throws HttpProblem `key_taken`. */
export async function insertFeatureRow(
  client: pg.ClientBase,
  feature: NewFeature,
  author: Author,
): Promise<string> {
  const { project_id: projectId, key, name, description, kind, rollout_key: rolloutKey } = feature;
  const featureId = randomUUID();
  await withAudit(client, { projectId, featureId, author }, async () => {
    const { rowCount } = await client.query(
      `INSERT INTO public.features (id, project_id, key, name, description, kind, rollout_key)
       SELECT $1::uuid, $2::uuid, $3::text, $4::text, $5::text, $6::text, $7::text
       WHERE NOT EXISTS (SELECT FROM public.features WHERE project_id = $2::uuid AND key = $3::text)
       ON CONFLICT DO NOTHING`,
      [featureId, projectId, key, name, description, kind, rolloutKey],
    );
    if (rowCount === 0) {
      throw new HttpProblem(
        'key_taken',
        `This project has a feature with the key ${key} already: choose another one`,
        { details: { fields: { key: 'is taken by another feature of this project' } } },
      );
    }
    // The tables may have done this already, with their own default.
    await client.query(
      `INSERT INTO public.feature_params (feature_id, environment_id, enabled, default_value)
       SELECT $1::uuid, e.id, false, $3::text FROM public.environments e WHERE e.project_id = $2::uuid
       ON CONFLICT (feature_id, environment_id) DO UPDATE SET default_value = excluded.default_value`,
      [featureId, projectId, feature.default_value],
    );
  });
  return featureId;
}

/** Deletes a locked feature. */
export async function deleteFeatureRow(client: pg.ClientBase, write: FeatureWrite): Promise<void> {
  await withAudit(client, write, async () => {
    await client.query('DELETE FROM public.features WHERE id = $1', [write.featureId]);
  });
}

/** Runs `change`, and writes an audit row for each environment in which it changes the feature. */
async function withAudit(
  client: pg.ClientBase,
  write: FeatureWrite,
  change: () => Promise<void>,
): Promise<void> {
  const { featureId } = write;
  const before = await readStates(client, featureId);
  await change();
  const after = await readStates(client, featureId);
  const environmentIds = new Set([...before.keys(), ...after.keys()]);
  const rows = [...environmentIds].map((environmentId) => ({
    environmentId,
    entity: 'feature',
    entityId: featureId,
    before: before.get(environmentId) ?? null,
    after: after.get(environmentId) ?? null,
  }));
  await writeAudit(client, write, rows);
}

/** The feature in each environment of its project, by the environment's id, as the audit log keeps it. */
async function readStates(client: pg.ClientBase, featureId: string): Promise<Map<string, string>> {
  const { rows } = await client.query<{ environment_id: string; state: string }>(
    `SELECT e.id::text AS environment_id, ${auditFeatureState}::text AS state
     FROM public.features f
     JOIN public.environments e ON e.project_id = f.project_id
     LEFT JOIN public.feature_params p ON p.feature_id = f.id AND p.environment_id = e.id
     WHERE f.id = $1
     ORDER BY e.id`,
    [featureId],
  );
  return new Map(rows.map((row) => [row.environment_id, row.state]));
}
