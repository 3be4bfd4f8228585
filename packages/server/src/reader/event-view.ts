import type { GuaranteeReason, HelloMessage } from '@flagcast/protocol';
import type pg from 'pg';
import { errorCode } from '../database/embedded-error.js';
import { loadMigrations } from '../database/install-migrations.js';
import { describeError } from '../describe.js';
import { channelStatement, eventColumns, featureState } from './statements.js';

/** What the reader reads, as it was found in the database. */
export interface EventView {
  /** What stands after FROM: a view's name, or a query in parentheses, always with the columns of our own view. */
  readonly relation: string;
  /** Our own view, whichever one is read: where it is not installed, the query that it is made of, in parentheses. */
  readonly ownRelation: string;
  /** What people call it. */
  readonly name: string;
  /** Whether events are what Flagcast's own definition says, and not what somebody else's view shows. */
  readonly isOwnDefinition: boolean;
  /** `exact`: by transaction ids. `overlap`: by created_at, looking back for the overlap. */
  readonly guarantee: 'exact' | 'overlap';
  readonly reason: GuaranteeReason;
  /** Whether the features and the open requests of a channel can be read beside it. */
  readonly hasState: boolean;
}

/** What holds, in the words of the wire. */
export type Guarantee = Pick<HelloMessage, 'guarantee' | 'guarantee_reason' | 'overlap_ms'>;

export function guaranteeOf({ guarantee, reason }: EventView, overlapMs: number): Guarantee {
  const overlap_ms = guarantee === 'overlap' ? overlapMs : null;
  return { guarantee, guarantee_reason: reason, overlap_ms };
}

/** There is nothing to read events from. The message is for the operator, without a full stop. */
export class EventViewError extends Error {
  override readonly name = 'EventViewError';
}

/** Where `install` makes it. */
export const ownView = 'flagcast.v_realtime_events';
/** The specification's, wherever the role's search_path finds it. */
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

/**
 * Finds what to read: the view of that name, else Flagcast's own, else the tables that it is made
 * of, else the host's `v_realtime_events`. Asks for no rows, and changes nothing.
 *
 * @throws EventViewError where there is none, or it lacks a column; else what the database throws.
 */
export async function findEventView(client: pg.ClientBase, wanted: string | null): Promise<EventView> {
  if (wanted !== null) {
    try {
      return await describeView(client, wanted);
    } catch (error) {
      if (!isUnreadable(error)) throw error;
      throw new EventViewError(
        `the view ${wanted} of FLAGCAST_VIEW cannot be read (${describeError(error)}): correct the name, or grant this role USAGE on its schema and SELECT on it`,
      );
    }
  }
  const candidates: (() => Promise<EventView>)[] = [
    async () => await completed(client, { relation: ownView, name: ownView, reason: 'installed' }),
    async () =>
      await completed(client, { relation: await ownDefinition(), name: 'its tables', reason: 'tables' }),
    async () => await describeView(client, hostView),
  ];
  const reasons: string[] = [];
  let isForbidden = false;
  for (const find of candidates) {
    try {
      return await find();
    } catch (error) {
      // Tables of other columns are somebody else's.
      if (!isUnreadable(error) && errorCode(error) !== '42703') throw error;
      isForbidden ||= reasons.length === 0 && errorCode(error) === '42501';
      reasons.push(describeError(error));
    }
  }
  throw new EventViewError(
    isForbidden
      ? `this role may not read ${ownView} (${reasons[0] ?? ''}): grant it USAGE on schema flagcast and SELECT on the view`
      : `it has no view ${ownView} yet (and this role can read neither the tables that it is made of nor a view ${hostView}: ${reasons.slice(1).join('; ')}): run flagcast install --database-url <its URL> first (with --tables if it is empty), or name a view of yours in FLAGCAST_VIEW`,
  );
}

interface Column {
  readonly name: string;
  readonly dataTypeID: number;
}

/** `timestamp with time zone`, as pg_type numbers it. */
const timestamptzOid = 1184;

/** A view of the host's, brought to the columns of ours. */
async function describeView(client: pg.ClientBase, name: string): Promise<EventView> {
  const { fields } = await client.query(`SELECT * FROM ${name} LIMIT 0`);
  const columns = new Map<string, Column>(fields.map((field) => [field.name, field]));
  const missing = requiredColumns.filter((column) => !columns.has(column));
  if (missing.length > 0) {
    throw new EventViewError(
      `the view ${name} has no column ${missing.join(', ')}: a view of events has ${requiredColumns.join(', ')} and, for exactness, xid`,
    );
  }
  const hasXid = columns.has('xid');
  const optional = (column: string, otherwise: string): string =>
    `${columns.has(column) ? `h.${column}` : otherwise} AS ${column}`;
  const createdAt =
    columns.get('created_at')?.dataTypeID === timestamptzOid ? 'h.created_at' : 'h.created_at::timestamptz';
  const relation = `(SELECT
    h.source::text AS source, h.event_id::text AS event_id, h.project_id, h.environment_id,
    h.environment_key::text AS environment_key, h.entity::text AS entity, h.entity_id, h.action::text AS action,
    ${createdAt} AS created_at,
    ${hasXid ? 'h.xid::text::bigint' : 'NULL::bigint'} AS xid,
    ${optional('feature_id', `CASE WHEN h.entity::text = 'feature' THEN h.entity_id END`)},
    ${optional('pending_change_id', `CASE WHEN h.source::text = 'pending' THEN h.event_id::text END`)},
    ${columns.has('actor') ? 'h.actor::text' : 'NULL::text'} AS actor
    FROM ${name} h)`;
  return await completed(client, {
    relation,
    name,
    reason: hasXid ? 'transaction_ids' : 'no_transaction_ids',
  });
}

async function completed(
  client: pg.ClientBase,
  view: Pick<EventView, 'relation' | 'name' | 'reason'>,
): Promise<EventView> {
  await client.query(`SELECT ${eventColumns({ hasState: false })} FROM ${view.relation} v LIMIT 0`);
  const isOwnDefinition = view.reason === 'installed' || view.reason === 'tables';
  const hasState =
    (await answers(
      client,
      // Its ids must be of the types of the tables' own.
      `SELECT ${featureState('v.feature_id', 'v.environment_id')},
        v.project_id = NULL::uuid, v.environment_id = NULL::bigint
      FROM ${view.relation} v LIMIT 0`,
    )) &&
    (await answers(client, channelStatement({ ...view, isOwnDefinition }), [
      '00000000-0000-0000-0000-000000000000',
      '0',
    ]));
  return {
    ...view,
    isOwnDefinition,
    ownRelation: view.reason === 'installed' ? ownView : await ownDefinition(),
    guarantee: view.reason === 'no_transaction_ids' ? 'overlap' : 'exact',
    hasState,
  };
}

/** Whether PostgreSQL carries the statement out: what it names exists, is of fitting types, and may be read. */
async function answers(client: pg.ClientBase, text: string, values: string[] = []): Promise<boolean> {
  try {
    await client.query(text, values);
    return true;
  } catch (error) {
    // Class 42: a syntax error or an access rule violation.
    if (errorCode(error)?.startsWith('42') === true) return false;
    throw error;
  }
}

/** The query of our own view, as `install` makes it. */
async function ownDefinition(): Promise<string> {
  const [view] = await loadMigrations('flagcast');
  const query = /^CREATE VIEW flagcast\.v_realtime_events AS$(.*);$/ms.exec(view?.sql ?? '')?.[1];
  if (query === undefined) throw new Error('the first file of sql/flagcast does not make the view');
  return `(${query})`;
}

function isUnreadable(error: unknown): boolean {
  return unreadableCodes.has(errorCode(error) ?? '');
}
