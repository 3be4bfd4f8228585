import type pg from 'pg';
import type { State } from './chronicle.js';
import { inventRule, inventSchedule, reinvent } from './ideas.js';
import type { Random } from './random.js';
import { readFeatureState } from 'flagcast/demo-support';
import {
  changeParams,
  changePart,
  experimentPrefix,
  otherValue,
  owner,
  located,
  pickWorkplace,
  projectIds,
  readPart,
  switcher,
  writeAudit,
  type Place,
  type Action,
} from './work.js';

/** How many experiments may run at a time. */
const experimentsAtMost = 4;

/** Switches a flag in dev or stage. */
export const toggle: Action = async (client, random) => {
  const place = await pickWorkplace(client, random, ['dev', 'stage']);
  if (place === null) return null;
  const username = switcher(random, place.project);
  const enabled = place.state['enabled'] !== true;
  await changeParams(client, place, { enabled }, { username, requestId: random.uuid() });
  return `${username} switched ${enabled ? 'on' : 'off'} ${located(place)}`;
};

/** Sets the default value of a flag that has several. */
export const editValue: Action = async (client, random) => {
  const place = await pickWorkplace(client, random, ['dev', 'stage']);
  const value = place === null ? null : otherValue(random, place);
  if (place === null || value === null) return null;
  await changeParams(client, place, { default_value: value }, { username: owner, requestId: random.uuid() });
  return `${owner} set the value of ${located(place)} to ${value}`;
};

/** Makes a rule or a schedule where there is none; else changes it or deletes it. */
export const editPart: Action = async (client, random) => {
  const entity = random.chance(0.7) ? ('rule' as const) : ('feature_schedule' as const);
  const options = random.chance(0.5) ? { having: entity } : {};
  const place = await pickWorkplace(client, random, ['dev', 'stage'], options);
  if (place === null) return null;
  const before = await readPart(client, entity, place);
  const invent = (): State =>
    entity === 'rule'
      ? inventRule(random, place.featureId)
      : inventSchedule(random, place.featureId, Date.now());
  const after = before === null ? invent() : random.chance(0.5) ? reinvent(before, invent) : null;
  await changePart(client, entity, place, { before, after }, { username: owner, requestId: random.uuid() });
  const verb = before === null ? 'made' : after === null ? 'deleted' : 'changed';
  return `${owner} ${verb} a ${entity === 'rule' ? 'rule' : 'schedule'} of ${located(place)}`;
};

/** Makes a short-lived flag. */
export const createExperiment: Action = async (client, random) => {
  const { rows } = await client.query<{ count: number }>(
    `SELECT count(*)::int AS count FROM public.features WHERE project_id = ANY ($1) AND key LIKE $2 || '%'`,
    [projectIds, experimentPrefix],
  );
  if ((rows[0]?.count ?? 0) >= experimentsAtMost) return null;
  const projectId = random.pick(projectIds);
  const featureId = random.uuid();
  const code = featureId.slice(0, 6);
  await client.query(
    `INSERT INTO public.features (id, project_id, key, name, description, kind)
     VALUES ($1, $2, $3, $4, 'Runs for an hour on a few visitors', 'simple')`,
    [featureId, projectId, `${experimentPrefix}${code}`, `Experiment ${code}`],
  );
  await auditEverywhere(client, random, { projectId, featureId }, async (environmentId) => ({
    before: null,
    after: await readFeatureState(client, featureId, environmentId),
  }));
  return `${owner} made the flag "Experiment ${code}"`;
};

/** Deletes a short-lived flag. */
export const deleteExperiment: Action = async (client, random) => {
  const place = await pickWorkplace(client, random, ['dev'], { experiments: true });
  if (place === null) return null;
  const open = await client.query(
    `SELECT FROM public.pending_change_entities p JOIN public.pending_changes c ON c.id = p.pending_change_id
     WHERE c.status = 'pending' AND p.entity_id = $1`,
    [place.featureId],
  );
  if (open.rowCount !== 0) return null;
  await auditEverywhere(client, random, place, async (environmentId) => ({
    before: await readFeatureState(client, place.featureId, environmentId),
    after: null,
  }));
  await client.query('DELETE FROM public.features WHERE id = $1', [place.featureId]);
  return `${owner} deleted the flag "${place.name}"`;
};

async function auditEverywhere(
  client: pg.ClientBase,
  random: Random,
  { projectId, featureId }: Pick<Place, 'projectId' | 'featureId'>,
  states: (environmentId: string) => Promise<{ before: State | null; after: State | null }>,
): Promise<void> {
  const requestId = random.uuid();
  const { rows } = await client.query<{ id: string }>(
    'SELECT id::text AS id FROM public.environments WHERE project_id = $1 ORDER BY id',
    [projectId],
  );
  for (const { id: environmentId } of rows) {
    const entry = { entity: 'feature', entityId: featureId, username: owner, requestId };
    const { before, after } = await states(environmentId);
    await writeAudit(client, { projectId, featureId, environmentId }, { ...entry, before, after });
  }
}
