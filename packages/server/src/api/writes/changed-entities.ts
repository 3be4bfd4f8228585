import type pg from 'pg';
import { ruleState, scheduleState } from '../../host/audit-state.js';
import { HttpProblem } from '../../http-problem.js';
import type { AuditRow } from './feature.js';

/** What a feature has in one environment beside its parameters. */
export type PartEntity = 'rule' | 'feature_schedule';

interface PartTable {
  readonly name: string;
  /** The state that the audit keeps, over the alias. */
  readonly state: string;
  readonly alias: string;
  /** What can be changed of it. */
  readonly columns: readonly string[];
}

const tables: Readonly<Record<PartEntity, PartTable>> = {
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

/** Where a rule or a schedule belongs. */
export interface PartPlace {
  readonly projectId: string;
  readonly environmentId: string;
  readonly entity: PartEntity;
  readonly entityId: string;
}

export function isPartEntity(entity: string): entity is PartEntity {
  return Object.hasOwn(tables, entity);
}

/** The columns of a rule or a schedule that a change may name. */
export function partColumns(entity: PartEntity): readonly string[] {
  return tables[entity].columns;
}

/** The feature that a rule or a schedule belongs to; null where there is none. Throws what the database throws, e.g. where there is no such table. */
export async function featureOfPart(client: pg.ClientBase, place: PartPlace): Promise<string | null> {
  const { name } = tables[place.entity];
  const { rows } = await client.query<{ feature_id: string }>(
    `SELECT feature_id FROM ${name} WHERE id = $1 AND project_id = $2 AND environment_id = $3`,
    [place.entityId, place.projectId, place.environmentId],
  );
  return rows[0]?.feature_id ?? null;
}

/** The state of a rule or a schedule as JSON text, locked; null where there is none. Its feature is locked before it. */
export async function lockPart(client: pg.ClientBase, place: PartPlace): Promise<string | null> {
  const { name, alias, state } = tables[place.entity];
  const { rows } = await client.query<{ state: string }>(
    `SELECT ${state}::text AS state FROM ${name} ${alias}
     WHERE ${alias}.id = $1 AND ${alias}.project_id = $2 AND ${alias}.environment_id = $3
     FOR UPDATE`,
    [place.entityId, place.projectId, place.environmentId],
  );
  return rows[0]?.state ?? null;
}

/**
 * Makes, changes or deletes a rule or a schedule of a locked feature as entity number `index` (from 0)
 * of a stored request says, and answers the audit row of it. The values go from the request into
 * the row inside the database: numbers keep every digit.
 */
export async function applyPart(
  client: pg.ClientBase,
  place: PartPlace,
  featureId: string,
  before: string | null,
  request: {
    readonly pendingChangeId: string;
    readonly index: number;
    readonly action: 'insert' | 'update' | 'delete';
  },
): Promise<AuditRow> {
  const { name, columns } = tables[place.entity];
  if (request.action === 'delete') {
    await client.query(`DELETE FROM ${name} WHERE id = $1`, [place.entityId]);
  } else {
    const listed = columns.join(', ');
    const { rowCount } = await client.query(
      `WITH wanted AS (
         SELECT coalesce((SELECT to_jsonb(t) FROM ${name} t WHERE t.id = $1), '{}') || (
           SELECT coalesce(jsonb_object_agg(field.key, field.value -> 'new'), '{}')
           FROM public.pending_changes c, jsonb_each(c.change #> ARRAY['entities', $5::text, 'changes']) AS field
           WHERE c.id = $6 AND field.key = ANY ($7)
         ) AS row
       )
       INSERT INTO ${name} AS t (id, project_id, environment_id, feature_id, ${listed})
       SELECT $1, $2::uuid, $3::bigint, $4::uuid, ${columns.map((column) => `n.${column}`).join(', ')}
       FROM wanted, jsonb_populate_record(NULL::${name}, wanted.row) AS n
       ON CONFLICT (id) DO UPDATE SET
         ${columns.map((column) => `${column} = excluded.${column}`).join(', ')}, updated_at = now()
       WHERE t.project_id = $2::uuid AND t.environment_id = $3::bigint AND t.feature_id = $4::uuid`,
      [
        place.entityId,
        place.projectId,
        place.environmentId,
        featureId,
        String(request.index),
        request.pendingChangeId,
        columns,
      ],
    );
    if (rowCount === 0) {
      throw new HttpProblem(
        409,
        'conflict',
        `The ${place.entity} ${place.entityId} belongs to another feature or environment: reject the request`,
        { details: { conflicts: [] } },
      );
    }
  }
  return {
    environmentId: place.environmentId,
    entity: place.entity,
    entityId: place.entityId,
    before,
    after: await lockPart(client, place),
  };
}
