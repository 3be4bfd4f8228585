import type pg from 'pg';
import { isBcrypt, verifyBcrypt, verifyPassword } from '../password.js';
import type { SignInAttempts } from '../sign-in-attempts.js';
import {
  scrub,
  readRights,
  isoUtc,
  findDecidable,
  readTogglrFeatures,
  HttpProblem,
  isMissing,
  isRequest,
  requestEntities,
  type Rights,
  type Queries,
  type SessionSource,
} from 'flagcast/support';
import type { Decision } from '../schemas.js';
import { applyChange } from './apply-change.js';
import { authorOf, lockFeature, readFeature } from './feature.js';
import { readPendingChanges } from '../pending-change-reads.js';
import { inWriteTransaction } from './write-transaction.js';

/** A user who decides, and the pending change. */
interface DecisionRequest {
  readonly userId: string;
  readonly changeId: string;
}

/** What the user has decided on: the request and its features as they were shown. */
export interface SeenByUser {
  readonly version: string;
  /** By the feature's id. */
  readonly featureVersions: Readonly<Record<string, string>>;
}

/** A locked open request. */
interface OpenRequest {
  readonly id: string;
  readonly projectId: string;
  readonly environmentId: string;
  readonly change: unknown;
  /** Whether the user has requested it. */
  readonly own: boolean;
  readonly version: string;
}

// Each decision is one transaction with the check of the user's rights and the change itself. The first of several
// concurrent decisions wins. Each throws HttpProblem, or an error of the database.

/** Applies the requested change in the approver's name. */
export async function approve(
  sessions: SessionSource,
  decision: DecisionRequest,
  seen: SeenByUser,
): Promise<Decision> {
  return await decide(sessions, decision, async (client, request, rights) => {
    await requireOtherDecider(client, request, rights);
    await requireSeen(client, { request, rights, seen });
    await applyChange(client, request, authorOf(rights));
    return {
      status: 'approved',
      set: `status = 'approved', approved_by = $2, approved_user_id = $3, approved_at = now()`,
      values: [rights.username, rights.userId],
    };
  });
}

export async function reject(
  sessions: SessionSource,
  { reason, ...decision }: DecisionRequest & { readonly reason: string },
  seen: SeenByUser,
): Promise<Decision> {
  return await decide(sessions, decision, async (client, request, rights) => {
    await requireOtherDecider(client, request, rights);
    await requireSeen(client, { request, rights, seen });
    return {
      status: 'rejected',
      set: `status = 'rejected', rejected_by = $2, rejected_at = now(), rejection_reason = $3`,
      values: [rights.username, reason],
    };
  });
}

/** Withdraws the user's own request; a superuser may withdraw any. */
export async function cancel(sessions: SessionSource, decision: DecisionRequest): Promise<Decision> {
  return await decide(sessions, decision, async (client, request, rights) => {
    if (!request.own && !rights.superuser) {
      throw new HttpProblem(
        'not_own_change',
        'Only the user who requested a change can cancel it: reject it, if you may decide on it',
      );
    }
    // The table has no columns for a cancellation: the trigger of the event log records the actor and the time.
    await client.query(`SELECT set_config('flagcast.actor', $1, true)`, [rights.username]);
    return { status: 'cancelled', set: `status = 'cancelled'`, values: [] };
  });
}

interface DecidedStatus {
  readonly status: Decision['status'];
  /** SQL that sets columns of pending_changes, with $2 and following for the values. */
  readonly set: string;
  readonly values: readonly string[];
}

async function decide(
  sessions: SessionSource,
  { userId, changeId }: DecisionRequest,
  act: (
    client: pg.ClientBase,
    request: OpenRequest,
    rights: Rights,
  ) => DecidedStatus | Promise<DecidedStatus>,
): Promise<Decision> {
  return await inWriteTransaction(sessions, async (client) => {
    const { rows: found } = await client.query<{ project_id: string }>(
      `SELECT c.project_id FROM public.pending_changes c
       JOIN public.projects p ON p.id = c.project_id AND p.archived_at IS NULL WHERE c.id = $1 AND ${isRequest}`,
      [changeId],
    );
    if (found[0] === undefined) throw unknownChange();
    const rights = await readRights(client, userId, found[0].project_id);
    // Before the lock: a user who may not see the project must not delay others.
    rights.require(found[0].project_id, 'project.view');
    const request = await lockOpenRequest(client, changeId, rights);
    const { status, set, values } = await act(client, request, rights);
    const { rows } = await client.query<{ at: string }>(
      `UPDATE public.pending_changes SET ${set} WHERE id = $1
       RETURNING ${isoUtc(status === 'cancelled' ? 'now()' : `${status}_at`)} AS at`,
      [changeId, ...values],
    );
    return { id: request.id, status, by: rights.username, at: rows[0]?.at ?? '' };
  });
}

async function lockOpenRequest(
  client: pg.ClientBase,
  changeId: string,
  rights: Rights,
): Promise<OpenRequest> {
  const { rows } = await client.query<OpenRequest & { status: string; by: string | null; at: string | null }>(
    `SELECT c.id, c.project_id AS "projectId", c.environment_id::text AS "environmentId", c.change,
       c.xmin::text AS version,
       coalesce(c.request_user_id::bigint = $2::bigint, c.requested_by = $3::text) AS own, c.status::text AS status,
       (CASE c.status WHEN 'approved' THEN c.approved_by WHEN 'rejected' THEN c.rejected_by END)::text AS by,
       CASE c.status WHEN 'approved' THEN ${isoUtc('c.approved_at')} WHEN 'rejected' THEN ${isoUtc('c.rejected_at')} END AS at
     FROM public.pending_changes c WHERE c.id = $1 FOR UPDATE`,
    [changeId, rights.userId, rights.username],
  );
  const [row] = rows;
  if (row === undefined) throw unknownChange();
  const { status, by, at } = row;
  if (status === 'pending') return row;
  throw new HttpProblem(
    'already_decided',
    `This change has been ${status}${by === null ? '' : ` by ${by}`} already`,
    { details: { status, by, at } },
  );
}

async function requireOtherDecider(
  client: pg.ClientBase,
  request: OpenRequest,
  rights: Rights,
): Promise<void> {
  const decidable = await findDecidable(client, rights, [request.projectId]);
  if (!decidable.has(request.projectId)) {
    throw new HttpProblem(
      'forbidden',
      'You may not decide on requests of this project: ask one of its owners or managers',
    );
  }
  if (request.own) {
    throw new HttpProblem(
      'own_change',
      'You cannot decide on your own request: ask another user, or cancel it',
    );
  }
}

/**
 * Throws HttpProblem `stale_request`, with the request as it is now, unless the user has seen its current version and those
 * of all features that it touches, which it locks.
 */
async function requireSeen(
  client: pg.ClientBase,
  { request, rights, seen }: { request: OpenRequest; rights: Rights; seen: SeenByUser },
): Promise<void> {
  const { rows } = await client.query<{ id: string }>(
    `SELECT DISTINCT f.id::text AS id FROM ${requestEntities} v JOIN public.features f ON f.id = v.feature_id AND f.project_id = v.project_id
     WHERE v.pending_change_id = $1 ORDER BY 1`,
    [request.id],
  );
  let isCurrent = request.version === seen.version;
  // In order, so that two decisions do not wait for each other.
  for (const { id: featureId } of rows) {
    await lockFeature(client, { projectId: request.projectId, featureId });
    const { version } = await readFeature(client, featureId, request.environmentId);
    isCurrent &&= seen.featureVersions[featureId] === version;
  }
  if (isCurrent) return;
  const wanted = { projectIds: [request.projectId], pendingChangeId: request.id };
  const { changes } = await readPendingChanges(client, rights, wanted);
  throw new HttpProblem(
    'stale_request',
    'The request or a flag that it changes is no longer as you have seen it: look at it again',
    { details: { pending_change: changes[0] } },
  );
}

export function unknownChange(): HttpProblem {
  return new HttpProblem('unknown_change', 'There is no such pending change');
}

/** What a user has to send with a decision: nothing, or the password; or the user cannot decide here. */
type DecisionProof =
  | { readonly kind: 'direct' }
  | { readonly kind: 'password'; readonly hash: string }
  | { readonly kind: 'elsewhere'; readonly why: string };

/**
 * Requires the user's password with each decision in Togglr's database, as Togglr does. How the user was identified does
 * not matter: the password in the table users counts. Users whose password cannot be checked here, or who have a second
 * factor, must use Togglr's own console.
 */
export class DecisionPassword {
  readonly #pool: Queries;
  readonly #attempts: SignInAttempts;

  constructor(pool: Queries, attempts: SignInAttempts) {
    this.#pool = pool;
    this.#attempts = attempts;
  }

  /** What a decision of this user requires. Rejects with errors of the database. */
  async mode(userId: string): Promise<DecisionProof['kind']> {
    return (await this.#proofOf(userId)).kind;
  }

  /** Throws HttpProblem unless the password is right, or none is required. */
  async require(
    user: { readonly id: string; readonly username: string },
    password: string | undefined,
    address: string,
  ): Promise<void> {
    const proof = await this.#proofOf(user.id);
    if (proof.kind === 'direct') return;
    if (proof.kind === 'elsewhere') {
      throw new HttpProblem(
        'decide_elsewhere',
        `${proof.why}: decide on this request in Togglr's own console`,
      );
    }
    if (password === undefined) {
      throw new HttpProblem('password_required', 'A decision needs your password again: send it as password');
    }
    const check = isBcrypt(proof.hash) ? verifyBcrypt : verifyPassword;
    const attempt = { username: user.username, address };
    if (!(await this.#attempts.run(attempt, async () => await check(password, proof.hash)))) {
      throw new HttpProblem('password_wrong', 'The password is wrong: nothing was decided, try again');
    }
    this.#attempts.succeeded(attempt);
  }

  async #proofOf(userId: string): Promise<DecisionProof> {
    const { togglr } = await readTogglrFeatures(this.#pool);
    if (!togglr) return { kind: 'direct' };
    try {
      const { rows } = await this.#pool.query<{ hash: string | null; twoFactor: boolean | null }>(
        `SELECT u.password_hash::text AS hash, u.two_fa_enabled AS "twoFactor"
         FROM public.users u WHERE u.id = $1::bigint`,
        [userId],
      );
      const [user] = rows;
      const hash = user?.hash ?? '';
      if (user?.twoFactor !== false) {
        return { kind: 'elsewhere', why: 'You have a second factor, which this server does not ask for' };
      }
      if (isBcrypt(hash) || hash.startsWith('scrypt$')) return { kind: 'password', hash };
      return { kind: 'elsewhere', why: 'Your password cannot be checked by this server' };
    } catch (error) {
      if (!isMissing(error)) throw error;
      return {
        kind: 'elsewhere',
        why: `This server may not read password_hash and two_fa_enabled of the table users (${scrub(error.message)})`,
      };
    }
  }
}
