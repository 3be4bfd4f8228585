import { randomUUID } from 'node:crypto';
import type pg from 'pg';

/** Written into every audit row. */
export interface Author {
  readonly actor: 'user' | 'system';
  readonly username: string;
  /** The same in all audit rows of one request. */
  readonly requestId: string;
}

/** A feature and the author of its change. */
export interface FeatureWrite {
  readonly projectId: string;
  readonly featureId: string;
  readonly author: Author;
}

/** A row of audit_log; values are JSON texts as PostgreSQL writes them. */
interface AuditRow {
  readonly environmentId: string;
  readonly entity: string;
  readonly entityId: string;
  /** Null if it did not exist. */
  readonly before: string | null;
  /** Null if it is deleted. */
  readonly after: string | null;
}

/** Writes audit rows; a row with two equal states is left out. */
export async function writeAudit(
  client: pg.ClientBase,
  { projectId, featureId, author }: FeatureWrite,
  rows: readonly AuditRow[],
): Promise<void> {
  const changed = rows.filter(({ before, after }) => before !== after);
  if (changed.length === 0) return;
  await client.query(
    `INSERT INTO public.audit_log
       (project_id, environment_id, feature_id, entity, entity_id, actor, username, action, old_value, new_value, request_id)
     SELECT $1::uuid, r.environment_id, $2::uuid, r.entity, r.entity_id, $3::text, $4::text,
       CASE WHEN r.before IS NULL THEN 'create' WHEN r.after IS NULL THEN 'delete' ELSE 'update' END,
       r.before::jsonb, r.after::jsonb, $5::uuid
     FROM unnest($6::bigint[], $7::text[], $8::uuid[], $9::text[], $10::text[]) WITH ORDINALITY
       AS r (environment_id, entity, entity_id, before, after, position)
     ORDER BY r.position`,
    [
      projectId,
      featureId,
      author.actor,
      author.username,
      author.requestId,
      changed.map((row) => row.environmentId),
      changed.map((row) => row.entity),
      changed.map((row) => row.entityId),
      changed.map((row) => row.before),
      changed.map((row) => row.after),
    ],
  );
}

/** An audit row needs the id of a feature, and a guard has none. */
const noFeature = '00000000-0000-0000-0000-000000000000';

/** Guards an environment, or removes its guard, with an audit row. Returns whether that was a change. */
export async function setGuard(
  client: pg.ClientBase,
  { projectId, environmentId, guarded }: { projectId: string; environmentId: string; guarded: boolean },
  by: Pick<Author, 'actor' | 'username'>,
): Promise<boolean> {
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
  const author = { ...by, requestId: randomUUID() };
  await writeAudit(client, { projectId, featureId: noFeature, author }, [
    {
      environmentId,
      entity: 'environment',
      entityId: noFeature,
      before: state(!guarded),
      after: state(guarded),
    },
  ]);
  return true;
}
