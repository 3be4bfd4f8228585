import type pg from 'pg';
import { isoUtcSeconds } from './time-text.js';

/**
 * What old_value and new_value of audit_log hold: the fields that people edit, without the times of the row, so that
 * a field-by-field difference shows only what a person did. Each is an expression over the tables under the names
 * used here.
 */

type Json = string | number | boolean | null | readonly Json[] | { readonly [key: string]: Json };

/** One value of old_value or new_value. */
export type AuditState = { readonly id: string } & Readonly<Record<string, Json>>;

/** Over `f` (features) and `p` (feature_params): one feature in one environment. */
export const featureState = `jsonb_build_object(
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

/** The feature as it is in that environment; null where it is gone. */
export async function readFeatureState(
  client: pg.ClientBase,
  featureId: string,
  environmentId: string,
): Promise<AuditState | null> {
  const { rows } = await client.query<{ state: AuditState }>(
    `SELECT ${featureState} AS state
     FROM public.features f JOIN public.feature_params p ON p.feature_id = f.id
     WHERE f.id = $1 AND p.environment_id = $2`,
    [featureId, environmentId],
  );
  return rows[0]?.state ?? null;
}
