import type { GuaranteeReason, HelloMessage } from '@flagcast/protocol';
import pg from 'pg';
import { errorCode } from '../postgres/errors.js';
import type { Queries } from '../postgres/session-pool.js';
import { describeError } from '../describe.js';
import { type ListColumns, listColumnsStatement } from '../host/feature-lists.js';
import { asBigint, asUuid, featureState } from '../host/feature-state.js';
import { channelStatement, requestOf } from '../host/pending-change.js';
import {
  type HiddenTable,
  hasRowSecurityExpression,
  hiddenTablesStatement,
  policyVersionsExpression,
  readHiddenTables,
} from '../host/host-schema.js';
import { type TriggerState, triggerParameter, triggerStatement } from '../host/host-triggers.js';
import type { LogFeatures } from './log-statements.js';
import { tablesRelation } from './overlap.js';

/** The source of events that was found in the database. */
export interface EventSource extends LogFeatures {
  /** `event_log`: the log that triggers write. `tables`: the host's tables. `view`: a view of the host. */
  readonly reason: GuaranteeReason;
  /** `exact`: by transaction ids. `overlap`: by created_at, looking back for the overlap. */
  readonly guarantee: 'exact' | 'overlap';
  /** Its name in messages. */
  readonly name: string;
  /** The SQL after FROM, with the columns of `overlapStatement`; not used with the event log. */
  readonly relation: string;
  /** Whether triggers on the host's tables write the log, and not the host itself. */
  readonly hasHostTriggers: boolean;
  /** The tables of which row-level security may hide rows, sorted. */
  readonly hiddenTables: readonly string[];
  /**
   * The versions of policies that apply to this role, also if they show all rows; null if none does, empty if not known.
   * Without any, rows that are hidden later fail the statement: with `row_security` off, PostgreSQL filters no rows
   * silently.
   */
  readonly policies: string | null;
  /** Whether there is an event log that this role may read: one that is installed later is read instead of the tables. */
  readonly hasLog: boolean;
}

/** The guarantee, as `hello` and /api/status name it. */
export type Guarantee = Pick<HelloMessage, 'guarantee' | 'guarantee_reason' | 'overlap_ms'>;

export function guaranteeOf(source: EventSource, overlapMs: number): Guarantee {
  const { guarantee, reason, hiddenTables } = source;
  return {
    guarantee: hiddenTables.length === 0 ? guarantee : 'partial',
    guarantee_reason: reason,
    overlap_ms: guarantee === 'overlap' ? overlapMs : null,
  };
}

/** Why positions of the source `before` are invalid; null if they are valid. */
export function sourceChange(before: EventSource, source: EventSource): string | null {
  if (before.reason !== source.reason || before.name !== source.name) {
    return `events come from ${source.name} now, not from ${before.name}`;
  }
  if (before.hiddenTables.join() !== source.hiddenTables.join()) {
    const { hiddenTables } = source;
    return `row-level security ${hiddenTables.length === 0 ? 'hides no rows' : `may hide rows of ${hiddenTables.join(', ')}`} now`;
  }
  return before.hasState === source.hasState &&
    before.hasEnvironments === source.hasEnvironments &&
    before.policies === source.policies &&
    JSON.stringify(before.lists) === JSON.stringify(source.lists)
    ? null
    : "the host's tables, or the rights on them, were changed, so the state of features is read differently";
}

/** Nothing was found to read events from. The message is for the operator, without a full stop. */
export class EventSourceError extends Error {
  override readonly name = 'EventSourceError';
}

/** The specification's view, wherever the role's search_path finds it. */
const hostView = 'v_realtime_events';

const requiredColumns = [
  'source',
  'event_id',
  'project_id',
  'environment_id',
  'environment_key',
  'entity',
  'entity_id',
  'action',
  'created_at',
] as const;

/** undefined_table (also of a missing schema), insufficient_privilege, invalid_schema_name. */
const unreadableCodes = new Set(['42P01', '42501', '3F000']);

/** What can change without an announcement. */
export interface SourceChecks extends Pick<EventSource, 'hiddenTables' | 'policies' | 'lists' | 'hasLog'> {
  /** The triggers that write the log; empty if the host writes it. */
  readonly triggers: readonly TriggerState[];
}

/** $1 is `triggerParameter`. */
const checkStatement = `SELECT (${triggerStatement}), (${listColumnsStatement}), (${hasRowSecurityExpression})::text, EXISTS (
    SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = 'flagcast' AND c.relname = 'event_log' AND has_schema_privilege(n.oid, 'USAGE')
      AND has_table_privilege(c.oid, 'SELECT')
  )::text`;
/** $1 is whether triggers write the log. PostgreSQL plans it as long as all of `checkStatement`, and few hosts need it. */
const rowSecurityStatement = `SELECT (${hiddenTablesStatement('NULL', '$1')}), ${policyVersionsExpression}`;

/** Finds the source as `findReadable` does. */
export async function findEventSource(client: pg.ClientBase, wanted: string | null): Promise<EventSource> {
  const found = await findReadable(client, wanted);
  const { triggers: _, ...checks } = await checkSource(client, found);
  return { ...found, ...checks };
}

/** Reads the catalogue, for which no right is needed. `isPrepared`: the session keeps the statements. */
export async function checkSource(
  client: Queries,
  { reason, hasHostTriggers }: FoundSource,
  isPrepared = false,
): Promise<SourceChecks> {
  const ask = async (name: string, text: string, value: unknown): Promise<(string | null)[]> => {
    const named = isPrepared ? { name: `flagcast_${name}` } : {};
    const { rows } = await client.query({ ...named, text, values: [value], rowMode: 'array' });
    return (rows[0] ?? []) as (string | null)[];
  };
  const parameter = hasHostTriggers ? triggerParameter : '[]';
  const [triggers, lists, hasRowSecurity, hasLog] = await ask('check', checkStatement, parameter);
  const [hidden, policies = null] =
    hasRowSecurity === 'true' ? await ask('row_security', rowSecurityStatement, hasHostTriggers) : [];
  return {
    triggers: JSON.parse(triggers ?? '[]') as TriggerState[],
    lists: JSON.parse(lists ?? '{}') as ListColumns,
    hiddenTables: namesOf(JSON.parse(hidden ?? '[]') as HiddenTable[]),
    hasLog: hasLog === 'true',
    // Of other relations it is not known.
    policies: reason === 'event_log' ? policies : '',
  };
}

/** The tables that contain states, open requests and the keys of environments. */
const stateTables =
  '{features,feature_params,pending_changes,pending_change_entities,audit_log,environments}';

/** The privileges of this role on `stateTables`, and their columns, as one text. Reads only the system catalog. */
export async function readRights(client: Queries): Promise<string> {
  const { rows } = await client.query<[string | null]>({
    text: `SELECT string_agg(concat_ws(' ', c.relname, has_table_privilege(c.oid, 'SELECT'),
        has_any_column_privilege(c.oid, 'SELECT'), (
          SELECT string_agg(a.attname || ' ' || a.atttypid, ' ' ORDER BY a.attnum) FROM pg_attribute a
          WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
        )), ', ' ORDER BY c.relname)
      FROM pg_class c
      WHERE c.relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = 'public') AND c.relname = ANY ($1)`,
    values: [stateTables],
    rowMode: 'array',
  });
  return rows[0]?.[0] ?? '';
}

/**
 * Whether row-level security hides rows of the same tables as when the source was found. Policies that show all rows can be
 * made without a change of the source, and a server that follows the relay does not look for them.
 */
export async function hidesTheSame(client: Queries, source: EventSource): Promise<boolean> {
  const hidden = await readHiddenTables(client, { role: null, logs: source.hasHostTriggers });
  return namesOf(hidden).join() === source.hiddenTables.join();
}

/** Each table once, in order. */
function namesOf(tables: readonly HiddenTable[]): string[] {
  return [...new Set(tables.map(({ table }) => table))].toSorted();
}

type FoundSource = Pick<EventSource, 'reason' | 'guarantee' | 'name' | 'relation' | 'hasHostTriggers'>;
type ReadableSource = FoundSource & Pick<EventSource, 'hasState' | 'hasEnvironments'>;

/**
 * `findSource`, and what can be read of the host's tables. `before` is the source so far: a privilege on them that was
 * revoked since is an error, because clients would keep a state that no longer changes.
 */
export async function findReadable(
  client: pg.ClientBase,
  wanted: string | null,
  before: EventSource | null = null,
): Promise<ReadableSource> {
  const found = await findSource(client, wanted);
  const features = await featureRefusal(client);
  const hasState = features === null;
  if (found.reason !== 'event_log') return { ...found, hasState, hasEnvironments: true };
  const environments = await refusalOf(
    client,
    `SELECT e.key::text FROM public.environments e WHERE e.id = ${asBigint("''::text")} LIMIT 0`,
  );
  if (before?.hasEnvironments === true) refuseForbidden(environments);
  if (before?.hasState === true) refuseForbidden(features);
  return { ...found, hasState, hasEnvironments: environments === null };
}

/**
 * Finds the source: the view `wanted`; by default the event log, and without one the host's tables or its view
 * `v_realtime_events`. Reads no rows, and changes nothing.
 *
 * @throws EventSourceError if there is none, or it lacks a column; else what the database throws.
 */
export async function findSource(client: pg.ClientBase, wanted: string | null): Promise<FoundSource> {
  if (wanted !== null) {
    try {
      return await describeView(client, wanted);
    } catch (error) {
      if (!isUnreadable(error)) throw error;
      throw new EventSourceError(
        `the view ${wanted} of FLAGCAST_VIEW cannot be read (${describeError(error)}): correct the name, or grant this role USAGE on its schema and SELECT on it`,
      );
    }
  }
  const candidates = [findLog, findTables, async () => await describeView(client, hostView)];
  const reasons: string[] = [];
  for (const find of candidates) {
    try {
      return await find(client);
    } catch (error) {
      // Tables with other columns belong to another schema.
      if (!isUnreadable(error) && errorCode(error) !== '42703') throw error;
      // The log exists: reading the tables instead would silently give up the exact guarantee.
      if (find === findLog && errorCode(error) === '42501') {
        throw new EventSourceError(
          `this role may not read flagcast.event_log (${describeError(error)}): grant it what flagcast install --role grants`,
        );
      }
      reasons.push(describeError(error));
    }
  }
  throw new EventSourceError(
    `there is no table flagcast.event_log, and this role can read neither the tables that hold the events nor a view ${hostView} (${reasons.slice(1).join('; ')}): run flagcast install --database-url URL (with --tables if the database is empty), or name a view of yours in FLAGCAST_VIEW`,
  );
}

/** Rejects if the log cannot be read. */
async function findLog(client: pg.ClientBase): Promise<FoundSource> {
  const { rows } = await client.query<[string]>({
    text: `SELECT coalesce((SELECT host_triggers FROM flagcast.log_state), true)::text
      FROM (SELECT 1) AS always LEFT JOIN (SELECT xid FROM flagcast.event_log LIMIT 0) l ON true`,
    rowMode: 'array',
  });
  const name = 'flagcast.event_log';
  const hasHostTriggers = rows[0]?.[0] !== 'false';
  return { reason: 'event_log', guarantee: 'exact', name, relation: name, hasHostTriggers };
}

async function findTables(client: pg.ClientBase): Promise<FoundSource> {
  return await overlapSource(client, { reason: 'tables', name: 'its tables', relation: tablesRelation });
}

/** Rejects if the relation cannot be read. */
async function overlapSource(
  client: pg.ClientBase,
  found: Pick<EventSource, 'reason' | 'name' | 'relation'>,
): Promise<FoundSource> {
  await client.query(`SELECT * FROM ${found.relation} v LIMIT 0`, ['-infinity', []]);
  return { ...found, guarantee: 'overlap', hasHostTriggers: false };
}

/** `timestamp with time zone`, as pg_type numbers it. */
const timestamptzOid = 1184;

/** A view of the host, with the columns of `overlapStatement`. */
async function describeView(client: pg.ClientBase, name: string): Promise<FoundSource> {
  const { fields } = await client.query(`SELECT * FROM ${name} LIMIT 0`);
  const columns = new Map(fields.map(({ name: column, dataTypeID }) => [column, dataTypeID]));
  const missing = requiredColumns.filter((column) => !columns.has(column));
  if (missing.length > 0) {
    throw new EventSourceError(
      `the view ${name} has no column ${missing.join(', ')}: a view of events has ${requiredColumns.join(', ')}`,
    );
  }
  const optional = (column: string, otherwise: string): string =>
    `${columns.has(column) ? `h.${column}::text` : otherwise} AS ${column}`;
  const createdAt =
    columns.get('created_at') === timestamptzOid ? 'h.created_at' : 'h.created_at::timestamptz';
  const relation = `(SELECT
    h.source::text AS source, h.event_id::text AS row_id, h.project_id::text AS project_id,
    h.environment_id::text AS environment_id, h.environment_key::text AS environment_key, h.entity::text AS entity,
    h.entity_id::text AS entity_id, h.action::text AS action, ${createdAt} AS created_at,
    ${optional('feature_id', `CASE WHEN h.entity::text = 'feature' THEN h.entity_id::text END`)},
    ${optional('pending_change_id', `CASE WHEN h.source::text = 'pending' THEN h.event_id::text END`)},
    ${optional('actor', 'NULL::text')}, false AS is_open_request
    FROM ${name} h
    WHERE ${createdAt} > $1::timestamptz AND $2::text[] IS NOT NULL)`;
  return await overlapSource(client, { reason: 'view', name, relation });
}

/** Why the features and the requests of a channel cannot be read, one by one or all; null if they can. */
export async function featureRefusal(client: pg.ClientBase): Promise<pg.DatabaseError | null> {
  const [id, environmentId] = [asUuid("''::text"), asBigint("''::text")];
  const feature = featureState({}, { projectId: id, featureId: id, environmentId });
  // The JSON of a request is that of the channel.
  return await refusalOf(
    client,
    `SELECT ${feature}, EXISTS (SELECT FROM ${requestOf(id, id, environmentId)}), channel.*
     FROM (${channelStatement({}, { escapes: false })}) channel`,
    ['00000000-0000-0000-0000-000000000000', '0'],
  );
}

/** Null if PostgreSQL runs the statement: what it names exists, has the right types, and may be read. */
async function refusalOf(
  client: pg.ClientBase,
  text: string,
  values: string[] = [],
): Promise<pg.DatabaseError | null> {
  try {
    await client.query(text, values);
    return null;
  } catch (error) {
    // Class 42: a syntax error or an access rule violation.
    if (error instanceof pg.DatabaseError && errorCode(error)?.startsWith('42') === true) return error;
    throw error;
  }
}

function refuseForbidden(refusal: pg.DatabaseError | null): void {
  if (errorCode(refusal) !== '42501') return;
  throw new EventSourceError(
    `this role may not read a table that it could read before (${describeError(refusal)}): grant it what flagcast install --role grants`,
  );
}

function isUnreadable(error: unknown): boolean {
  return unreadableCodes.has(errorCode(error) ?? '');
}
