import type pg from 'pg';
import type { SessionSource } from '../../postgres/session-pool.js';
import { isoUtc } from '../../host/time-text.js';
import { applyChange } from './apply-change.js';
import { HttpProblem } from '../../http-problem.js';
import { decidableProjects } from './deciders.js';
import { authorOf } from './feature.js';
import { readRights, type Rights } from '../../host/rights.js';
import { inWriteTransaction } from './write-transaction.js';

/** What became of a request. */
export interface Decision {
  readonly id: string;
  readonly status: 'approved' | 'rejected' | 'cancelled';
  readonly by: string;
  /** RFC 3339, UTC. */
  readonly at: string;
}

interface LockedRequest {
  readonly id: string;
  readonly projectId: string;
  readonly environmentId: string;
  readonly change: unknown;
  /** Whether whoever decides now is the one who asked. */
  readonly own: boolean;
}

/**
 * Decides on pending changes: each decision with its rights, and what it changes, in one transaction.
 * Of several at once the first wins. Methods throw HttpProblem, or what the database throws.
 */
export class Decisions {
  readonly #pool: SessionSource;

  constructor(pool: SessionSource) {
    this.#pool = pool;
  }

  /** Does what was asked for, in the approver's name. */
  async approve(userId: string, pendingChangeId: string): Promise<Decision> {
    return await this.#decide(userId, pendingChangeId, async (client, request, rights) => {
      await requireOther(client, request, rights);
      await applyChange(client, { ...request, pendingChangeId }, authorOf(rights));
      const { rows } = await client.query<{ at: string }>(
        `UPDATE public.pending_changes
         SET status = 'approved', approved_by = $2, approved_user_id = $3, approved_at = now()
         WHERE id = $1 RETURNING ${isoUtc('approved_at')} AS at`,
        [pendingChangeId, rights.username, rights.userId],
      );
      return { id: request.id, status: 'approved', by: rights.username, at: rows[0]?.at ?? '' };
    });
  }

  /** Refuses what was asked for; `reason` is kept with it. */
  async reject(userId: string, pendingChangeId: string, reason: string): Promise<Decision> {
    return await this.#decide(userId, pendingChangeId, async (client, request, rights) => {
      await requireOther(client, request, rights);
      const { rows } = await client.query<{ at: string }>(
        `UPDATE public.pending_changes
         SET status = 'rejected', rejected_by = $2, rejected_at = now(), rejection_reason = $3
         WHERE id = $1 RETURNING ${isoUtc('rejected_at')} AS at`,
        [pendingChangeId, rights.username, reason],
      );
      return { id: request.id, status: 'rejected', by: rights.username, at: rows[0]?.at ?? '' };
    });
  }

  /** Takes one's own request back; a superuser may do it for anybody. */
  async cancel(userId: string, pendingChangeId: string): Promise<Decision> {
    return await this.#decide(userId, pendingChangeId, async (client, request, rights) => {
      if (!request.own && !rights.superuser) {
        throw new HttpProblem(
          403,
          'not_own_change',
          'Only who asked for a change can cancel it: reject it, if you may decide on it',
        );
      }
      // The table has no column for the time of a cancellation.
      const { rows } = await client.query<{ at: string }>(
        `UPDATE public.pending_changes SET status = 'cancelled' WHERE id = $1 RETURNING ${isoUtc('now()')} AS at`,
        [pendingChangeId],
      );
      return { id: request.id, status: 'cancelled', by: rights.username, at: rows[0]?.at ?? '' };
    });
  }

  async #decide(
    userId: string,
    pendingChangeId: string,
    act: (client: pg.ClientBase, request: LockedRequest, rights: Rights) => Promise<Decision>,
  ): Promise<Decision> {
    return await inWriteTransaction(this.#pool, async (client) => {
      const { rows: found } = await client.query<{ project_id: string }>(
        'SELECT project_id FROM public.pending_changes WHERE id = $1',
        [pendingChangeId],
      );
      if (found[0] === undefined) throw unknownChange();
      const rights = await readRights(client, userId, found[0].project_id);
      // Who may not see the project does not hold up who may.
      rights.require(found[0].project_id, 'project.view');
      return await act(client, await lockOpen(client, pendingChangeId, rights), rights);
    });
  }
}

async function lockOpen(
  client: pg.ClientBase,
  pendingChangeId: string,
  rights: Rights,
): Promise<LockedRequest> {
  const { rows } = await client.query<{
    id: string;
    project_id: string;
    environment_id: string;
    change: unknown;
    own: boolean;
    status: string;
    by: string | null;
    at: string | null;
  }>(
    `SELECT c.id, c.project_id, c.environment_id::text AS environment_id, c.change, c.status::text AS status,
       coalesce(c.request_user_id::bigint = $2::bigint, c.requested_by = $3::text) AS own,
       (CASE c.status WHEN 'approved' THEN c.approved_by WHEN 'rejected' THEN c.rejected_by END)::text AS by,
       CASE c.status WHEN 'approved' THEN ${isoUtc('c.approved_at')} WHEN 'rejected' THEN ${isoUtc('c.rejected_at')} END AS at
     FROM public.pending_changes c WHERE c.id = $1 FOR UPDATE`,
    [pendingChangeId, rights.userId, rights.username],
  );
  const [row] = rows;
  if (row === undefined) throw unknownChange();
  const { status, by, at } = row;
  if (status !== 'pending') {
    throw new HttpProblem(
      409,
      'already_decided',
      `This change has been ${status}${by === null ? '' : ` by ${by}`} already`,
      { details: { status, by, at } },
    );
  }
  return {
    id: row.id,
    projectId: row.project_id,
    environmentId: row.environment_id,
    change: row.change,
    own: row.own,
  };
}

async function requireOther(client: pg.ClientBase, request: LockedRequest, rights: Rights): Promise<void> {
  const decidable = await decidableProjects(client, rights, [request.projectId]);
  if (!decidable.has(request.projectId)) {
    throw new HttpProblem(
      403,
      'forbidden',
      'You may not decide on requests of this project: ask one of its owners or managers',
    );
  }
  if (request.own) {
    throw new HttpProblem(
      403,
      'own_change',
      'Nobody decides on a change of their own: ask somebody else, or cancel it',
    );
  }
}

function unknownChange(): HttpProblem {
  return new HttpProblem(404, 'unknown_change', 'There is no such pending change');
}
