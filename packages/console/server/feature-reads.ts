import type { FeatureState } from '@flagcast/protocol';
import { type Channel, featureJson, JsonText, type Queries } from 'flagcast/support';
import { shownRow } from './sql-expressions.js';
import { unknownFeature, unknownEnvironment } from './problems.js';
import type { ListedFeature } from './schemas.js';

/** All features of a channel, by key. */
export async function readFeatures(pool: Queries, channel: Channel): Promise<ListedFeature[]> {
  // A write and its audit row have one time, that of their transaction, so an index finds the row in any history.
  const { rows } = await pool.query<{ feature: FeatureState; updated_by: string | null }>(
    `SELECT ${featureJson} AS feature, (
       SELECT coalesce(nullif(a.username, ''), a.actor)::text FROM public.audit_log a
       WHERE a.environment_id = $2::bigint AND a.created_at = greatest(f.updated_at, p.updated_at)
         AND a.feature_id = f.id
       LIMIT 1
     ) AS updated_by
     FROM public.features f
     LEFT JOIN public.feature_params p ON p.feature_id = f.id AND p.environment_id = $2::bigint
     WHERE f.project_id = $1::uuid
     ORDER BY f.key, f.id`,
    [channel.projectId, channel.environmentId],
  );
  return rows.map(({ feature, updated_by }) => ({ ...feature, updated_by }));
}

/** A feature in one environment; the rows of its rules and schedules as JSON. */
interface FeatureDetails {
  readonly environment: { readonly id: string; readonly key: string; readonly name: string };
  readonly feature: FeatureState;
  readonly rules: JsonText;
  readonly schedules: JsonText;
}

/** Throws HttpProblem `unknown_feature` or `unknown_environment`. */
export async function readFeatureDetails(
  pool: Queries,
  featureId: string,
  environmentKey: string,
): Promise<FeatureDetails> {
  const { rows: tables } = await pool.query<{ rules: boolean; schedules: boolean }>(
    `SELECT to_regclass('public.rules') IS NOT NULL AS rules,
       to_regclass('public.feature_schedules') IS NOT NULL AS schedules`,
  );
  const parts = (table: string, exists: boolean | undefined, order: string): string =>
    exists === true
      ? `(
          SELECT coalesce(json_agg(${shownRow('part.state')} ORDER BY part.state -> '${order}', part.state -> 'created_at', part.state -> 'id'), '[]')
          FROM (SELECT to_jsonb(t) AS state FROM public.${table} t WHERE t.feature_id = f.id) AS part
          WHERE coalesce(part.state ->> 'environment_id', e.id::text) = e.id::text
        )::text`
      : `'[]'`;
  const { rows } = await pool.query<{
    environment: FeatureDetails['environment'] | null;
    feature: FeatureState;
    rules: string;
    schedules: string;
  }>(
    `SELECT CASE WHEN e.id IS NOT NULL THEN json_build_object('id', e.id::text, 'key', e.key, 'name', e.name) END AS environment,
       ${featureJson} AS feature,
       ${parts('rules', tables[0]?.rules, 'priority')} AS rules,
       ${parts('feature_schedules', tables[0]?.schedules, 'starts_at')} AS schedules
     FROM public.features f
     LEFT JOIN public.environments e ON e.project_id = f.project_id AND e.key::text = $2
     LEFT JOIN public.feature_params p ON p.feature_id = f.id AND p.environment_id = e.id
     WHERE f.id = $1`,
    [featureId, environmentKey],
  );
  const [row] = rows;
  if (row === undefined) throw unknownFeature();
  const { environment, feature, rules, schedules } = row;
  if (environment === null) throw unknownEnvironment();
  return { environment, feature, rules: new JsonText(rules), schedules: new JsonText(schedules) };
}
