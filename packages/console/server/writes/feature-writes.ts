import { randomUUID } from 'node:crypto';
import type { FeatureState } from '@flagcast/protocol';
import pg from 'pg';
import {
  requestEntities,
  readRights,
  isoUtc,
  HttpProblem,
  invalidFields,
  type Rights,
  type SessionSource,
} from 'flagcast/support';
import { type Environment, readEnvironments } from '../environments.js';
import { unknownEnvironment } from '../problems.js';
import type { FeatureFields, NewFeature } from '../schemas.js';
import {
  authorOf,
  changedFields,
  deletableFields,
  deleteFeatureRow,
  environmentFields,
  insertFeatureRow,
  lockFeature,
  projectOf,
  readFeature,
  requireVersion,
  sharedFields,
  updateFeatureRow,
} from './feature.js';
import { isGuardedByTag } from './guards.js';
import { inWriteTransaction } from './write-transaction.js';

/** A write of a user, and what it is based on. */
interface WriteRequest {
  readonly userId: string;
  readonly featureId: string;
  /** The key of the environment that the user sees, and FeatureState.version there. */
  readonly env: string;
  readonly version: string;
  /** Required if the change needs an approval. */
  readonly reason?: string | undefined;
}

/** Done, or waiting for an approval. */
export type WriteOutcome =
  | { readonly feature: FeatureState }
  | { readonly requested: { readonly projectId: string; readonly pendingChangeId: string } };

// Each write is one transaction with the check of the user's rights, of the version, and its audit rows. Each throws
// HttpProblem, or an error of the database.

/** Creates a feature, off in every environment. Needs no approval. */
export async function createFeature(
  sessions: SessionSource,
  userId: string,
  feature: NewFeature,
): Promise<{ id: string; environments: { id: string; key: string; name: string; feature: FeatureState }[] }> {
  const projectId = feature.project_id.toLowerCase();
  return await inWriteTransaction(sessions, async (client) => {
    const rights = await readRights(client, userId, projectId);
    const { rowCount } = await client.query('SELECT FROM public.projects WHERE id = $1', [projectId]);
    if (rowCount === 0) {
      throw new HttpProblem('unknown_project', 'There is no project with this project_id');
    }
    rights.require(projectId, 'feature.manage');
    const id = await insertFeatureRow(client, { ...feature, project_id: projectId }, authorOf(rights));
    const environments = [];
    for (const { id: environmentId, key, name } of await readEnvironments(client, projectId)) {
      environments.push({
        id: environmentId,
        key,
        name,
        feature: await readFeature(client, id, environmentId),
      });
    }
    return { id, environments };
  });
}

/** Changes some fields, or requests the change if it reaches a guarded environment. */
export async function updateFeature(
  sessions: SessionSource,
  request: WriteRequest,
  wanted: FeatureFields,
): Promise<WriteOutcome> {
  return await inWriteTransaction(sessions, async (client) => {
    const opened = await openFeature(client, request, permissionsFor(wanted));
    const { environments, environment, current, projectId, rights } = opened;
    const { featureId } = request;
    const changed = changedFields(current, wanted);
    if (changed.length === 0) return { feature: current };
    if (sharedFields.some((field) => changed.includes(field))) {
      await refuseWhileRequested(client, { projectId, featureId, parts: true });
    }
    const guarded = guardedEnvironmentOf(environments, environment, changed);
    if (guarded !== null) {
      const changes = changed.map((field) => [field, { old: current[field], new: wanted[field] }]);
      return await requestChange(client, request, { guarded, rights, action: 'update', changes, projectId });
    }
    const write = { projectId, featureId, author: authorOf(rights) };
    await updateFeatureRow(client, write, { environmentId: environment.id, wanted });
    return { feature: await readFeature(client, featureId, environment.id) };
  });
}

/** Deletes a feature, or requests it if an environment of its project is guarded; null when it is deleted. */
export async function deleteFeature(
  sessions: SessionSource,
  request: WriteRequest,
): Promise<Extract<WriteOutcome, { requested: unknown }> | null> {
  return await inWriteTransaction(sessions, async (client) => {
    const opened = await openFeature(client, request, ['feature.manage']);
    const { environments, environment, projectId, rights } = opened;
    const { featureId } = request;
    await refuseWhileRequested(client, { projectId, featureId, parts: true });
    const guarded = environment.guarded ? environment : environments.find((each) => each.guarded);
    if (guarded === undefined) {
      await deleteFeatureRow(client, { projectId, featureId, author: authorOf(rights) });
      return null;
    }
    const state = await readFeature(client, featureId, guarded.id);
    const changes = deletableFields.map((field) => [field, { old: state[field], new: null }]);
    return await requestChange(client, request, { guarded, rights, action: 'delete', changes, projectId });
  });
}

/**
 * Locks the feature, for a user with one of the permissions: other users cannot delay those. If the feature has the tag
 * `guarded`, every environment counts as guarded. Throws HttpProblem `stale_version` and others.
 */
async function openFeature(
  client: pg.ClientBase,
  { userId, featureId, env, version }: WriteRequest,
  anyOf: readonly ('feature.toggle' | 'feature.manage')[],
): Promise<{
  projectId: string;
  rights: Rights;
  environments: Environment[];
  environment: Environment;
  current: FeatureState;
}> {
  const projectId = await projectOf(client, featureId);
  const rights = await readRights(client, userId, projectId);
  rights.require(projectId, ...anyOf);
  await lockFeature(client, { projectId, featureId });
  const isGuarded = await isGuardedByTag(client, featureId);
  const environments = (await readEnvironments(client, projectId)).map((each) => ({
    ...each,
    guarded: each.guarded || isGuarded,
  }));
  const environment = environments.find(({ key }) => key === env);
  if (environment === undefined) throw unknownEnvironment();
  const current = await readFeature(client, featureId, environment.id);
  await requireVersion(client, environment.id, { current, version });
  return { projectId, rights, environments, environment, current };
}

/** Both permissions allow switching a feature on and off. */
function permissionsFor(wanted: FeatureFields): ('feature.toggle' | 'feature.manage')[] {
  const fields = Object.entries(wanted).filter(([, value]) => value !== undefined);
  return fields.every(([field]) => field === 'enabled')
    ? ['feature.toggle', 'feature.manage']
    : ['feature.manage'];
}

/**
 * The guarded environment that these changes reach, or null. Name and description are labels. The rollout key decides
 * who gets a feature in every environment, so a change of it reaches all of them.
 */
function guardedEnvironmentOf(
  environments: readonly Environment[],
  environment: Environment,
  changed: readonly (keyof FeatureFields)[],
): Environment | null {
  if (environment.guarded) return environment;
  const elsewhere = environments.find((each) => each.guarded);
  if (elsewhere === undefined || !changed.includes('rollout_key')) return null;
  if (environmentFields.some((field) => changed.includes(field))) {
    throw invalidFields({
      rollout_key: `also applies in ${elsewhere.key}, which is guarded: change it in a separate request, together with name and description at most`,
    });
  }
  return elsewhere;
}

/** The constraint that the tables' trigger reports for two requests at the same time. */
const oneOpenChange = 'pending_change_entities_one_open';

/** Records a change that waits for its approval in the guarded environment. Throws HttpProblem `change_pending`. */
async function requestChange(
  client: pg.ClientBase,
  { featureId, reason }: WriteRequest,
  change: {
    readonly projectId: string;
    readonly guarded: Environment;
    readonly rights: Rights;
    readonly action: 'update' | 'delete';
    /** The fields, each with its `{old, new}`. */
    readonly changes: (readonly unknown[])[];
  },
): Promise<Extract<WriteOutcome, { requested: unknown }>> {
  const { projectId, guarded, rights, action } = change;
  if (reason === undefined) {
    throw invalidFields({
      reason: `is missing: this change waits for an approval, because it is guarded in ${guarded.name}; say in 1 to 500 characters why it should be approved`,
    });
  }
  await refuseWhileRequested(client, { projectId, featureId, parts: false });
  const id = randomUUID();
  const changes: unknown = Object.fromEntries(change.changes);
  const content = {
    entities: [{ entity: 'feature', entity_id: featureId, action, changes }],
    meta: { reason, client: 'console', origin: 'api' },
  };
  await client.query(
    `INSERT INTO public.pending_changes (id, project_id, environment_id, requested_by, request_user_id, change)
     VALUES ($1, $2, $3, $4, $5, $6)`,
    [id, projectId, guarded.id, rights.username, rights.userId, JSON.stringify(content)],
  );
  try {
    await client.query(
      `INSERT INTO public.pending_change_entities (id, pending_change_id, entity, entity_id) VALUES ($1, $2, 'feature', $3)`,
      [randomUUID(), id, featureId],
    );
  } catch (error) {
    // A host inserts requests without locking the feature.
    if (error instanceof pg.DatabaseError && error.constraint === oneOpenChange) throw changePending(null);
    throw error;
  }
  return { requested: { projectId, pendingChangeId: id } };
}

/**
 * Throws HttpProblem `change_pending` while a request for the locked feature is open. With `parts`, also for one of its
 * rules or schedules: approvers must decide on the feature that they saw.
 */
async function refuseWhileRequested(
  client: pg.ClientBase,
  { projectId, featureId, parts }: { projectId: string; featureId: string; parts: boolean },
): Promise<void> {
  const { rows } = await client.query<{ id: string; requested_by: string; created_at: string }>(
    `SELECT c.id, c.requested_by, ${isoUtc('c.created_at')} AS created_at
     FROM public.pending_changes c
     WHERE c.status = 'pending' AND c.id IN (
       SELECT v.pending_change_id FROM ${requestEntities} v
       WHERE v.feature_id = $1 AND ($3::boolean OR v.entity = 'feature') AND v.pending_change_id IN (
         SELECT o.id FROM public.pending_changes o WHERE o.project_id = $2 AND o.status = 'pending'))
     ORDER BY c.created_at LIMIT 1`,
    [featureId, projectId, parts],
  );
  if (rows[0] !== undefined) throw changePending(rows[0]);
}

function changePending(open: { readonly requested_by: string } | null): HttpProblem {
  return new HttpProblem(
    'change_pending',
    `A change of this feature that ${open?.requested_by ?? 'another user'} requested is waiting already: have it decided or cancelled first`,
    { details: { pending_change: open } },
  );
}
