import {
  decidableProjects,
  auditFeatureState,
  canReadSteps,
  isRequest,
  lastStep,
  requestedEntitiesJson,
  requestEntities,
  requestReason,
  isoUtc,
  requestedDiffWithCurrent,
  shownJson,
  JsonText,
  isMissing,
  type Rights,
  type Queries,
} from 'flagcast/support';
import type { OpenChange, RequestStep } from './request-schemas.js';
import { isRealTime, isUuid, microsecondTime } from './schemas.js';

type OpenChangeJson = Omit<OpenChange, 'entities'> & { readonly entities: JsonText };

/** How many requests a page has at most. */
export const maxPendingChanges = 1_000;

/** The place of a request in the list. */
export interface PageKey {
  /** RFC 3339, microseconds in UTC. Null for a time that has no such text, e.g. infinity: that of the request. */
  readonly listedAt: string | null;
  readonly id: string;
}

const timePattern = new RegExp(`^${microsecondTime}$`);

/** Parses the `next` of a page; null for any other text, which must not reach the database. */
export function parsePageKey(text: string): PageKey | null {
  const [listedAt = '', id = ''] = text.split('_', 2);
  if (!isUuid(id)) return null;
  if (listedAt === '') return { listedAt: null, id };
  return isPageTime(listedAt) ? { listedAt, id } : null;
}

const isPageTime = (text: string): boolean => timePattern.test(text) && isRealTime(text);

/** Which requests are wanted. What is absent does not limit them. */
export interface WantedChanges {
  readonly projectIds: readonly string[];
  /** `open` (the default), `decided`, `all`, or a status. A host can have others than those of the protocol. */
  readonly state?: string;
  readonly environmentId?: string | undefined;
  readonly featureId?: string | undefined;
  readonly pendingChangeId?: string;
  /** The name of the user who requested it or decided on it. */
  readonly username?: string | undefined;
  /** When they were requested: from `since`, before `until`. RFC 3339. */
  readonly since?: string | undefined;
  readonly until?: string | undefined;
  /** Those after the one with this key, in the order of the list. */
  readonly before?: PageKey | null;
  /** Default and maximum 1,000. */
  readonly limit?: number;
}

const entitiesJson = requestedEntitiesJson({
  diff: requestedDiffWithCurrent('requested.entity', 'now.state'),
  joins: `CROSS JOIN LATERAL (
        SELECT CASE WHEN v.entity = 'feature' AND f.id IS NOT NULL THEN ${auditFeatureState} END AS state OFFSET 0
      ) now`,
});

const decidedAt = `CASE c.status WHEN 'approved' THEN c.approved_at WHEN 'rejected' THEN c.rejected_at ELSE step.created_at END`;

/** The time that the list is ordered by: of a list of decided requests the decision, as far as it is recorded. */
const listedAt = `CASE WHEN $6::text IN ('open', 'pending', 'all') THEN c.created_at ELSE coalesce(${decidedAt}, c.created_at) END`;

const joinStep = (hasSteps: boolean): string =>
  `LEFT JOIN LATERAL (${hasSteps ? lastStep : 'SELECT NULL::text AS actor, NULL::timestamptz AS created_at'}) step ON true`;

/**
 * $1 the projects, $2 the user's id, $3 the user's name, $4 the id of the request, $5 a feature, $6 the state, $7 an
 * environment, $8 the name of a user, $9 and $10 the times, $11 and $12 the key of a page.
 */
const changesStatement = ({ hasSteps }: { hasSteps: boolean }): string => `
SELECT c.id, c.status::text AS status, c.xmin::text AS version,
  c.project_id, project.name::text AS project, c.environment_id::text AS environment_id,
  e.key::text AS environment, e.name::text AS environment_name, c.requested_by,
  CASE WHEN c.request_user_id IS NULL
    THEN EXISTS (SELECT FROM public.users u WHERE u.is_active AND u.username = c.requested_by)
    ELSE EXISTS (SELECT FROM public.users u WHERE u.is_active AND u.id = c.request_user_id)
  END AS requester_active,
  ${isoUtc('c.created_at')} AS created_at,
  CASE c.status WHEN 'approved' THEN c.approved_by WHEN 'rejected' THEN c.rejected_by ELSE step.actor END::text AS decided_by,
  ${isoUtc(`(${decidedAt})`)} AS decided_at, ${isoUtc(`(${listedAt})`)} AS listed_at,
  CASE c.status WHEN 'rejected' THEN c.rejection_reason END::text AS decision_reason,
  ${requestReason} AS reason,
  coalesce(c.request_user_id::text = $2::text, c.requested_by = $3::text) AS own,
  ${entitiesJson}::text AS entities
FROM public.pending_changes c
CROSS JOIN LATERAL (SELECT ${shownJson('c.change::jsonb')} AS change OFFSET 0) shown
JOIN public.projects project ON project.id = c.project_id
JOIN public.environments e ON e.id = c.environment_id
${joinStep(hasSteps)}
WHERE c.project_id = ANY ($1::uuid[]) AND ${isRequest}
  AND CASE $6::text WHEN 'open' THEN c.status = 'pending' WHEN 'decided' THEN c.status <> 'pending'
    WHEN 'all' THEN true ELSE c.status = $6::text END
  AND ($4::uuid IS NULL OR c.id = $4::uuid)
  AND ($5::uuid IS NULL OR EXISTS (
    SELECT FROM ${requestEntities} v
    WHERE v.pending_change_id = c.id AND v.feature_id = $5::uuid
  ))
  AND ($7::text IS NULL OR c.environment_id::text = $7::text)
  AND ($8::text IS NULL OR $8::text IN (c.requested_by, c.approved_by, c.rejected_by, step.actor))
  AND ($9::timestamptz IS NULL OR c.created_at >= $9::timestamptz)
  AND ($10::timestamptz IS NULL OR c.created_at < $10::timestamptz)
  AND ($12::uuid IS NULL OR (${listedAt}, c.id) < (
    coalesce($11::timestamptz, (SELECT ${listedAt} FROM public.pending_changes c ${joinStep(hasSteps)} WHERE c.id = $12::uuid)),
    $12::uuid
  ))
ORDER BY ${listedAt} DESC, c.id DESC`;

/** The requests that the user may see, newest first, decided ones by their decision, each with the current values of what it changes. */
export async function readPendingChanges(
  pool: Queries,
  rights: Rights,
  wanted: WantedChanges,
): Promise<{ readonly changes: OpenChangeJson[]; readonly next: string | null }> {
  const limit = Math.min(wanted.limit ?? maxPendingChanges, maxPendingChanges);
  const hasSteps = await canReadSteps(pool);
  const { rows } = await pool.query<
    Omit<OpenChange, 'entities' | 'may_decide' | 'may_cancel'> & {
      readonly entities: string;
      readonly listed_at: string;
    }
  >(`${changesStatement({ hasSteps })} LIMIT ${limit}`, [
    // Ids of a foreign schema may be other texts.
    wanted.projectIds.filter(isUuid),
    rights.userId,
    rights.username,
    wanted.pendingChangeId ?? null,
    wanted.featureId ?? null,
    wanted.state ?? 'open',
    wanted.environmentId ?? null,
    wanted.username ?? null,
    wanted.since ?? null,
    wanted.until ?? null,
    wanted.before?.listedAt ?? null,
    wanted.before?.id ?? null,
  ]);
  const shown = rows.filter((row) => rights.mayView(row.project_id, row.environment_id));
  const decidable = await decidableProjects(pool, rights, [...new Set(shown.map((row) => row.project_id))]);
  const last = rows.length < limit ? undefined : rows.at(-1);
  const next = last === undefined ? null : `${isPageTime(last.listed_at) ? last.listed_at : ''}_${last.id}`;
  const changes = shown.map(({ listed_at: _listedAt, ...row }) => {
    const isOpen = row.status === 'pending';
    return {
      ...row,
      entities: new JsonText(row.entities),
      may_decide: isOpen && !row.own && decidable.has(row.project_id),
      may_cancel: isOpen && (row.own || rights.superuser),
    };
  });
  return { changes, next };
}

/**
 * The steps of the request $1. Those of hosts that log them with flagcast.record_event are in the event log only. An
 * installation of an earlier build has no column `reason`.
 */
export const stepsStatement = `
SELECT step.action, ${isoUtc('min(step.created_at)')} AS at, min(step.actor) AS by, max(step.reason) AS reason
FROM (
  SELECT l.xid, l.action, l.created_at, l.actor, NULL AS reason FROM flagcast.event_log l
  WHERE l.source = 'pending' AND l.pending_change_id = $1
  UNION ALL
  SELECT s.xid, s.action, s.created_at, s.actor, to_jsonb(s) ->> 'reason'
  FROM flagcast.request_steps s WHERE s.pending_change_id = $1
) step
WHERE step.action IS NOT NULL
GROUP BY step.xid, step.action
ORDER BY min(step.created_at), step.xid`;

/**
 * The steps of a request, oldest first, each with the reason that was given for it. For steps without a recorded
 * reason, the request itself has that of its newest content and of its newest decision.
 */
export async function readSteps(
  pool: Queries,
  change: Pick<
    OpenChangeJson,
    | 'id'
    | 'status'
    | 'requested_by'
    | 'created_at'
    | 'reason'
    | 'decided_by'
    | 'decided_at'
    | 'decision_reason'
  >,
): Promise<RequestStep[]> {
  const { rows: logged } = await pool
    .query<RequestStep>(stepsStatement, [change.id])
    .catch((error: unknown) => {
      // Nothing is installed, or the role may not read the log.
      if (isMissing(error)) return { rows: [] };
      throw error;
    });
  const steps = [...logged];
  // Before the log began. A later `pending` reopened the request.
  if (steps[0]?.action !== 'pending') {
    steps.unshift({ action: 'pending', at: change.created_at, by: change.requested_by, reason: null });
  }
  if (change.status !== 'pending' && !steps.some(({ action }) => action === change.status)) {
    steps.push({ action: change.status, at: change.decided_at, by: change.decided_by, reason: null });
  }
  // Null: not recorded. Empty: no reason was given.
  const isContent = ({ action }: RequestStep): boolean => action === 'pending' || action === 'updated';
  const hasOtherReason = steps.slice(1).some((step) => isContent(step) && (step.reason ?? '') !== '');
  const lastDecision = steps.findLastIndex(({ action }) => action === change.status);
  return steps.map((step, index) => {
    let { reason } = step;
    if (reason === null && index === 0) reason = hasOtherReason ? null : change.reason;
    else if (reason === null && index === lastDecision) reason = change.decision_reason;
    return { ...step, reason: reason === '' ? null : reason };
  });
}
