import type pg from 'pg';
import { z } from 'zod';
import { requestedEntity, shownJson } from '../../host/stored-json.js';
import { JsonText } from '../../json-text.js';
import { HttpProblem } from '../../http-problem.js';
import { unknownFeature, unknownEnvironment } from '../problem.js';
import { readEnvironments } from '../../host/environments.js';
import {
  type Author,
  changeFeature,
  deleteFeature,
  lockFeature,
  readFeature,
  writeAudit,
} from './feature.js';
import { featureFields } from './feature-fields.js';
import {
  applyPart,
  featureOfPart,
  isPartEntity,
  lockPart,
  partColumns,
  type PartEntity,
} from './changed-entities.js';

/** Where a field is not any more what it was when somebody asked for its change. */
interface FieldConflict {
  readonly entity: string;
  readonly entity_id: string;
  readonly field: string;
  /** What it was when the change was asked for. */
  readonly old: JsonText;
  /** What was asked for. */
  readonly new: JsonText;
  /** What it is now. */
  readonly current: JsonText;
}

/** A pending change, locked. */
export interface ApprovedRequest {
  readonly pendingChangeId: string;
  readonly projectId: string;
  readonly environmentId: string;
  /** `pending_changes.change`, which may hold anything. */
  readonly change: unknown;
}

const changesShape = z.record(z.string(), z.object({ new: z.unknown().default(null) }));

const entityShape = z.object({
  entity: z.string(),
  entity_id: z.guid(),
  action: z.enum(['insert', 'update', 'delete']),
  changes: changesShape.default({}),
});

/** What of `pending_changes.change` can be applied; a host may write more into it. */
const changeShape = z.object({ entities: z.array(entityShape).min(1) });

type RequestedEntity = z.output<typeof entityShape> & {
  /** Its place in the request, from 0. */
  readonly index: number;
};

/** Everything that a feature's state holds, which is what a deletion takes away. */
const deletableFields = new Set([...Object.keys(featureFields), 'id', 'key', 'kind']);

/**
 * Does what a pending change asks for, with the audit rows in `author`'s name. All or nothing: where
 * a field has changed since it was asked for, HttpProblem `conflict` with those fields; where
 * it asks for what this server cannot do, `unsupported_change`.
 */
export async function applyChange(
  client: pg.ClientBase,
  request: ApprovedRequest,
  author: Author,
): Promise<void> {
  const parsed = changeShape.safeParse(request.change);
  if (!parsed.success) throw unsupported('it is not written as this server expects');
  await refuseUnshown(client, request.pendingChangeId);
  const environments = await readEnvironments(client, request.projectId);
  if (!environments.some(({ id }) => id === request.environmentId)) throw unknownEnvironment();
  for (const [index, entity] of parsed.data.entities.entries()) {
    if (entity.entity === 'feature') await applyToFeature(client, request, { ...entity, index }, author);
    else if (isPartEntity(entity.entity)) {
      await applyToPart(client, request, { ...entity, index, entity: entity.entity }, author);
    } else throw unsupported(`it is about a ${entity.entity}`);
  }
}

/** Approvers see what `pending_change_entities` lists, found as here: what they were not shown is not applied. */
async function refuseUnshown(client: pg.ClientBase, pendingChangeId: string): Promise<void> {
  const { rowCount } = await client.query(
    `SELECT FROM public.pending_changes c
     CROSS JOIN LATERAL (SELECT ${shownJson('c.change::jsonb')} AS change OFFSET 0) shown
     CROSS JOIN LATERAL jsonb_array_elements(c.change::jsonb -> 'entities') AS asked
     WHERE c.id = $1 AND (asked ->> 'action' <> 'update' OR coalesce(asked -> 'changes', '{}') <> '{}')
       AND NOT EXISTS (
         SELECT FROM public.pending_change_entities p
         WHERE p.pending_change_id = c.id AND asked = ${requestedEntity('shown.change', 'p.entity', 'p.entity_id')}
       )
     LIMIT 1`,
    [pendingChangeId],
  );
  if (rowCount !== 0) throw unsupported('it holds more than its list of entities shows');
}

async function applyToFeature(
  client: pg.ClientBase,
  request: ApprovedRequest,
  entity: RequestedEntity,
  author: Author,
): Promise<void> {
  const { projectId, environmentId } = request;
  const place = { projectId, environmentId, featureId: entity.entity_id };
  if (entity.action === 'insert') throw unsupported('it makes a feature, which needs no approval here');
  const known = entity.action === 'delete' ? deletableFields : new Set(Object.keys(featureFields));
  const strange = Object.keys(entity.changes).filter((field) => !known.has(field));
  if (strange.length > 0) throw unsupported(`it changes ${strange.join(', ')}`);
  await lockExpected(client, place);
  const current = await readFeature(client, place.featureId, environmentId);
  if (current === null) throw unknownFeature();
  await refuseConflicts(client, request, entity, JSON.stringify(current));
  if (entity.action === 'delete') {
    await deleteFeature(client, place, author);
    return;
  }
  const wanted: Record<string, unknown> = {};
  for (const [field, { new: value }] of Object.entries(entity.changes)) {
    const checked = featureFields[field as keyof typeof featureFields].safeParse(value);
    if (!checked.success) {
      throw unsupported(`its new ${field} ${checked.error.issues[0]?.message ?? 'is not valid'}`);
    }
    wanted[field] = checked.data;
  }
  await changeFeature(client, place, wanted, author);
}

async function applyToPart(
  client: pg.ClientBase,
  request: ApprovedRequest,
  entity: RequestedEntity & { entity: PartEntity },
  author: Author,
): Promise<void> {
  const { projectId, environmentId, pendingChangeId } = request;
  const place = { projectId, environmentId, entity: entity.entity, entityId: entity.entity_id };
  const known = new Set(partColumns(entity.entity));
  // Which feature it belongs to is told when it is made or deleted, and never changes.
  if (entity.action !== 'update') known.add('id').add('feature_id');
  const strange = Object.keys(entity.changes).filter((field) => !known.has(field));
  if (strange.length > 0) throw unsupported(`it changes ${strange.join(', ')}`);
  const named = z.guid().safeParse(entity.changes['feature_id']?.new);
  const featureId = (await featureOfPart(client, place)) ?? (named.success ? named.data : null);
  if (featureId === null) throw conflict(`the ${entity.entity} is gone`);
  await lockExpected(client, { projectId, featureId });
  const before = await lockPart(client, place);
  if ((before === null) !== (entity.action === 'insert')) {
    throw conflict(
      before === null ? `the ${entity.entity} is gone` : `the ${entity.entity} is there already`,
    );
  }
  if (before !== null) await refuseConflicts(client, request, entity, before);
  const { action, index } = entity;
  const row = await applyPart(client, place, featureId, before, {
    pendingChangeId,
    index,
    action,
  });
  await writeAudit(client, { projectId, featureId }, [row], author);
}

/** Locks the feature; one that is gone is a conflict with the request, not an unknown address. */
async function lockExpected(
  client: pg.ClientBase,
  place: { readonly projectId: string; readonly featureId: string },
): Promise<void> {
  try {
    await lockFeature(client, place);
  } catch (error) {
    if (error instanceof HttpProblem && error.code === 'unknown_feature') {
      throw conflict('the feature is gone');
    }
    throw error;
  }
}

/** Compared by PostgreSQL, where numbers keep all digits. `current` is the entity's state as JSON text. */
async function refuseConflicts(
  client: pg.ClientBase,
  { pendingChangeId }: ApprovedRequest,
  { entity, entity_id, index }: RequestedEntity,
  current: string,
): Promise<void> {
  const { rows } = await client.query<{ field: string; old: string; new: string; current: string }>(
    `SELECT v.field, v.old::text AS old, v.new::text AS new, v.current::text AS current
     FROM public.pending_changes c
     CROSS JOIN LATERAL (
       SELECT asked.key AS field, coalesce(asked.value -> 'old', 'null') AS old,
         coalesce(asked.value -> 'new', 'null') AS new, coalesce($3::jsonb -> asked.key, 'null') AS current
       FROM jsonb_each(coalesce(c.change::jsonb #> ARRAY['entities', $2::text, 'changes'], '{}')) AS asked
     ) v
     WHERE c.id = $1 AND v.old <> v.current`,
    [pendingChangeId, index, current],
  );
  if (rows.length === 0) return;
  const conflicts: FieldConflict[] = rows.map((row) => ({
    entity,
    entity_id,
    field: row.field,
    old: new JsonText(row.old),
    new: new JsonText(row.new),
    current: new JsonText(row.current),
  }));
  throw conflict(`${rows.map(({ field }) => field).join(', ')} changed meanwhile`, conflicts);
}

function conflict(problem: string, conflicts: readonly FieldConflict[] = []): HttpProblem {
  return new HttpProblem(
    409,
    'conflict',
    `Nothing was changed, because ${problem} since this was asked for: reject it, and have it asked for anew`,
    {
      details: {
        conflicts,
        fields: Object.fromEntries(
          conflicts.map(({ field }) => [field, 'has changed since this was asked for']),
        ),
      },
    },
  );
}

function unsupported(problem: string): HttpProblem {
  return new HttpProblem(
    409,
    'unsupported_change',
    `This server cannot apply this change, because ${problem}: have it decided where it was asked for, or reject it`,
  );
}
