import { isDeepStrictEqual } from 'node:util';
import type pg from 'pg';
import { z } from 'zod';
import { ChangeRefusedError, unknownEnvironment, unknownFeature } from './change-refused.js';
import { readEnvironments } from './environments.js';
import {
  type Author,
  changeFeature,
  deleteFeature,
  lockFeature,
  readFeature,
  writeAudit,
} from './feature.js';
import { featureFields } from './feature-fields.js';
import { applyPart, featureOfPart, isPartEntity, lockPart, partColumns, type PartEntity } from './parts.js';

/** Where a field is not any more what it was when somebody asked for its change. */
interface FieldConflict {
  readonly entity: string;
  readonly entity_id: string;
  readonly field: string;
  /** What it was when the change was asked for. */
  readonly old: unknown;
  /** What was asked for. */
  readonly new: unknown;
  /** What it is now. */
  readonly current: unknown;
}

/** A pending change, locked. */
export interface ApprovedRequest {
  readonly pendingChangeId: string;
  readonly projectId: string;
  readonly environmentId: string;
  /** `pending_changes.change`, which may hold anything. */
  readonly change: unknown;
}

const changesShape = z.record(
  z.string(),
  z.object({ old: z.unknown().default(null), new: z.unknown().default(null) }),
);

const entityShape = z.object({
  entity: z.string(),
  entity_id: z.guid(),
  action: z.enum(['insert', 'update', 'delete']),
  changes: changesShape.default({}),
});

/** What of `pending_changes.change` can be applied; a host may write more into it. */
const changeShape = z.object({ entities: z.array(entityShape).min(1) });

type RequestedEntity = z.output<typeof entityShape>;

/** Everything that a feature's state holds, which is what a deletion takes away. */
const deletableFields = new Set([...Object.keys(featureFields), 'id', 'key', 'kind']);

/**
 * Does what a pending change asks for, with the audit rows in `author`'s name. All or nothing: where
 * a field has changed since it was asked for, ChangeRefusedError `conflict` with those fields; where
 * it asks for what this server cannot do, `unsupported_change`.
 */
export async function applyChange(
  client: pg.ClientBase,
  request: ApprovedRequest,
  author: Author,
): Promise<void> {
  const parsed = changeShape.safeParse(request.change);
  if (!parsed.success) throw unsupported('it is not written as this server expects');
  const environments = await readEnvironments(client, request.projectId);
  if (!environments.some(({ id }) => id === request.environmentId)) throw unknownEnvironment();
  for (const [index, entity] of parsed.data.entities.entries()) {
    if (entity.entity === 'feature') await applyToFeature(client, request, entity, author);
    else if (isPartEntity(entity.entity)) {
      await applyToPart(client, request, { ...entity, entity: entity.entity }, index, author);
    } else throw unsupported(`it is about a ${entity.entity}`);
  }
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
  refuseConflicts(entity, (field) => current[field as keyof typeof current]);
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
  index: number,
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
  if (before !== null) refuseConflicts(entity, (field) => before.fields[field]);
  const { action } = entity;
  const row = await applyPart(client, place, featureId, before?.json ?? null, {
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
    if (error instanceof ChangeRefusedError && error.code === 'unknown_feature') {
      throw conflict('the feature is gone');
    }
    throw error;
  }
}

function refuseConflicts(entity: RequestedEntity, currentOf: (field: string) => unknown): void {
  const conflicts: FieldConflict[] = Object.entries(entity.changes)
    .map(([field, { old, new: wanted }]) => ({
      entity: entity.entity,
      entity_id: entity.entity_id,
      field,
      old,
      new: wanted,
      current: currentOf(field) ?? null,
    }))
    .filter(({ old, current }) => !isDeepStrictEqual(old, current));
  if (conflicts.length === 0) return;
  const fields = conflicts.map(({ field }) => field);
  throw conflict(`${fields.join(', ')} changed meanwhile`, conflicts);
}

function conflict(problem: string, conflicts: readonly FieldConflict[] = []): ChangeRefusedError {
  return new ChangeRefusedError(
    409,
    'conflict',
    `Nothing was changed, because ${problem} since this was asked for: reject it, and have it asked for anew`,
    {
      conflicts,
      fields: Object.fromEntries(
        conflicts.map(({ field }) => [field, 'has changed since this was asked for']),
      ),
    },
  );
}

function unsupported(problem: string): ChangeRefusedError {
  return new ChangeRefusedError(
    409,
    'unsupported_change',
    `This server cannot apply this change, because ${problem}: have it decided where it was asked for, or reject it`,
  );
}
