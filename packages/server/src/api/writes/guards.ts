import { randomUUID } from 'node:crypto';
import type pg from 'pg';
import type { SessionSource } from '../../postgres/session-pool.js';
import { unknownEnvironment } from '../problem.js';
import { type Environment, readEnvironments } from '../../host/environments.js';
import { writeAudit } from './feature.js';
import { readRights } from '../../host/rights.js';
import { inWriteTransaction } from './write-transaction.js';

/** An audit row needs the id of a feature, and a guard has none. */
const noFeature = '00000000-0000-0000-0000-000000000000';

/**
 * Guards an environment, or removes its guard, with an audit row; answers whether that was a change. `by` is who does
 * it: a user, or a program on behalf of an operator.
 */
export async function setGuard(
  client: pg.ClientBase,
  place: { readonly projectId: string; readonly environmentId: string },
  guarded: boolean,
  by: { readonly actor: 'user' | 'system'; readonly username: string },
): Promise<boolean> {
  const { projectId, environmentId } = place;
  const { rowCount } = guarded
    ? await client.query(
        `INSERT INTO flagcast.guarded_environments (environment_id, guarded_by) VALUES ($1, $2)
         ON CONFLICT (environment_id) DO NOTHING`,
        [environmentId, by.username],
      )
    : await client.query('DELETE FROM flagcast.guarded_environments WHERE environment_id = $1', [
        environmentId,
      ]);
  if (rowCount === 0) return false;
  const state = (value: boolean): string => JSON.stringify({ guarded: value });
  const row = {
    environmentId,
    entity: 'environment',
    entityId: noFeature,
    before: state(!guarded),
    after: state(guarded),
  };
  await writeAudit(client, { projectId, featureId: noFeature }, [row], { ...by, requestId: randomUUID() });
  return true;
}

/** Sets up guards for owners of projects. */
export class Guards {
  readonly #pool: SessionSource;

  constructor(pool: SessionSource) {
    this.#pool = pool;
  }

  /** Answers the environment as it is then. Throws HttpProblem, or what the database throws. */
  async set(userId: string, environmentId: string, guarded: boolean): Promise<Environment> {
    return await inWriteTransaction(this.#pool, async (client) => {
      const { rows } = await client.query<{ project_id: string }>(
        'SELECT project_id FROM public.environments WHERE id = $1::bigint',
        [environmentId],
      );
      if (rows[0] === undefined) throw unknownEnvironment();
      const { project_id: projectId } = rows[0];
      const rights = await readRights(client, userId, projectId);
      rights.require(projectId, 'project.manage');
      await setGuard(client, { projectId, environmentId }, guarded, {
        actor: 'user',
        username: rights.username,
      });
      const environment = (await readEnvironments(client, projectId)).find(({ id }) => id === environmentId);
      if (environment === undefined) throw unknownEnvironment();
      return environment;
    });
  }
}
