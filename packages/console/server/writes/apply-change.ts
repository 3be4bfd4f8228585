import type pg from 'pg';
import {
  type Author,
  HttpProblem,
  JsonText,
  requestedEntity,
  ruleState,
  scheduleState,
  shownJson,
  writeAudit,
  z,
} from 'flagcast/support';
import { readEnvironments } from '../environments.js';
import { unknownEnvironment } from '../problems.js';
import { featureFields } from '../schemas.js';
import { deletableFields, deleteFeatureRow, lockFeature, readFeature, updateFeatureRow } from './feature.js';

/** A locked pending change. */
interface ApprovedRequest {
  readonly id: string;
  readonly projectId: string;
  readonly environmentId: string;
  /** `pending_changes.change`, which may hold anything. */
  readonly change: unknown;
}

/** The part of `pending_changes.change` that can be applied; a host may write more into it. */
const changeShape = z.object({
  entities: z
    .array(
      z.object({
        entity: z.string(),
        entity_id: z.guid(),
        action: z.enum(['insert', 'update', 'delete']),
        changes: z.record(z.string(), z.object({ new: z.unknown().default(null) })).default({}),
      }),
    )
    .min(1),
});

/** One entity of an approved request, and the author of its change. */
type Change = z.output<typeof changeShape>['entities'][number] & {
  readonly request: ApprovedRequest;
  /** Its index in the request. */
  readonly index: number;
  readonly author: Author;
};

/**
 * Applies an approved request, with audit rows in `author`'s name: completely or not at all. Throws HttpProblem:
 * `conflict` with the fields that changed after the request, `unsupported_change` if this server cannot apply it.
 */
export async function applyChange(
  client: pg.ClientBase,
  request: ApprovedRequest,
  author: Author,
): Promise<void> {
  const parsed = changeShape.safeParse(request.change);
  if (!parsed.success) throw unsupported('it is not written as this server expects');
  await refuseUnshown(client, request.id);
  const environments = await readEnvironments(client, request.projectId);
  if (!environments.some(({ id }) => id === request.environmentId)) throw unknownEnvironment();
  for (const [index, entity] of parsed.data.entities.entries()) {
    const change = { ...entity, request, index, author };
    const table = Object.hasOwn(partTables, entity.entity) ? partTables[entity.entity] : undefined;
    if (entity.entity === 'feature') await applyToFeature(client, change);
    else if (table !== undefined) await applyToPart(client, change, table);
    else throw unsupported(`it is about a ${entity.entity}`);
  }
}

/** Refuses a request with entities that approvers cannot see: `pending_change_entities` does not list them. */
async function refuseUnshown(client: pg.ClientBase, requestId: string): Promise<void> {
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
    [requestId],
  );
  if (rowCount !== 0) throw unsupported('it holds more than its list of entities shows');
}

async function applyToFeature(client: pg.ClientBase, change: Change): Promise<void> {
  const { action, author, entity_id: featureId, request } = change;
  const { projectId, environmentId } = request;
  if (action === 'insert') throw unsupported('it creates a feature, which needs no approval here');
  requireKnownFields(change, action === 'delete' ? deletableFields : Object.keys(featureFields));
  await lockRequestedFeature(client, { projectId, featureId });
  const current = await readFeature(client, featureId, environmentId);
  await refuseConflicts(client, change, JSON.stringify(current));
  const write = { projectId, featureId, author };
  if (action === 'delete') {
    await deleteFeatureRow(client, write);
    return;
  }
  const wanted: Record<string, unknown> = {};
  for (const [field, { new: value }] of Object.entries(change.changes)) {
    const checked = featureFields[field as keyof typeof featureFields].safeParse(value);
    if (!checked.success) {
      throw unsupported(`its new ${field} ${checked.error.issues[0]?.message ?? 'is not valid'}`);
    }
    wanted[field] = checked.data;
  }
  await updateFeatureRow(client, write, { environmentId, wanted });
}

/** A table of what a feature has in one environment besides its parameters. */
interface PartTable {
  readonly name: string;
  readonly alias: string;
  /** SQL for the state that the audit log keeps, over the alias. */
  readonly state: string;
  /** The columns that a change may name. */
  readonly columns: readonly string[];
}

const partTables: Readonly<Record<string, PartTable>> = {
  rule: {
    name: 'public.rules',
    alias: 'r',
    state: ruleState,
    columns: ['conditions', 'action', 'flag_variant_id', 'priority'],
  },
  feature_schedule: {
    name: 'public.feature_schedules',
    alias: 's',
    state: scheduleState,
    columns: ['starts_at', 'ends_at', 'cron_expr', 'timezone', 'action'],
  },
};

/** Creates, changes or deletes a rule or a schedule. */
async function applyToPart(client: pg.ClientBase, change: Change, table: PartTable): Promise<void> {
  const { action, author, entity, entity_id: entityId } = change;
  const { projectId, environmentId } = change.request;
  // Its feature is part of a creation and a deletion, and never changes.
  requireKnownFields(change, [...table.columns, ...(action === 'update' ? [] : ['id', 'feature_id'])]);
  const named = z.guid().safeParse(change.changes['feature_id']?.new);
  const { rows } = await client.query<{ feature_id: string }>(
    `SELECT feature_id FROM ${table.name} WHERE id = $1 AND project_id = $2 AND environment_id = $3`,
    [entityId, projectId, environmentId],
  );
  const featureId = rows[0]?.feature_id ?? (named.success ? named.data : null);
  if (featureId === null) throw conflict(`the ${entity} no longer exists`);
  await lockRequestedFeature(client, { projectId, featureId });
  const before = await lockPart(client, change, table);
  if ((before === null) !== (action === 'insert')) {
    throw conflict(before === null ? `the ${entity} no longer exists` : `the ${entity} exists already`);
  }
  if (before !== null) await refuseConflicts(client, change, before);
  if (action === 'delete') await client.query(`DELETE FROM ${table.name} WHERE id = $1`, [entityId]);
  else await writePart(client, change, { table, featureId });
  const after = await lockPart(client, change, table);
  await writeAudit(client, { projectId, featureId, author }, [
    { environmentId, entity, entityId, before, after },
  ]);
}

/** The state of a rule or a schedule of a locked feature as JSON text, locked; null if it does not exist. */
async function lockPart(
  client: pg.ClientBase,
  { entity_id: entityId, request: { projectId, environmentId } }: Change,
  { name, alias, state }: PartTable,
): Promise<string | null> {
  const { rows } = await client.query<{ state: string }>(
    `SELECT ${state}::text AS state FROM ${name} ${alias}
     WHERE ${alias}.id = $1 AND ${alias}.project_id = $2 AND ${alias}.environment_id = $3
     FOR UPDATE`,
    [entityId, projectId, environmentId],
  );
  return rows[0]?.state ?? null;
}

/** Copies the values from the request into the row within the database, so that numbers keep every digit. */
async function writePart(
  client: pg.ClientBase,
  { entity, entity_id: entityId, index, request }: Change,
  { table: { name, columns }, featureId }: { readonly table: PartTable; readonly featureId: string },
): Promise<void> {
  const { rowCount } = await client.query(
    `WITH wanted AS (
       SELECT coalesce((SELECT to_jsonb(t) FROM ${name} t WHERE t.id = $1), '{}') || (
         SELECT coalesce(jsonb_object_agg(field.key, field.value -> 'new'), '{}')
         FROM public.pending_changes c, jsonb_each(c.change #> ARRAY['entities', $5::text, 'changes']) AS field
         WHERE c.id = $6 AND field.key = ANY ($7)
       ) AS row
     )
     INSERT INTO ${name} AS t (id, project_id, environment_id, feature_id, ${columns.join(', ')})
     SELECT $1, $2::uuid, $3::bigint, $4::uuid, ${columns.map((column) => `n.${column}`).join(', ')}
     FROM wanted, jsonb_populate_record(NULL::${name}, wanted.row) AS n
     ON CONFLICT (id) DO UPDATE SET
       ${columns.map((column) => `${column} = excluded.${column}`).join(', ')}, updated_at = now()
     WHERE t.project_id = $2::uuid AND t.environment_id = $3::bigint AND t.feature_id = $4::uuid`,
    [entityId, request.projectId, request.environmentId, featureId, String(index), request.id, columns],
  );
  if (rowCount === 0) {
    throw new HttpProblem(
      'conflict',
      `The ${entity} ${entityId} belongs to another feature or environment: reject the request`,
      { details: { conflicts: [] } },
    );
  }
}

function requireKnownFields({ changes }: Change, known: readonly string[]): void {
  const unknown = Object.keys(changes).filter((field) => !known.includes(field));
  if (unknown.length > 0) throw unsupported(`it changes ${unknown.join(', ')}`);
}

/** Locks the feature. If it was deleted, the request is in conflict; its address is not unknown. */
async function lockRequestedFeature(
  client: pg.ClientBase,
  feature: { readonly projectId: string; readonly featureId: string },
): Promise<void> {
  try {
    await lockFeature(client, feature);
  } catch (error) {
    if (error instanceof HttpProblem && error.code === 'unknown_feature') {
      throw conflict('the feature no longer exists');
    }
    throw error;
  }
}

/**
 * Throws `conflict` if a field no longer has its old value. PostgreSQL compares them, because numbers keep all digits
 * there. `current` is the entity's state as JSON text.
 */
async function refuseConflicts(
  client: pg.ClientBase,
  { entity, entity_id: entityId, index, request }: Change,
  current: string,
): Promise<void> {
  const { rows } = await client.query<Record<'field' | 'old' | 'new' | 'current', string>>(
    `SELECT v.field, v.old::text AS old, v.new::text AS new, v.current::text AS current
     FROM public.pending_changes c
     CROSS JOIN LATERAL (
       SELECT asked.key AS field, coalesce(asked.value -> 'old', 'null') AS old,
         coalesce(asked.value -> 'new', 'null') AS new, coalesce($3::jsonb -> asked.key, 'null') AS current
       FROM jsonb_each(coalesce(c.change::jsonb #> ARRAY['entities', $2::text, 'changes'], '{}')) AS asked
     ) v
     WHERE c.id = $1 AND v.old <> v.current`,
    [request.id, index, current],
  );
  if (rows.length === 0) return;
  const conflicts = rows.map(({ field, ...values }) => ({
    entity,
    entity_id: entityId,
    field,
    old: new JsonText(values.old),
    new: new JsonText(values.new),
    current: new JsonText(values.current),
  }));
  throw conflict(`${rows.map(({ field }) => field).join(', ')} changed meanwhile`, conflicts);
}

function conflict(problem: string, conflicts: readonly { readonly field: string }[] = []): HttpProblem {
  return new HttpProblem(
    'conflict',
    `Nothing was changed, because ${problem} since this was requested: reject it, and have it requested again`,
    {
      details: {
        conflicts,
        fields: Object.fromEntries(
          conflicts.map(({ field }) => [field, 'has changed since this was requested']),
        ),
      },
    },
  );
}

function unsupported(problem: string): HttpProblem {
  return new HttpProblem(
    'unsupported_change',
    `This server cannot apply this change, because ${problem}: have it decided where it was requested, or reject it`,
  );
}
