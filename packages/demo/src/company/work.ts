import type pg from 'pg';
import type { ParamsChange, Part, State } from './chronicle.js';
import { flagIdeas } from './ideas.js';
import { demoProjects, demoUsers } from './people.js';
import type { Random } from './random.js';
import { readFeatureState, ruleState, scheduleState } from 'flagcast/demo-support';

/**
 * Something that one of the demo's people does, in the transaction that `client` is in. Answers
 * what it was, as a line to read; null where there is nothing of the kind to do, and nothing was done.
 */
export type Action = (client: pg.ClientBase, random: Random) => Promise<string | null>;

/** One flag in one environment, as the demo's people choose it to work on; its row is locked. */
export interface Workplace {
  readonly projectId: string;
  readonly project: string;
  readonly environmentId: string;
  readonly environment: string;
  readonly featureId: string;
  readonly key: string;
  readonly name: string;
  readonly state: State;
}

type WorkplaceRow = Omit<Workplace, 'state'>;

type PartEntity = Part['entity'];

/** The ids of the demo's projects: nobody of the demo touches any other. */
export const projectIds = demoProjects.map((project) => project.id);

/** Who owns the demo's projects, and who decides what the owner asks for. */
export const owner = 'alice';
export const administrator = 'root';

/** Short-lived flags that the demo's people make and delete again. */
export const experimentPrefix = 'experiment-';

/**
 * Picks a flag that nobody else works on at this moment and locks it, so that the demo's people and
 * those at the console take turns. `experiments`: only those, or none of them (the default);
 * `having`: only where there is a rule, or a schedule. Null: there is none.
 */
export async function pickWorkplace(
  client: pg.ClientBase,
  random: Random,
  environments: readonly string[],
  { experiments = false, having }: { experiments?: boolean; having?: PartEntity } = {},
): Promise<Workplace | null> {
  const { rows } = await client.query<WorkplaceRow>(
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

/** The place in the words of a log line. */
export function located({ name, project, environment }: Workplace): string {
  return `"${name}" in ${project}, ${environment}`;
}

/** Somebody who may switch flags in the project. */
export function switcher(random: Random, project: string): string {
  const people = demoUsers.filter(({ roles }) =>
    ['project_owner', 'project_member'].includes(roles[project] ?? ''),
  );
  return random.pick(people).username;
}

/** Another value that the flag could have; null for one that is only on or off. */
export function otherValue(random: Random, { project, key, state }: Workplace): string | null {
  const values = flagIdeas[project]?.find((idea) => idea.key === key)?.values ?? [];
  const others = values.filter((value) => value !== state['default_value']);
  return others.length === 0 ? null : random.pick(others);
}

/** Where somebody works: enough of a Workplace to write its audit row. */
export type Place = Pick<Workplace, 'projectId' | 'environmentId' | 'featureId'>;

/** Writes the audit row of a change that is made in the same transaction. */
export async function writeAudit(
  client: pg.ClientBase,
  place: Place,
  entry: {
    readonly entity: string;
    readonly entityId: string;
    readonly username: string;
    readonly before: State | null;
    readonly after: State | null;
    readonly requestId: string;
  },
): Promise<void> {
  const action = entry.before === null ? 'create' : entry.after === null ? 'delete' : 'update';
  await client.query(
    `INSERT INTO public.audit_log
       (project_id, environment_id, feature_id, entity, entity_id, actor, username, action, old_value, new_value, request_id)
     VALUES ($1, $2, $3, $4, $5, 'user', $6, $7, $8, $9, $10)`,
    [
      place.projectId,
      place.environmentId,
      place.featureId,
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

/** Changes a flag's parameters in one environment, with the audit row; false where the flag is gone. */
export async function changeParams(
  client: pg.ClientBase,
  place: Place,
  { enabled, default_value: defaultValue }: ParamsChange,
  { username, requestId }: { readonly username: string; readonly requestId: string },
): Promise<boolean> {
  await client.query('SELECT FROM public.features WHERE id = $1 FOR NO KEY UPDATE', [place.featureId]);
  const before = await readFeatureState(client, place.featureId, place.environmentId);
  if (before === null) return false;
  await client.query(
    `UPDATE public.feature_params
     SET enabled = coalesce($3, enabled), default_value = coalesce($4, default_value), updated_at = now()
     WHERE feature_id = $1 AND environment_id = $2`,
    [place.featureId, place.environmentId, enabled ?? null, defaultValue ?? null],
  );
  const after = await readFeatureState(client, place.featureId, place.environmentId);
  const entry = { entity: 'feature', entityId: place.featureId, username, before, after, requestId };
  await writeAudit(client, place, entry);
  return true;
}

/** The rule, or the schedule, of a flag in one environment: the oldest, or null. */
export async function readPart(
  client: pg.ClientBase,
  entity: PartEntity,
  place: Place,
): Promise<State | null> {
  const [state, from] =
    entity === 'rule' ? [ruleState, 'public.rules r'] : [scheduleState, 'public.feature_schedules s'];
  const { rows } = await client.query<{ state: State }>(
    `SELECT ${state} AS state FROM ${from} WHERE feature_id = $1 AND environment_id = $2
     ORDER BY created_at, id LIMIT 1`,
    [place.featureId, place.environmentId],
  );
  return rows[0]?.state ?? null;
}

/** Brings a rule or a schedule from `before` to `after` (null: it is not there), with the audit row. */
export async function changePart(
  client: pg.ClientBase,
  entity: PartEntity,
  place: Place,
  { before, after }: { readonly before: State | null; readonly after: State | null },
  { username, requestId }: { readonly username: string; readonly requestId: string },
): Promise<void> {
  const [table, columns] =
    entity === 'rule'
      ? ['rules', ['conditions', 'action', 'flag_variant_id', 'priority']]
      : ['feature_schedules', ['starts_at', 'ends_at', 'cron_expr', 'timezone', 'action']];
  if (after === null) await client.query(`DELETE FROM public.${table} WHERE id = $1`, [before?.id]);
  else {
    const named = columns.join(', ');
    await client.query(
      `INSERT INTO public.${table} (id, project_id, environment_id, feature_id, ${named})
       SELECT id, $2, $3, $4, ${named} FROM jsonb_populate_record(NULL::public.${table}, $1)
       ON CONFLICT (id) DO UPDATE SET
         ${columns.map((column) => `${column} = excluded.${column}`).join(', ')}, updated_at = now()`,
      [JSON.stringify(after), place.projectId, place.environmentId, place.featureId],
    );
  }
  const entityId = after?.id ?? before?.id ?? '';
  await writeAudit(client, place, { entity, entityId, username, before, after, requestId });
}
