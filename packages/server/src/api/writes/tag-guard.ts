import type pg from 'pg';
import { isMissing } from '../../postgres/errors.js';
import { scrub } from '../../describe.js';
import { readTogglrFeatures } from '../../host/togglr-features.js';
import { HttpProblem } from '../../http-problem.js';

/**
 * Whether the feature carries Togglr's tag `guarded`, by which its changes wait for an approval in every
 * environment. False where the host has no tags. Throws HttpProblem `guard_unreadable` where the tags cannot be
 * read: the write must not pass the guard.
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
    503,
    'guard_unreadable',
    `Nothing was changed, because the server cannot read whether this feature has the tag guarded (${problem}): let the server's database role read all of public.feature_tags and public.tags`,
  );
}
