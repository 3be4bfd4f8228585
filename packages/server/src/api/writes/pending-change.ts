import { randomUUID } from 'node:crypto';
import pg from 'pg';
import { requestEntities } from '../../host/feature-state.js';
import { isoUtc } from '../../host/time-text.js';
import { HttpProblem } from '../../http-problem.js';
import type { Environment } from '../../host/environments.js';
import type { Author } from './feature.js';

/** One entity of `pending_changes.change`. */
interface RequestedChange {
  readonly projectId: string;
  /** Where it waits: those who approve look there. */
  readonly environment: Environment;
  readonly featureId: string;
  readonly action: 'update' | 'delete';
  readonly changes: Readonly<Record<string, { readonly old: unknown; readonly new: unknown }>>;
  readonly reason: string;
  readonly author: Author;
}

/** The constraint that the tables' own trigger names when two requests come at the same moment. */
const oneOpenChange = 'pending_change_entities_one_open';

/** Records a change of a feature that waits for its approval. Answers its id. Throws HttpProblem `change_pending`. */
export async function requestChange(client: pg.ClientBase, request: RequestedChange): Promise<string> {
  const { projectId, environment, featureId, action, changes, reason, author } = request;
  await refuseSecond(client, featureId);
  const id = randomUUID();
  const change = {
    entities: [{ entity: 'feature', entity_id: featureId, action, changes }],
    meta: { reason, client: 'console', origin: 'api' },
  };
  await client.query(
    `INSERT INTO public.pending_changes (id, project_id, environment_id, requested_by, request_user_id, change)
     VALUES ($1, $2, $3, $4, $5, $6)`,
    [id, projectId, environment.id, author.username, author.userId, JSON.stringify(change)],
  );
  try {
    await client.query(
      `INSERT INTO public.pending_change_entities (id, pending_change_id, entity, entity_id) VALUES ($1, $2, 'feature', $3)`,
      [randomUUID(), id, featureId],
    );
  } catch (error) {
    // A host makes requests without asking for the feature's lock.
    if (error instanceof pg.DatabaseError && error.constraint === oneOpenChange) throw changePending(null);
    throw error;
  }
  return id;
}

interface OpenChange {
  readonly id: string;
  readonly requested_by: string;
  readonly created_at: string;
}

/** Throws HttpProblem `change_pending` while a request for the feature itself is open. */
async function refuseSecond(client: pg.ClientBase, featureId: string): Promise<void> {
  await refuseOpen(
    client,
    `SELECT p.pending_change_id FROM public.pending_change_entities p WHERE p.entity = 'feature' AND p.entity_id = $1`,
    featureId,
  );
}

/**
 * Throws HttpProblem `change_pending` while a request for the locked feature, or for a rule or schedule of it,
 * is open: approvers must decide on the feature that they were shown.
 */
export async function refuseWhileRequested(
  client: pg.ClientBase,
  { projectId, featureId }: { readonly projectId: string; readonly featureId: string },
): Promise<void> {
  await refuseOpen(
    client,
    `SELECT v.pending_change_id FROM ${requestEntities} v
     WHERE v.feature_id = $1 AND v.pending_change_id IN (
       SELECT o.id FROM public.pending_changes o WHERE o.project_id = $2 AND o.status = 'pending')`,
    featureId,
    projectId,
  );
}

/** `requests` is a query for the ids of requests, the decided ones among them. */
async function refuseOpen(client: pg.ClientBase, requests: string, ...values: string[]): Promise<void> {
  const { rows } = await client.query<OpenChange>(
    `SELECT c.id, c.requested_by, ${isoUtc('c.created_at')} AS created_at
     FROM public.pending_changes c
     WHERE c.status = 'pending' AND c.id IN (${requests})
     ORDER BY c.created_at LIMIT 1`,
    values,
  );
  if (rows[0] !== undefined) throw changePending(rows[0]);
}

function changePending(open: OpenChange | null): HttpProblem {
  return new HttpProblem(
    409,
    'change_pending',
    `A change of this feature that ${open?.requested_by ?? 'somebody else'} asked for waits already: have it decided or cancelled first`,
    { details: { pending_change: open } },
  );
}
