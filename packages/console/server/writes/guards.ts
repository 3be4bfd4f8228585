import type pg from 'pg';
import {
  HttpProblem,
  isMissing,
  readRights,
  readTogglrFeatures,
  scrub,
  type SessionSource,
  setGuard,
} from 'flagcast/support';
import { type Environment, readEnvironments } from '../environments.js';
import { unknownEnvironment } from '../problems.js';
import { authorOf } from './feature.js';
import { inWriteTransaction } from './write-transaction.js';

/** Guards an environment, or removes its guard, for an owner of its project. Throws HttpProblem and others. */
export async function guardEnvironment(
  sessions: SessionSource,
  { userId, id, guarded }: { userId: string; id: string; guarded: boolean },
): Promise<Environment> {
  return await inWriteTransaction(sessions, async (client) => {
    const { rows } = await client.query<{ project_id: string }>(
      'SELECT project_id FROM public.environments WHERE id = $1::bigint',
      [id],
    );
    if (rows[0] === undefined) throw unknownEnvironment();
    const { project_id: projectId } = rows[0];
    const rights = await readRights(client, userId, projectId);
    rights.require(projectId, 'project.manage');
    await setGuard(client, { projectId, environmentId: id, guarded }, authorOf(rights));
    const environment = (await readEnvironments(client, projectId)).find((each) => each.id === id);
    if (environment === undefined) throw unknownEnvironment();
    return environment;
  });
}

/**
 * Whether the feature has Togglr's tag `guarded`: then its changes need an approval in every environment. False if the
 * host has no tags. Throws HttpProblem `guard_unreadable` if the tags cannot be read: the write must not bypass
 * the guard.
 */
export async function isGuardedByTag(client: pg.ClientBase, featureId: string): Promise<boolean> {
  const { tags, tagsFiltered } = await readTogglrFeatures(client);
  if (!tags) return false;
  if (tagsFiltered)
    throw unreadable('row-level security may hide rows of public.feature_tags or public.tags');
  try {
    const { rowCount } = await client.query(
      `SELECT FROM public.feature_tags ft JOIN public.tags t ON t.id = ft.tag_id
       WHERE ft.feature_id = $1 AND t.slug = 'guarded' LIMIT 1`,
      [featureId],
    );
    return rowCount === 1;
  } catch (error) {
    if (isMissing(error)) throw unreadable(scrub(error.message));
    throw error;
  }
}

function unreadable(problem: string): HttpProblem {
  return new HttpProblem(
    'guard_unreadable',
    `Nothing was changed, because the server cannot read whether this feature has the tag guarded (${problem}): let the server's database role read all of public.feature_tags and public.tags`,
  );
}
