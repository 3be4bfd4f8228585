import type { Pool } from 'pg';
import type { Channel } from '../access/access.js';
import { isoUtc } from '../reader/statements.js';
import { diffStates, type FieldDiff } from './diff.js';

/** Which entries of a channel's history are wanted. */
export interface AuditQuery {
  /** Only those older than this entry's id; null for the newest. */
  readonly before: string | null;
  /** How many at the most. */
  readonly limit: number;
  readonly entity: string | null;
  readonly username: string | null;
  readonly featureId: string | null;
}

/** One entry of the history. */
interface AuditEntry {
  readonly id: string;
  readonly created_at: string;
  /** `created`, `updated`, `deleted`, or what a host calls it. */
  readonly action: string;
  readonly entity: string;
  readonly entity_id: string;
  readonly feature_id: string;
  /** As it is now; null where it is gone. */
  readonly feature_key: string | null;
  readonly feature_name: string | null;
  /** Who did it: the user name, else the kind of actor. */
  readonly username: string;
  /** The same for all that one request changed. */
  readonly request_id: string;
  readonly old_value: unknown;
  readonly new_value: unknown;
  readonly diff: FieldDiff[];
}

export interface AuditPage {
  readonly entries: AuditEntry[];
  /** What to give as `before` for what is older; null at the end. */
  readonly next: string | null;
}

/**
 * A page of a channel's history, newest first. Pages follow each other by id, so that what is
 * written meanwhile shifts none of them.
 */
export async function readAudit(pool: Pool, channel: Channel, query: AuditQuery): Promise<AuditPage> {
  const { rows } = await pool.query<Omit<AuditEntry, 'diff'>>(
    `SELECT a.id::text AS id, ${isoUtc('a.created_at')} AS created_at,
       CASE a.action WHEN 'create' THEN 'created' WHEN 'update' THEN 'updated' WHEN 'delete' THEN 'deleted'
         ELSE a.action::text END AS action,
       a.entity::text AS entity, coalesce(a.entity_id, a.feature_id) AS entity_id, a.feature_id,
       f.key::text AS feature_key, f.name::text AS feature_name,
       coalesce(nullif(a.username, ''), a.actor)::text AS username, a.request_id, a.old_value, a.new_value
     FROM public.audit_log a
     LEFT JOIN public.features f ON f.id = a.feature_id
     WHERE a.project_id = $1::uuid AND a.environment_id = $2::bigint
       AND ($3::bigint IS NULL OR a.id < $3::bigint)
       AND ($4::text IS NULL OR a.entity = $4::text)
       AND ($5::text IS NULL OR coalesce(nullif(a.username, ''), a.actor) = $5::text)
       AND ($6::uuid IS NULL OR a.feature_id = $6::uuid)
     ORDER BY a.id DESC
     LIMIT $7::int`,
    [
      channel.projectId,
      channel.environmentId,
      query.before,
      query.entity,
      query.username,
      query.featureId,
      query.limit + 1,
    ],
  );
  const entries = rows
    .slice(0, query.limit)
    .map((row) => ({ ...row, diff: diffStates(row.old_value, row.new_value) }));
  return { entries, next: rows.length > query.limit ? (entries.at(-1)?.id ?? null) : null };
}
