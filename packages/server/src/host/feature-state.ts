import { featureText, type ListColumns, listSql } from './feature-lists.js';
import { isoUtc, isoUtcSeconds, plainText, type TextReader } from './sql-expressions.js';

/** The protocol's FeatureState of a row of features `f` and its parameters `p`; `more` are further arguments. */
export const featureJsonOf = (text: TextReader, more = ''): string => `json_build_object(
      'id', f.id, 'key', ${text('f.key')}, 'name', ${text('f.name')}, 'description', ${text('f.description')},
      'kind', f.kind, 'rollout_key', ${text('f.rollout_key')}, 'enabled', coalesce(p.enabled::boolean, false),
      'default_value', coalesce(${text('p.default_value')}, ''),
      'created_at', ${isoUtc('f.created_at')},
      'updated_at', ${isoUtc('greatest(f.updated_at, p.updated_at)')},
      'version', concat_ws('.', f.xmin, p.xmin)${more})`;

/** The protocol's FeatureState of a row of features `f` and its parameters `p`, without its lists. */
export const featureJson = featureJsonOf(plainText);

/** A text as a uuid; null if it is not one. */
export const asUuid = (text: string): string =>
  `CASE WHEN ${text} ~* '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' THEN ${text}::uuid END`;

/** A text as a bigint; null if it is not one. */
export const asBigint = (text: string): string =>
  `CASE WHEN ${text} ~ '^[0-9]{1,18}$' THEN ${text}::bigint END`;

/**
 * A feature of a project with its parameters in one environment and its lists, as `withScheduleState` takes it. The sum
 * and IS TRUE keep the planner from the indexes on the environment and the project, which lead through all features.
 * With `listed` the lists are not read, which takes PostgreSQL half of the time: a feature that has any is that text.
 */
export function featureState(
  columns: ListColumns,
  scope: { projectId: string; featureId: string; environmentId: string },
  listed?: string,
): string {
  const { projectId, featureId, environmentId } = scope;
  const lists = listSql(columns, scope, plainText);
  const text =
    listed === undefined
      ? featureText(featureJsonOf(plainText, lists.fields), lists)
      : `CASE WHEN ${lists.isEmpty} THEN ${featureJsonOf(plainText, lists.emptyFields)}::text ELSE '${listed}' END`;
  return `(
    SELECT ${text}
    FROM public.features f
    LEFT JOIN public.feature_params p ON p.feature_id = f.id AND p.environment_id + 0 = ${environmentId}
    ${listed === undefined ? lists.joins : ''}
    WHERE f.id = ${featureId} AND (f.project_id = ${projectId}) IS TRUE
  )`;
}

/**
 * The content of old_value and new_value of audit_log: the fields that users edit, without the times of the row, so that
 * a field-by-field difference shows only what a user changed. Each is an expression over the tables under the names
 * used here.
 */

/** Over `f` (features) and `p` (feature_params): one feature in one environment. */
export const auditFeatureState = `jsonb_build_object(
  'id', f.id, 'key', f.key, 'name', f.name, 'description', f.description, 'kind', f.kind,
  'rollout_key', f.rollout_key, 'enabled', p.enabled, 'default_value', p.default_value)`;

/** Over `r` (rules). */
export const ruleState = `jsonb_build_object(
  'id', r.id, 'feature_id', r.feature_id, 'conditions', r.conditions, 'action', r.action,
  'flag_variant_id', r.flag_variant_id, 'priority', r.priority)`;

/** Over `s` (feature_schedules). */
export const scheduleState = `jsonb_build_object(
  'id', s.id, 'feature_id', s.feature_id, 'starts_at', ${isoUtcSeconds('s.starts_at')},
  'ends_at', ${isoUtcSeconds('s.ends_at')}, 'cron_expr', s.cron_expr, 'timezone', s.timezone, 'action', s.action)`;
