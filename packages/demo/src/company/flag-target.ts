import type pg from 'pg';
import type { ParamsChange, FlagPart, AuditState } from './dataset-builder.js';
import { flagTemplates } from './flag-templates.js';
import { demoProjects, demoUsers } from './company.js';
import type { Random } from './random.js';
import { auditFeatureState, ruleState, scheduleState } from 'flagcast/support';

/**
 * An action of a simulated user, in the transaction of `client`. Returns a description for the log, or null if the action
 * was not possible; then it has changed nothing.
 */
export type Action = (client: pg.ClientBase, random: Random) => Promise<string | null>;

/** A flag in one environment; the row of the flag is locked. */
export interface FlagTarget {
  readonly projectId: string;
  readonly project: string;
  readonly environmentId: string;
  readonly environment: string;
  readonly featureId: string;
  readonly key: string;
  readonly name: string;
  readonly state: AuditState;
}

type FlagTargetRow = Omit<FlagTarget, 'state'>;

type FlagPartEntity = FlagPart['entity'];

/** The ids of the demo's projects. Actions change no other projects. */
export const projectIds = demoProjects.map((project) => project.id);

/** The owner of the demo's projects, and the user who decides the owner's requests. */
export const owner = 'alice';
export const administrator = 'root';

/** Key prefix of the short-lived flags that actions create and delete. */
export const experimentPrefix = 'experiment-';

/**
 * Picks a random flag that no other transaction has locked, and locks it. Null if there is none. `experiments`: pick only
 * short-lived flags (default: only other flags). `having`: pick only flags that have a rule or a schedule.
 */
export async function lockFlag(
  client: pg.ClientBase,
  random: Random,
  environments: readonly string[],
  { experiments = false, having }: { experiments?: boolean; having?: FlagPartEntity } = {},
): Promise<FlagTarget | null> {
  const { rows } = await client.query<FlagTargetRow>(
    `SELECT project.id AS "projectId", project.name AS project, e.id::text AS "environmentId", e.key AS environment,
       f.id AS "featureId", f.key, f.name
     FROM public.features f
     JOIN public.projects project ON project.id = f.project_id
     JOIN public.environments e ON e.project_id = f.project_id
     WHERE f.project_id = ANY ($1) AND e.key = ANY ($2) AND f.key LIKE $3 || '%' = $4
       AND ($6::text IS DISTINCT FROM 'rule' OR EXISTS (
         SELECT FROM public.rules r WHERE r.feature_id = f.id AND r.environment_id = e.id))
       AND ($6::text IS DISTINCT FROM 'feature_schedule' OR EXISTS (
         SELECT FROM public.feature_schedules s WHERE s.feature_id = f.id AND s.environment_id = e.id))
     ORDER BY md5(f.id || e.key || $5)
     LIMIT 1
     FOR NO KEY UPDATE OF f SKIP LOCKED`,
    [projectIds, environments, experimentPrefix, experiments, random.uuid(), having],
  );
  const [row] = rows;
  if (row === undefined) return null;
  const state = await readFeatureState(client, row.featureId, row.environmentId);
  return state === null ? null : { ...row, state };
}

/** Describes the target for a log line. */
export function describeTarget({ name, project, environment }: FlagTarget): string {
  return `"${name}" in ${project}, ${environment}`;
}

/** Picks a user who may switch flags in the project. */
export function pickMember(random: Random, project: string): string {
  const members = demoUsers.filter(({ roles }) =>
    ['project_owner', 'project_member'].includes(roles[project] ?? ''),
  );
  return random.pick(members).username;
}

/** Picks another value of the flag; null for a flag that is only on or off. */
export function otherValue(random: Random, { project, key, state }: FlagTarget): string | null {
  const values = flagTemplates[project]?.find((template) => template.key === key)?.values ?? [];
  const others = values.filter((value) => value !== state['default_value']);
  return others.length === 0 ? null : random.pick(others);
}

/** The ids that an audit row needs. */
export type FlagIds = Pick<FlagTarget, 'projectId' | 'environmentId' | 'featureId'>;

/** Writes the audit row of a change in the same transaction. */
export async function writeAudit(
  client: pg.ClientBase,
  target: FlagIds,
  entry: {
    readonly entity: string;
    readonly entityId: string;
    readonly username: string;
    readonly before: AuditState | null;
    readonly after: AuditState | null;
    readonly requestId: string;
  },
): Promise<void> {
  const action = entry.before === null ? 'create' : entry.after === null ? 'delete' : 'update';
  await client.query(
    `INSERT INTO public.audit_log
       (project_id, environment_id, feature_id, entity, entity_id, actor, username, action, old_value, new_value, request_id)
     VALUES ($1, $2, $3, $4, $5, 'user', $6, $7, $8, $9, $10)`,
    [
      target.projectId,
      target.environmentId,
      target.featureId,
      entry.entity,
      entry.entityId,
      entry.username,
      action,
      entry.before,
      entry.after,
      entry.requestId,
    ],
  );
}

/** Changes a flag's parameters in one environment and writes the audit row. False if the flag does not exist. */
export async function changeParams(
  client: pg.ClientBase,
  target: FlagIds,
  { enabled, default_value: defaultValue }: ParamsChange,
  { username, requestId }: { readonly username: string; readonly requestId: string },
): Promise<boolean> {
  await client.query('SELECT FROM public.features WHERE id = $1 FOR NO KEY UPDATE', [target.featureId]);
  const before = await readFeatureState(client, target.featureId, target.environmentId);
  if (before === null) return false;
  await client.query(
    `UPDATE public.feature_params
     SET enabled = coalesce($3, enabled), default_value = coalesce($4, default_value), updated_at = now()
     WHERE feature_id = $1 AND environment_id = $2`,
    [target.featureId, target.environmentId, enabled ?? null, defaultValue ?? null],
  );
  const after = await readFeatureState(client, target.featureId, target.environmentId);
  const entry = { entity: 'feature', entityId: target.featureId, username, before, after, requestId };
  await writeAudit(client, target, entry);
  return true;
}

/** Returns the state of the flag in that environment; null if it does not exist. */
export async function readFeatureState(
  client: pg.ClientBase,
  featureId: string,
  environmentId: string,
): Promise<AuditState | null> {
  const { rows } = await client.query<{ state: AuditState }>(
    `SELECT ${auditFeatureState} AS state
     FROM public.features f JOIN public.feature_params p ON p.feature_id = f.id
     WHERE f.id = $1 AND p.environment_id = $2`,
    [featureId, environmentId],
  );
  return rows[0]?.state ?? null;
}

/** Returns the oldest rule or schedule of a flag in one environment, or null. */
export async function readPart(
  client: pg.ClientBase,
  entity: FlagPartEntity,
  target: FlagIds,
): Promise<AuditState | null> {
  const [state, from] =
    entity === 'rule' ? [ruleState, 'public.rules r'] : [scheduleState, 'public.feature_schedules s'];
  const { rows } = await client.query<{ state: AuditState }>(
    `SELECT ${state} AS state FROM ${from} WHERE feature_id = $1 AND environment_id = $2
     ORDER BY created_at, id LIMIT 1`,
    [target.featureId, target.environmentId],
  );
  return rows[0]?.state ?? null;
}

/**
 * Changes a rule or schedule from `before` to `after` and writes the audit row. `before` null creates it, `after` null deletes
 * it.
 */
export async function changePart(
  client: pg.ClientBase,
  target: FlagIds,
  change: {
    readonly entity: FlagPartEntity;
    readonly before: AuditState | null;
    readonly after: AuditState | null;
  },
  { username, requestId }: { readonly username: string; readonly requestId: string },
): Promise<void> {
  const { entity, before, after } = change;
  const [table, columns] =
    entity === 'rule'
      ? ['rules', ['conditions', 'action', 'flag_variant_id', 'priority']]
      : ['feature_schedules', ['starts_at', 'ends_at', 'cron_expr', 'timezone', 'action']];
  if (after === null) await client.query(`DELETE FROM public.${table} WHERE id = $1`, [before?.id]);
  else {
    const list = columns.join(', ');
    await client.query(
      `INSERT INTO public.${table} (id, project_id, environment_id, feature_id, ${list})
       SELECT id, $2, $3, $4, ${list} FROM jsonb_populate_record(NULL::public.${table}, $1)
       ON CONFLICT (id) DO UPDATE SET
         ${columns.map((column) => `${column} = excluded.${column}`).join(', ')}, updated_at = now()`,
      [JSON.stringify(after), target.projectId, target.environmentId, target.featureId],
    );
  }
  const entityId = after?.id ?? before?.id ?? '';
  await writeAudit(client, target, { entity, entityId, username, before, after, requestId });
}
