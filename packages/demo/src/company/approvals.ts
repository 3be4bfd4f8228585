import type pg from 'pg';
import { differences, newValues, type Json, type ParamsChange, type State } from './chronicle.js';
import { inventRule, rejectionReasons, requestReasons } from './ideas.js';
import { readFeatureState } from 'flagcast/demo-support';
import {
  administrator,
  changeParams,
  changePart,
  located,
  otherValue,
  owner,
  pickWorkplace,
  projectIds,
  switcher,
  type Action,
  type Place,
} from './work.js';

/** How many requests of the demo's people may wait at a time. */
const openRequestsAtMost = 6;

/** Marks what the demo's people asked for: they do not decide on what somebody at the console did. */
const origin = 'demo';

const openRequests = `FROM public.pending_changes c
  WHERE c.project_id = ANY ($1) AND c.status = 'pending' AND c.change #>> '{meta,origin}' = '${origin}'`;

/** Asks for a change in prod, which nobody makes alone. */
export const requestChange: Action = async (client, random) => {
  const waiting = await client.query(`SELECT ${openRequests}`, [projectIds]);
  if ((waiting.rowCount ?? 0) >= openRequestsAtMost) return null;
  const place = await pickWorkplace(client, random, ['prod']);
  if (place === null) return null;
  const open = await client.query(
    `SELECT FROM public.pending_changes
     WHERE status = 'pending' AND environment_id = $1 AND strpos(change::text, $2) > 0`,
    [place.environmentId, place.featureId],
  );
  if (open.rowCount !== 0) return null;
  const value = otherValue(random, place);
  const requestedBy = value === null ? switcher(random, place.project) : owner;
  const rule = requestedBy === owner && random.chance(0.4) ? inventRule(random, place.featureId) : null;
  const wanted: ParamsChange =
    value === null ? { enabled: place.state['enabled'] !== true } : { default_value: value };
  const entity =
    rule === null
      ? {
          entity: 'feature',
          entity_id: place.featureId,
          action: 'update',
          changes: differences(place.state, { ...place.state, ...wanted }),
        }
      : { entity: 'rule', entity_id: rule.id, action: 'insert', changes: newValues(rule) };
  const reason = random.pick(requestReasons);
  const change = { entities: [entity], meta: { reason, client: 'console', origin } };
  const id = random.uuid();
  await client.query(
    `INSERT INTO public.pending_changes (id, project_id, environment_id, requested_by, request_user_id, change)
     VALUES ($1, $2, $3, $4::text, (SELECT id FROM public.users WHERE username = $4::text), $5)`,
    [id, place.projectId, place.environmentId, requestedBy, JSON.stringify(change)],
  );
  await client.query(
    'INSERT INTO public.pending_change_entities (pending_change_id, entity, entity_id) VALUES ($1, $2, $3)',
    [id, entity.entity, entity.entity_id],
  );
  return `${requestedBy} asked for a change of ${located(place)}: ${reason}`;
};

interface OpenRequest {
  readonly id: string;
  readonly projectId: string;
  readonly project: string;
  readonly environmentId: string;
  readonly requestedBy: string;
  readonly change: Json;
}

/** The request that has waited longest, locked, so that of two deciders one comes too late. */
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

/** Approves the oldest request and applies it; rejects it where there is nothing left to apply it to. */
export const approveChange: Action = async (client, random) => {
  const request = await lockOldest(client);
  if (request === null) return null;
  const username = deciderOf(request);
  if (!(await applyChange(client, request, { username, requestId: random.uuid() }))) {
    return await rejectRequest(client, request, 'The flag is not there any more');
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

/** Withdraws the oldest request; whoever asked does it. */
export const cancelChange: Action = async (client) => {
  const request = await lockOldest(client);
  if (request === null) return null;
  await client.query("UPDATE public.pending_changes SET status = 'cancelled' WHERE id = $1", [request.id]);
  return `${request.requestedBy} cancelled ${requestOf(request)}`;
};

/** Does what the request asks for, with the audit row; false where that is not possible (any more). */
async function applyChange(
  client: pg.ClientBase,
  { projectId, environmentId, change }: OpenRequest,
  author: { readonly username: string; readonly requestId: string },
): Promise<boolean> {
  const entity = field(field(change, 'entities'), '0');
  const entityId = field(entity, 'entity_id');
  const wanted = (name: string): Json | undefined => field(field(field(entity, 'changes'), name), 'new');
  const isRule = field(entity, 'entity') === 'rule';
  const featureId = isRule ? wanted('feature_id') : entityId;
  if (!isUuid(featureId) || !isUuid(entityId)) return false;
  const place: Place = { projectId, environmentId, featureId };
  if (!isRule) {
    const enabled = wanted('enabled');
    const value = wanted('default_value');
    const params: ParamsChange = {
      ...(typeof enabled === 'boolean' ? { enabled } : {}),
      ...(typeof value === 'string' ? { default_value: value } : {}),
    };
    return await changeParams(client, place, params, author);
  }
  if ((await readFeatureState(client, featureId, environmentId)) === null) return false;
  const after: State = {
    id: entityId,
    feature_id: featureId,
    conditions: wanted('conditions') ?? [],
    action: wanted('action') ?? 'include',
    flag_variant_id: null,
    priority: wanted('priority') ?? 0,
  };
  await changePart(client, 'rule', place, { before: null, after }, author);
  return true;
}

/** A member of an object or an array that may be anything: what stands in a row is not to be trusted. */
function field(value: Json | undefined, name: string): Json | undefined {
  if (typeof value !== 'object' || value === null) return undefined;
  return Object.entries<Json>(value).find(([key]) => key === name)?.[1];
}

function isUuid(value: Json | undefined): value is string {
  return typeof value === 'string' && /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i.test(value);
}
