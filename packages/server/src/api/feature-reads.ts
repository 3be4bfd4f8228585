import type { FeatureState } from '@flagcast/protocol';
import type { Queries } from '../postgres/session-pool.js';
import type { Channel } from '../auth/table-authorization.js';
import { unknownFeature, unknownEnvironment } from './problem.js';
import { featureJson } from '../host/feature-state.js';
import { shownRow } from '../host/stored-json.js';
import { JsonText } from '../json-text.js';

/** A feature in a list. */
export type ListedFeature = FeatureState & {
  /** Who made the last change; null where the history does not tell. */
  readonly updated_by: string | null;
};

/** Over `f` (features) and `p` (feature_params). */
const lastWrite = 'greatest(f.updated_at, p.updated_at)';

/** All features of a channel, by key. */
export async function readFeatures(pool: Queries, channel: Channel): Promise<ListedFeature[]> {
  // A write and its audit row are one transaction, hence of one time: an index finds it in any history.
  const { rows } = await pool.query<{ feature: FeatureState; updated_by: string | null }>(
    `SELECT ${featureJson} AS feature, (
       SELECT coalesce(nullif(a.username, ''), a.actor)::text FROM public.audit_log a
       WHERE a.environment_id = $2::bigint AND a.created_at = ${lastWrite} AND a.feature_id = f.id
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

/** A feature with what belongs to it in one environment. */
export interface FeatureDetails {
  readonly environment: { readonly id: string; readonly key: string; readonly name: string };
  readonly feature: FeatureState;
  /** A list of rows of the table, as they are, but for JSON that is nested too deep to be shown. */
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
  const parts = (table: string, there: boolean | undefined, order: string): string =>
    there === true
      ? `(
          SELECT coalesce(json_agg(${shownRow('part.state')} ORDER BY part.state -> '${order}', part.state -> 'created_at', part.state -> 'id'), '[]')
          FROM (SELECT to_jsonb(t) AS state FROM public.${table} t WHERE t.feature_id = f.id) AS part
          WHERE coalesce(part.state ->> 'environment_id', e.id::text) = e.id::text
        )::text`
      : `'[]'`;
  const { rows } = await pool.query<{
    environment_id: string | null;
    environment: string;
    name: string;
    feature: FeatureState;
    rules: string;
    schedules: string;
  }>(
    `SELECT e.id::text AS environment_id, e.key::text AS environment, e.name::text AS name, ${featureJson} AS feature,
       ${parts('rules', tables[0]?.rules, 'priority')} AS rules,
       ${parts('feature_schedules', tables[0]?.schedules, 'starts_at')} AS schedules
     FROM public.features f
     LEFT JOIN public.environments e ON e.project_id = f.project_id AND e.key = $2
     LEFT JOIN public.feature_params p ON p.feature_id = f.id AND p.environment_id = e.id
     WHERE f.id = $1`,
    [featureId, environmentKey],
  );
  const [row] = rows;
  if (row === undefined) throw unknownFeature();
  if (row.environment_id === null) throw unknownEnvironment();
  const { environment_id: id, environment: key, name, feature, rules, schedules } = row;
  return {
    environment: { id, key, name },
    feature,
    rules: new JsonText(rules),
    schedules: new JsonText(schedules),
  };
}
