import type { FeatureState } from '@flagcast/protocol';
import type { Queries } from '../postgres/session-pool.js';
import { scheduleStateAt } from './schedule-state.js';
import { escapedText, isoUtc, isTooDeep, type TextReader } from './sql-expressions.js';

/** The tables around features that this session may read: by name, the types of the columns by name. */
export type ListColumns = Readonly<Record<string, Readonly<Record<string, string>>>>;

const readTables = ['rules', 'segments', 'flag_variants', 'feature_schedules', 'tags', 'feature_tags'];
const readColumns = [
  ...['id', 'feature_id', 'environment_id', 'name', 'action', 'created_at'],
  ...['condition', 'conditions', 'segment_id', 'flag_variant_id', 'priority', 'rollout_percent'],
  ...['starts_at', 'ends_at', 'cron_expr', 'cron_duration', 'timezone', 'tag_id', 'slug', 'color'],
];
const names = (list: readonly string[]): string => list.map((name) => `'${name}'`).join(', ');

/** SQL for the names of the tables that the lists are read from. */
export const listTables = names(readTables);

/**
 * SQL for the `ListColumns` as JSON text. Looks in the catalogue, for which no right is needed. A table of which row-level
 * security may hide rows does not count, nor does a view, behind which it may: its lists would be incomplete. With
 * `quote_all_identifiers` the names of types are quoted.
 */
export const listColumnsStatement = `
  SELECT coalesce(jsonb_object_agg(found.relname, found.columns), '{}')::text
  FROM (
    SELECT c.relname, jsonb_object_agg(a.attname, replace(format_type(a.atttypid, NULL), '"', '')) AS columns
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_attribute a ON a.attrelid = c.oid
    WHERE n.nspname = 'public' AND c.relkind IN ('r', 'p') AND c.relname IN (${listTables}) AND a.attname IN (${names(readColumns)})
      AND NOT a.attisdropped AND has_column_privilege(c.oid, a.attnum, 'SELECT') AND NOT row_security_active(c.oid)
    GROUP BY c.relname
  ) AS found`;

export async function readListColumns(database: Queries): Promise<ListColumns> {
  const { rows } = await database.query<[string]>({ text: listColumnsStatement, rowMode: 'array' });
  return JSON.parse(rows[0]?.[0] ?? '{}') as ListColumns;
}

/** For how long states without a list that was readable are refused, in milliseconds. */
const refusalMs = 10_000;

/** The lists that snapshots and missed events can have. */
export class ReadableLists {
  readonly #requestPoll: () => void;
  #missing: { readonly known: ListColumns; readonly sinceMs: number } | null = null;

  /** `requestPoll` lets the reader check what can be read. */
  constructor(requestPoll: () => void = () => undefined) {
    this.#requestPoll = requestPoll;
  }

  /**
   * Rejects for a while if a list that the reader knows cannot be read now: if it is readable again before the reader
   * checks, a client would keep the state without it. Not for ever: a server that follows the relay does not check.
   */
  async read(session: Queries, known: ListColumns): Promise<ListColumns> {
    const columns = await readListColumns(session);
    const nowMs = performance.now();
    if (!hasMissing(columns, known)) this.#missing = null;
    else if (this.#missing?.known !== known) this.#missing = { known, sinceMs: nowMs };
    if (this.#missing === null || nowMs - this.#missing.sinceMs > refusalMs) return columns;
    this.#requestPoll();
    throw new Error('a list of features cannot be read since a moment, so states would lack it');
  }
}

function hasMissing(columns: ListColumns, known: ListColumns): boolean {
  return Object.entries(known).some(([table, types]) =>
    Object.entries(types).some(([column, type]) => columns[table]?.[column] !== type),
  );
}

/** The size of each list, of each text in it in characters, and of all conditions of a feature in bytes. */
const maxElements = 30;
const maxText = 100;
const maxConditionBytes = 8_192;

/** Which features the lists are of. All are SQL. */
export interface ListScope {
  readonly projectId: string;
  /** Null: all of the project. */
  readonly featureId: string | null;
  readonly environmentId: string;
}

/** What a statement over a feature `f` adds to read its lists. */
export interface ListSql {
  /** Arguments of json_build_object, each with a comma before it. */
  readonly fields: string;
  readonly joins: string;
  /** Whether the feature is on while no schedule acts, as text; null without schedules, or with too many. */
  readonly baseline: string;
  /** The fields of a feature whose lists are empty: they need no joins. */
  readonly emptyFields: string;
  /** Whether the lists are empty: a boolean. May be false if they are. */
  readonly isEmpty: string;
}

const integers = ['bigint', 'integer', 'smallint'];
const numbers = [...integers, 'numeric', 'real', 'double precision'];
const times = ['timestamp with time zone'];

/** SQL for the lists that can be read. `text` reads texts; if it escapes them, conditions are left out. */
export function listSql(columns: ListColumns, scope: ListScope, text: TextReader): ListSql {
  const tables = new ListTables(columns, scope, text);
  const lists = [
    ruleList(tables, text === escapedText),
    variantList(tables),
    scheduleList(tables),
    tagList(tables),
  ];
  const found = lists.filter((list) => list !== null);
  const hasSchedules = found.some(({ name }) => name === 'schedules');
  return {
    fields: found
      .map(
        ({ name }) =>
          `, '${name}', coalesce(${name}.list, '[]'), '${name}_total', coalesce(${name}.total, 0)`,
      )
      .join(''),
    joins: found
      .map(({ name, sql }) => `LEFT JOIN LATERAL (${sql}) ${name} ON ${name}.feature_id = f.id`)
      .join('\n'),
    baseline: hasSchedules
      ? `CASE WHEN schedules.live <= ${maxElements} THEN schedules.baseline::text END`
      : 'NULL',
    emptyFields: found.map(({ name }) => `, '${name}', '[]'::json, '${name}_total', 0`).join(''),
    isEmpty:
      found.length === 0 ? 'true' : found.map(({ name }) => tables.isEmpty(tableOf[name])).join(' AND '),
  };
}

/** The table of each list whose rows are of one feature. */
const tableOf = {
  rules: 'rules',
  variants: 'flag_variants',
  schedules: 'feature_schedules',
  tags: 'feature_tags',
} as const;

interface List {
  readonly name: keyof typeof tableOf;
  /** Returns feature_id, total and list. */
  readonly sql: string;
}

/** The tables that were found, as `t`, as far as they have the columns and types that are asked for. */
class ListTables {
  readonly #columns: ListColumns;
  readonly #scope: ListScope;
  readonly text: TextReader;

  constructor(columns: ListColumns, scope: ListScope, text: TextReader) {
    this.#columns = columns;
    this.#scope = scope;
    this.text = text;
  }

  has(table: string, column: string, types?: readonly string[]): boolean {
    const type = this.#columns[table]?.[column];
    return type !== undefined && types?.includes(type) !== false;
  }

  /** Whether rows of the two tables can be joined by these columns. */
  joins(table: string, column: string, other: string): boolean {
    return this.has(table, column) && this.#columns[table]?.[column] === this.#columns[other]?.['id'];
  }

  /**
   * The column as a text that is cut; null without it. The dots keep a cut cron expression from being a valid one. With
   * SQL_ASCII characters are bytes: a last one that may be incomplete is removed.
   */
  cut(table: string, column: string, alias = 't'): string {
    if (!this.has(table, column)) return 'NULL';
    const text = `${alias}.${column}::text`;
    const first = `regexp_replace(left(${text}, ${maxText - 3}), E'[\\\\xC0-\\\\xFF][\\\\x80-\\\\xBF]{0,2}$', '')`;
    return this.text(`(CASE WHEN length(${text}) > ${maxText} THEN ${first} || '...' ELSE ${text} END)`);
  }

  /** Whether the table has no rows of the feature `f`: of the environment, if they belong to one. */
  isEmpty(table: string): string {
    const isInScope = this.has(table, 'environment_id', integers)
      ? ` AND t.environment_id + 0 = ${this.#scope.environmentId}`
      : '';
    return `NOT EXISTS (SELECT FROM public.${table} t WHERE t.feature_id = f.id${isInScope})`;
  }

  /** The column if it has one of the types; else null. */
  typed(table: string, column: string, types: readonly string[], otherwise = 'NULL'): string {
    return this.has(table, column, types) ? `t.${column}` : otherwise;
  }

  /**
   * The rows of the features, numbered for each feature; null if they cannot be found. `order` is of texts, unless the type is
   * known: some, such as json, have no order.
   */
  rows(
    table: string,
    { columns, order, joins = '' }: { columns: string; order: string; joins?: string },
  ): string | null {
    if (!this.has(table, 'feature_id', ['uuid'])) return null;
    const { projectId, featureId, environmentId } = this.#scope;
    const conditions = featureId === null ? [] : [`t.feature_id = ${featureId}`];
    if (this.has(table, 'environment_id', integers)) {
      // The sum keeps the planner from an index on the environment, which leads through all of its features.
      conditions.push(`t.environment_id ${featureId === null ? '' : '+ 0 '}= ${environmentId}`);
    } else if (featureId === null) {
      conditions.push(
        `t.feature_id IN (SELECT own.id FROM public.features own WHERE own.project_id = ${projectId})`,
      );
    }
    return `SELECT t.feature_id, ${columns}, row_number() OVER (PARTITION BY t.feature_id ORDER BY ${order}) AS n,
        count(*) OVER (PARTITION BY t.feature_id) AS total
      FROM public.${table} t ${joins} WHERE ${conditions.join(' AND ')}`;
  }
}

/** The first elements of each feature: `rows` as `e`, of which an element has these columns. */
const firstOf = (rows: string, columns: string, more = ''): string => `
  SELECT e.feature_id, max(e.total) AS total, json_agg(element ORDER BY e.n) AS list${more}
  FROM (${rows}) e CROSS JOIN LATERAL (SELECT ${columns}) element WHERE e.n <= ${maxElements} GROUP BY e.feature_id`;

function ruleList(tables: ListTables, escapes: boolean): List | null {
  const condition = ['condition', 'conditions'].find((column) => tables.has('rules', column, ['jsonb']));
  const hasSegments = tables.joins('rules', 'segment_id', 'segments');
  if (condition === undefined || !tables.has('rules', 'id')) return null;
  const rows = tables.rows('rules', {
    columns: `t.id::text AS id, ${tables.cut('rules', 'action')} AS action, t.${condition} AS condition,
      ${tables.cut('rules', 'segment_id')} AS segment_id, ${hasSegments ? tables.cut('segments', 'name', 's') : 'NULL'} AS segment_name,
      ${tables.cut('rules', 'flag_variant_id')} AS flag_variant_id, ${tables.typed('rules', 'priority', integers)} AS priority`,
    order: `${tables.typed('rules', 'priority', integers, '1')}, t.id::text`,
    joins: hasSegments ? 'LEFT JOIN public.segments s ON s.id = t.segment_id' : '',
  });
  if (rows === null) return null;
  // A large value is not read at all: `pg_column_size` is what it has on disk, mostly compressed. A text of fewer bytes
  // than two brackets a level cannot be nested too deeply.
  const texts = `SELECT e.*, ${escapes ? 'NULL::text' : `CASE WHEN pg_column_size(e.condition) <= ${maxConditionBytes} THEN e.condition::text END`} AS body
    FROM (${rows}) e WHERE e.n <= ${maxElements} OFFSET 0`;
  const shown = `CASE WHEN octet_length(e.body) <= ${maxConditionBytes}
    AND (octet_length(e.body) < 2000 OR NOT ${isTooDeep('e.condition')}) THEN e.body END`;
  const bounded = `SELECT e.*, sum(octet_length(e.shown)) OVER (PARTITION BY e.feature_id ORDER BY e.n) AS bytes
    FROM (SELECT e.*, ${shown} AS shown FROM (${texts}) e OFFSET 0) e`;
  const columns = `e.id, e.action, CASE WHEN e.bytes <= ${maxConditionBytes} THEN e.shown END AS condition, e.segment_id,
    e.segment_name, e.flag_variant_id, e.priority`;
  return { name: 'rules', sql: firstOf(bounded, columns) };
}

function variantList(tables: ListTables): List | null {
  if (!tables.has('flag_variants', 'id') || !tables.has('flag_variants', 'name')) return null;
  const rows = tables.rows('flag_variants', {
    columns: `t.id::text AS id, ${tables.cut('flag_variants', 'name')} AS name,
      ${tables.typed('flag_variants', 'rollout_percent', numbers)} AS rollout_percent`,
    order: 't.name::text, t.id::text',
  });
  return rows === null ? null : { name: 'variants', sql: firstOf(rows, 'e.id, e.name, e.rollout_percent') };
}

function scheduleList(tables: ListTables): List | null {
  const table = 'feature_schedules';
  const isKnown = ['starts_at', 'ends_at'].every((column) => tables.has(table, column, times));
  if (!isKnown || !tables.has(table, 'id') || !tables.has(table, 'action')) return null;
  const createdAt = tables.typed(table, 'created_at', times, 'NULL::timestamptz');
  const hasCron = tables.has(table, 'cron_expr') ? `coalesce(t.cron_expr::text, '') <> ''` : 'false';
  const isLive = 't.ends_at IS NULL OR t.ends_at >= now()';
  const ofFeature = '(PARTITION BY t.feature_id)';
  const oldest = `(PARTITION BY t.feature_id ORDER BY ${createdAt}, t.id::text)`;
  const rows = tables.rows(table, {
    columns: `t.id::text AS id, ${tables.cut(table, 'action')} AS action, t.starts_at, t.ends_at, ${createdAt} AS created_at,
      ${tables.cut(table, 'cron_expr')} AS cron_expr, ${tables.cut(table, 'cron_duration')} AS cron_duration,
      ${tables.cut(table, 'timezone')} AS timezone, count(*) FILTER (WHERE ${isLive}) OVER ${ofFeature} AS live,
      CASE WHEN first_value(${hasCron}) OVER ${oldest} THEN first_value(t.action::text <> 'enable') OVER ${oldest}
        ELSE bool_or(t.action::text = 'disable') OVER ${ofFeature} END AS baseline`,
    order: `(${isLive}) DESC, ${createdAt}, t.id::text`,
  });
  const columns = `e.id, e.action, ${isoUtc('e.starts_at')} AS starts_at, ${isoUtc('e.ends_at')} AS ends_at, e.cron_expr,
    e.cron_duration, e.timezone, ${isoUtc('e.created_at')} AS created_at`;
  const more = ', max(e.live) AS live, bool_or(e.baseline) AS baseline';
  return rows === null ? null : { name: 'schedules', sql: firstOf(rows, columns, more) };
}

function tagList(tables: ListTables): List | null {
  if (!tables.has('tags', 'slug') || !tables.joins('feature_tags', 'tag_id', 'tags')) return null;
  const rows = tables.rows('feature_tags', {
    columns: `${tables.cut('tags', 'slug', 's')} AS slug, ${tables.cut('tags', 'name', 's')} AS name,
      ${tables.cut('tags', 'color', 's')} AS color`,
    order: 's.slug::text, s.id::text',
    joins: 'JOIN public.tags s ON s.id = t.tag_id',
  });
  return rows === null ? null : { name: 'tags', sql: firstOf(rows, 'e.slug, e.name, e.color') };
}

/** Between the JSON of a feature and its baseline. JSON has no such character. */
const mark = '\u0001';

/** SQL for the text of a feature that `withScheduleState` takes. */
export const featureText = (json: string, { baseline }: ListSql): string =>
  baseline === 'NULL' ? `${json}::text` : `${json}::text || coalesce(chr(1) || ${baseline}, '')`;

/** The JSON of a feature with what its schedules do from now on. */
export function withScheduleState(text: string): string {
  const [json = '', baseline] = text.split(mark);
  if (baseline === undefined) return json;
  const { created_at, schedules = [] } = JSON.parse(json) as FeatureState;
  const state = scheduleStateAt({ created_at, schedules, baseline: baseline === 'true' }, Date.now());
  return `${json.slice(0, -1)},"schedule_state":${JSON.stringify(state)}}`;
}
