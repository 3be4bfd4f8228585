import type { FeatureState } from '@flagcast/protocol';
import type pg from 'pg';
import type { SessionSource } from '../../postgres/session-pool.js';
import { HttpProblem } from '../../http-problem.js';
import { unknownFeature, unknownEnvironment, invalidFields } from '../problem.js';
import { type Environment, readEnvironments } from '../../host/environments.js';
import {
  authorOf,
  changeFeature,
  createFeature,
  deleteFeature,
  expectVersion,
  lockFeature,
  projectOf,
  readFeature,
} from './feature.js';
import {
  changedFields,
  environmentFields,
  type FeatureField,
  type FeatureFields,
  sharedFields,
} from './feature-fields.js';
import { refuseWhileRequested, requestChange } from './pending-change.js';
import { readRights, type Rights } from '../../host/rights.js';
import { isGuardedByTag } from './tag-guard.js';
import { inWriteTransaction } from './write-transaction.js';

/** What a write was based on, and why it is made. */
interface WriteBasis {
  /** The key of the environment that the writer looks at. */
  readonly environmentKey: string;
  /** FeatureState.version, as it was there. */
  readonly version: string;
  /** Why; asked for where the change has to wait for an approval. */
  readonly reason: string | undefined;
}

/** What became of a write: it was done, or it waits for its approval. */
export type WriteOutcome =
  | { readonly feature: FeatureState | null }
  | { readonly requested: { readonly projectId: string; readonly pendingChangeId: string } };

/** A feature to be made. */
export interface NewFeature {
  readonly projectId: string;
  readonly key: string;
  readonly name: string;
  readonly description: string | null;
  readonly kind: string;
  readonly rolloutKey: string | null;
  readonly defaultValue: string;
}

/** A feature that has been made, as it is in each environment. */
export interface CreatedFeature {
  readonly id: string;
  readonly environments: readonly (Environment & { readonly feature: FeatureState })[];
}

/**
 * Creates, changes and deletes features: each write with its rights, its check of the version and
 * its audit rows in one transaction. Methods throw HttpProblem, or what the database throws.
 */
export class FeatureWrites {
  readonly #pool: SessionSource;

  constructor(pool: SessionSource) {
    this.#pool = pool;
  }

  /** Makes a feature, off everywhere: that needs no approval. */
  async create(userId: string, feature: NewFeature): Promise<CreatedFeature> {
    return await inWriteTransaction(this.#pool, async (client) => {
      const rights = await readRights(client, userId, feature.projectId);
      const environments = await readEnvironments(client, feature.projectId);
      await requireProject(client, feature.projectId);
      rights.require(feature.projectId, 'feature.manage');
      const id = await createFeature(
        client,
        feature.projectId,
        { ...feature, rollout_key: feature.rolloutKey, default_value: feature.defaultValue },
        authorOf(rights),
      );
      const made = [];
      for (const environment of environments) {
        const state = await readFeature(client, id, environment.id);
        if (state !== null) made.push({ ...environment, feature: state });
      }
      return { id, environments: made };
    });
  }

  /** Changes some fields; asks for approval instead where that reaches a guarded environment. */
  async update(
    userId: string,
    featureId: string,
    wanted: FeatureFields,
    basis: WriteBasis,
  ): Promise<WriteOutcome> {
    return await inWriteTransaction(this.#pool, async (client) => {
      const place = await this.#open(client, userId, featureId, permissionFor(wanted));
      const { environments, rights, projectId } = place;
      const environment = environmentOf(environments, basis.environmentKey);
      const current = await expectVersion(
        client,
        { featureId, environmentId: environment.id },
        basis.version,
      );
      const changed = changedFields(current, wanted);
      if (changed.length === 0) return { feature: current };
      if (sharedFields.some((field) => changed.includes(field))) {
        await refuseWhileRequested(client, { projectId, featureId });
      }
      const guarded = guardOf(environments, environment, changed);
      if (guarded === null) {
        await changeFeature(
          client,
          { projectId, featureId, environmentId: environment.id },
          wanted,
          authorOf(rights),
        );
        return { feature: await readFeature(client, featureId, environment.id) };
      }
      const changes = Object.fromEntries(
        changed.map((field) => [field, { old: current[field], new: wanted[field] }]),
      );
      const pendingChangeId = await requestChange(client, {
        projectId,
        environment: guarded,
        featureId,
        action: 'update',
        changes,
        reason: reasonFor(guarded, basis.reason),
        author: authorOf(rights),
      });
      return { requested: { projectId, pendingChangeId } };
    });
  }

  /** Deletes a feature; asks for approval instead where an environment of its project is guarded. */
  async remove(userId: string, featureId: string, basis: WriteBasis): Promise<WriteOutcome> {
    return await inWriteTransaction(this.#pool, async (client) => {
      const { environments, rights, projectId } = await this.#open(client, userId, featureId, [
        'feature.manage',
      ]);
      const environment = environmentOf(environments, basis.environmentKey);
      const current = await expectVersion(
        client,
        { featureId, environmentId: environment.id },
        basis.version,
      );
      await refuseWhileRequested(client, { projectId, featureId });
      const guarded = environment.guarded ? environment : environments.find((each) => each.guarded);
      if (guarded === undefined) {
        await deleteFeature(client, { projectId, featureId }, authorOf(rights));
        return { feature: null };
      }
      const there = guarded === environment ? current : await readFeature(client, featureId, guarded.id);
      if (there === null) throw unknownFeature();
      const { id, key, name, description, kind, rollout_key, enabled, default_value } = there;
      const state = { id, key, name, description, kind, rollout_key, enabled, default_value };
      const pendingChangeId = await requestChange(client, {
        projectId,
        environment: guarded,
        featureId,
        action: 'delete',
        changes: Object.fromEntries(
          Object.entries(state).map(([field, value]) => [field, { old: value, new: null }]),
        ),
        reason: reasonFor(guarded, basis.reason),
        author: authorOf(rights),
      });
      return { requested: { projectId, pendingChangeId } };
    });
  }

  /**
   * Locks the feature for a user who may write it; other users never hold up those. To a feature that is guarded by
   * its tag every environment is guarded.
   */
  async #open(
    client: pg.ClientBase,
    userId: string,
    featureId: string,
    anyOf: readonly ('feature.toggle' | 'feature.manage')[],
  ): Promise<{ projectId: string; rights: Rights; environments: Environment[] }> {
    const projectId = await projectOf(client, featureId);
    const rights = await readRights(client, userId, projectId);
    rights.require(projectId, ...anyOf);
    await lockFeature(client, { projectId, featureId });
    const environments = await readEnvironments(client, projectId);
    const guarded = await isGuardedByTag(client, featureId);
    return {
      projectId,
      rights,
      environments: guarded ? environments.map((each) => ({ ...each, guarded })) : environments,
    };
  }
}

async function requireProject(client: pg.ClientBase, projectId: string): Promise<void> {
  const { rowCount } = await client.query('SELECT FROM public.projects WHERE id = $1', [projectId]);
  if (rowCount === 0) {
    throw new HttpProblem(404, 'unknown_project', 'There is no project with this project_id');
  }
}

/** Who may do more with a feature than switch it may switch it, too. */
function permissionFor(wanted: FeatureFields): readonly ('feature.toggle' | 'feature.manage')[] {
  const fields = Object.entries(wanted).filter(([, value]) => value !== undefined);
  return fields.every(([field]) => field === 'enabled')
    ? ['feature.toggle', 'feature.manage']
    : ['feature.manage'];
}

function environmentOf(environments: readonly Environment[], key: string): Environment {
  const environment = environments.find((each) => each.key === key);
  if (environment === undefined) throw unknownEnvironment();
  return environment;
}

/**
 * The guarded environment that these changes reach, or null. A name or a description is only a
 * label; the rollout key decides who gets a feature, in every environment, wherever it is edited.
 */
function guardOf(
  environments: readonly Environment[],
  environment: Environment,
  changed: readonly FeatureField[],
): Environment | null {
  if (environment.guarded) return environment;
  const elsewhere = environments.find((each) => each.guarded);
  if (elsewhere === undefined || !changed.includes('rollout_key')) return null;
  if (changed.some((field) => (environmentFields as readonly FeatureField[]).includes(field))) {
    throw invalidFields({
      rollout_key: `counts in ${elsewhere.key}, too, which is guarded: change it in a request of its own, beside ${sharedFields.filter((field) => field !== 'rollout_key').join(' and ')} at the most`,
    });
  }
  return elsewhere;
}

function reasonFor({ name }: Environment, reason: string | undefined): string {
  if (reason !== undefined) return reason;
  throw invalidFields({
    reason: `is missing: this change waits for an approval, because it is guarded in ${name}; say in 1 to 500 characters why it should be approved`,
  });
}
