import type pg from 'pg';
import { differences, newValues, type Json, type ParamsChange, type AuditState } from './dataset-builder.js';
import { randomRule, rejectionReasons, requestReasons } from './flag-templates.js';
import {
  administrator,
  changeParams,
  changePart,
  describeTarget,
  otherValue,
  owner,
  lockFlag,
  projectIds,
  pickMember,
  type Action,
  type FlagIds,
  readFeatureState,
} from './flag-target.js';

/** Maximum number of open requests of the simulated users. */
const maxOpenRequests = 6;

/** Marks the requests of the simulated users, who do not decide requests made in the console. */
const origin = 'demo';

const openRequests = `FROM public.pending_changes c
  WHERE c.project_id = ANY ($1) AND c.status = 'pending' AND c.change #>> '{meta,origin}' = '${origin}'`;

/** Requests a change in prod, which needs an approval. */
export const requestChange: Action = async (client, random) => {
  const existing = await client.query(`SELECT ${openRequests}`, [projectIds]);
  if ((existing.rowCount ?? 0) >= maxOpenRequests) return null;
  const target = await lockFlag(client, random, ['prod']);
  if (target === null) return null;
  const open = await client.query(
    `SELECT FROM public.pending_changes
     WHERE status = 'pending' AND environment_id = $1 AND strpos(change::text, $2) > 0`,
    [target.environmentId, target.featureId],
  );
  if (open.rowCount !== 0) return null;
  const value = otherValue(random, target);
  const requestedBy = value === null ? pickMember(random, target.project) : owner;
  const rule = requestedBy === owner && random.chance(0.4) ? randomRule(random, target.featureId) : null;
  const params: ParamsChange =
    value === null ? { enabled: target.state['enabled'] !== true } : { default_value: value };
  const entity =
    rule === null
      ? {
          entity: 'feature',
          entity_id: target.featureId,
          action: 'update',
          changes: differences(target.state, { ...target.state, ...params }),
        }
      : { entity: 'rule', entity_id: rule.id, action: 'insert', changes: newValues(rule) };
  const reason = random.pick(requestReasons);
  const change = { entities: [entity], meta: { reason, client: 'console', origin } };
  const id = random.uuid();
  await client.query(
    `INSERT INTO public.pending_changes (id, project_id, environment_id, requested_by, request_user_id, change)
     VALUES ($1, $2, $3, $4::text, (SELECT id FROM public.users WHERE username = $4::text), $5)`,
    [id, target.projectId, target.environmentId, requestedBy, JSON.stringify(change)],
  );
  await client.query(
    'INSERT INTO public.pending_change_entities (pending_change_id, entity, entity_id) VALUES ($1, $2, $3)',
    [id, entity.entity, entity.entity_id],
  );
  return `${requestedBy} requested a change of ${describeTarget(target)}: ${reason}`;
};

interface OpenRequest {
  readonly id: string;
  readonly projectId: string;
  readonly project: string;
  readonly environmentId: string;
  readonly requestedBy: string;
  readonly change: Json;
}

/** Returns the oldest open request and locks it, so that it is decided only once. */
async function lockOldest(client: pg.ClientBase): Promise<OpenRequest | null> {
  const { rows } = await client.query<OpenRequest>(
    `SELECT c.id, c.project_id AS "projectId", c.environment_id::text AS "environmentId",
       c.requested_by AS "requestedBy", c.change,
       (SELECT name FROM public.projects p WHERE p.id = c.project_id) AS project
     ${openRequests} ORDER BY c.created_at, c.id LIMIT 1 FOR UPDATE OF c SKIP LOCKED`,
    [projectIds],
  );
  return rows[0] ?? null;
}

const deciderOf = ({ requestedBy }: OpenRequest): string => (requestedBy === owner ? administrator : owner);

const requestOf = ({ requestedBy, project }: OpenRequest): string =>
  `the request of ${requestedBy} in ${project}`;

/** Approves the oldest request and applies it; rejects it if its flag does not exist any more. */
export const approveChange: Action = async (client, random) => {
  const request = await lockOldest(client);
  if (request === null) return null;
  const username = deciderOf(request);
  if (!(await applyChange(client, request, { username, requestId: random.uuid() }))) {
    return await rejectRequest(client, request, 'The flag does not exist any more');
  }
  await client.query(
    `UPDATE public.pending_changes SET status = 'approved', approved_by = $2::text, approved_at = now(),
       approved_user_id = (SELECT id FROM public.users WHERE username = $2::text)
     WHERE id = $1`,
    [request.id, username],
  );
  return `${username} approved ${requestOf(request)}`;
};

/** Rejects the oldest request, with a reason. */
export const rejectChange: Action = async (client, random) => {
  const request = await lockOldest(client);
  return request === null ? null : await rejectRequest(client, request, random.pick(rejectionReasons));
};

async function rejectRequest(client: pg.ClientBase, request: OpenRequest, reason: string): Promise<string> {
  const username = deciderOf(request);
  await client.query(
    `UPDATE public.pending_changes
     SET status = 'rejected', rejected_by = $2, rejected_at = now(), rejection_reason = $3 WHERE id = $1`,
    [request.id, username, reason],
  );
  return `${username} rejected ${requestOf(request)}: ${reason}`;
}

/** Cancels the oldest request, as its requester. */
export const cancelChange: Action = async (client) => {
  const request = await lockOldest(client);
  if (request === null) return null;
  await client.query("UPDATE public.pending_changes SET status = 'cancelled' WHERE id = $1", [request.id]);
  return `${request.requestedBy} cancelled ${requestOf(request)}`;
};

/** Applies the request and writes its audit row. False if the request is invalid or the flag does not exist any more. */
async function applyChange(
  client: pg.ClientBase,
  { projectId, environmentId, change }: OpenRequest,
  author: { readonly username: string; readonly requestId: string },
): Promise<boolean> {
  const entity = field(field(change, 'entities'), '0');
  const entityId = field(entity, 'entity_id');
  const newValue = (name: string): Json | undefined => field(field(field(entity, 'changes'), name), 'new');
  const isRule = field(entity, 'entity') === 'rule';
  const featureId = isRule ? newValue('feature_id') : entityId;
  if (!isUuid(featureId) || !isUuid(entityId)) return false;
  const target: FlagIds = { projectId, environmentId, featureId };
  if (!isRule) {
    const enabled = newValue('enabled');
    const value = newValue('default_value');
    const params: ParamsChange = {
      ...(typeof enabled === 'boolean' ? { enabled } : {}),
      ...(typeof value === 'string' ? { default_value: value } : {}),
    };
    return await changeParams(client, target, params, author);
  }
  if ((await readFeatureState(client, featureId, environmentId)) === null) return false;
  const after: AuditState = {
    id: entityId,
    feature_id: featureId,
    conditions: newValue('conditions') ?? [],
    action: newValue('action') ?? 'include',
    flag_variant_id: null,
    priority: newValue('priority') ?? 0,
  };
  await changePart(client, target, { entity: 'rule', before: null, after }, author);
  return true;
}

/** Returns a member of an object or array. The stored JSON may have any form. */
function field(value: Json | undefined, name: string): Json | undefined {
  if (typeof value !== 'object' || value === null) return undefined;
  return Object.entries<Json>(value).find(([key]) => key === name)?.[1];
}

function isUuid(value: Json | undefined): value is string {
  return typeof value === 'string' && /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i.test(value);
}
