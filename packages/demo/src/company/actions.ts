import type pg from 'pg';
import type { AuditState } from './dataset-builder.js';
import { differentState, randomRule, randomSchedule } from './flag-templates.js';
import type { Random } from './random.js';
import {
  changeParams,
  changePart,
  experimentPrefix,
  otherValue,
  owner,
  describeTarget,
  lockFlag,
  projectIds,
  readPart,
  pickMember,
  writeAudit,
  type FlagIds,
  type Action,
  readFeatureState,
} from './flag-target.js';

/** Maximum number of experiments at a time. */
const maxExperiments = 4;

/** Switches a flag in dev or stage. */
export const toggle: Action = async (client, random) => {
  const target = await lockFlag(client, random, ['dev', 'stage']);
  if (target === null) return null;
  const username = pickMember(random, target.project);
  const enabled = target.state['enabled'] !== true;
  await changeParams(client, target, { enabled }, { username, requestId: random.uuid() });
  return `${username} switched ${enabled ? 'on' : 'off'} ${describeTarget(target)}`;
};

/** Changes the default value of a flag with several values. */
export const editValue: Action = async (client, random) => {
  const target = await lockFlag(client, random, ['dev', 'stage']);
  const value = target === null ? null : otherValue(random, target);
  if (target === null || value === null) return null;
  await changeParams(client, target, { default_value: value }, { username: owner, requestId: random.uuid() });
  return `${owner} set the value of ${describeTarget(target)} to ${value}`;
};

/** Creates, changes or deletes a rule or a schedule. */
export const editPart: Action = async (client, random) => {
  const entity = random.chance(0.7) ? ('rule' as const) : ('feature_schedule' as const);
  const options = random.chance(0.5) ? { having: entity } : {};
  const target = await lockFlag(client, random, ['dev', 'stage'], options);
  if (target === null) return null;
  const before = await readPart(client, entity, target);
  const generate = (): AuditState =>
    entity === 'rule'
      ? randomRule(random, target.featureId)
      : randomSchedule(random, target.featureId, Date.now());
  const after = before === null ? generate() : random.chance(0.5) ? differentState(before, generate) : null;
  await changePart(client, target, { entity, before, after }, { username: owner, requestId: random.uuid() });
  const verb = before === null ? 'created' : after === null ? 'deleted' : 'changed';
  return `${owner} ${verb} a ${entity === 'rule' ? 'rule' : 'schedule'} of ${describeTarget(target)}`;
};

/** Creates a short-lived flag. */
export const createExperiment: Action = async (client, random) => {
  const { rows } = await client.query<{ count: number }>(
    `SELECT count(*)::int AS count FROM public.features WHERE project_id = ANY ($1) AND key LIKE $2 || '%'`,
    [projectIds, experimentPrefix],
  );
  if ((rows[0]?.count ?? 0) >= maxExperiments) return null;
  const projectId = random.pick(projectIds);
  const featureId = random.uuid();
  const code = featureId.slice(0, 6);
  await client.query(
    `INSERT INTO public.features (id, project_id, key, name, description, kind)
     VALUES ($1, $2, $3, $4, 'Runs for an hour on a few visitors', 'simple')`,
    [featureId, projectId, `${experimentPrefix}${code}`, `Experiment ${code}`],
  );
  await auditAllEnvironments(client, random, { projectId, featureId }, async (environmentId) => ({
    before: null,
    after: await readFeatureState(client, featureId, environmentId),
  }));
  return `${owner} created the flag "Experiment ${code}"`;
};

/** Deletes a short-lived flag. */
export const deleteExperiment: Action = async (client, random) => {
  const target = await lockFlag(client, random, ['dev'], { experiments: true });
  if (target === null) return null;
  const open = await client.query(
    `SELECT FROM public.pending_change_entities p JOIN public.pending_changes c ON c.id = p.pending_change_id
     WHERE c.status = 'pending' AND p.entity_id = $1`,
    [target.featureId],
  );
  if (open.rowCount !== 0) return null;
  await auditAllEnvironments(client, random, target, async (environmentId) => ({
    before: await readFeatureState(client, target.featureId, environmentId),
    after: null,
  }));
  await client.query('DELETE FROM public.features WHERE id = $1', [target.featureId]);
  return `${owner} deleted the flag "${target.name}"`;
};

/** Writes an audit row for each environment of the flag's project. */
async function auditAllEnvironments(
  client: pg.ClientBase,
  random: Random,
  { projectId, featureId }: Pick<FlagIds, 'projectId' | 'featureId'>,
  auditStates: (environmentId: string) => Promise<{ before: AuditState | null; after: AuditState | null }>,
): Promise<void> {
  const requestId = random.uuid();
  const { rows } = await client.query<{ id: string }>(
    'SELECT id::text AS id FROM public.environments WHERE project_id = $1 ORDER BY id',
    [projectId],
  );
  for (const { id: environmentId } of rows) {
    const entry = { entity: 'feature', entityId: featureId, username: owner, requestId };
    const { before, after } = await auditStates(environmentId);
    await writeAudit(client, { projectId, featureId, environmentId }, { ...entry, before, after });
  }
}
