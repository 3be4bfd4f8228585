import type pg from 'pg';
import type { EventView } from '../reader/event-view.js';
import { readStatement, sessionSettings } from '../reader/statements.js';
import { askJson } from './facts.js';
import { advice, ok, sql, type Finding } from './finding.js';

/** From this many rows on it is felt when a read goes through all of a table. */
const largeTableRows = 10_000;

/** The indexes that a read walks on; which of the host's they are does not matter. */
const neededIndexes = [
  { table: 'audit_log', column: 'created_at', read: 'every read goes through the whole history' },
  { table: 'pending_change_entities', column: 'created_at', read: 'every read goes through all requests' },
  {
    table: 'pending_change_entities',
    column: 'pending_change_id',
    read: 'every decision is looked up among all requests',
  },
  {
    table: 'audit_log',
    column: 'entity_id',
    read: 'the feature of a rule is looked for in the whole history',
  },
] as const;

interface MissingIndex {
  readonly table: string;
  readonly column: string;
  readonly rows: number;
}

/** Whether reads can use an index where they need one. */
export async function checkIndexes(client: pg.ClientBase): Promise<Finding[]> {
  const missing = await askJson<MissingIndex[]>(
    client,
    `SELECT coalesce(json_agg(json_build_object('table', c.relname, 'column', a.attname, 'rows', c.reltuples)), '[]')::text
     FROM jsonb_to_recordset($1::jsonb) AS wanted ("table" name, "column" name)
     JOIN pg_class c ON c.relname = wanted."table"
       AND c.relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = 'public')
     JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = wanted."column"
     WHERE NOT EXISTS (
       SELECT FROM pg_index i JOIN pg_class ic ON ic.oid = i.indexrelid JOIN pg_am am ON am.oid = ic.relam
       WHERE i.indrelid = c.oid AND i.indisvalid AND i.indpred IS NULL AND i.indkey[0] = a.attnum AND am.amname = 'btree'
     )`,
    [JSON.stringify(neededIndexes)],
  );
  const findings = neededIndexes.flatMap(({ table, column, read }): Finding[] => {
    const found = missing.find((each) => each.table === table && each.column === column);
    if (found === undefined) return [];
    const isLarge = found.rows >= largeTableRows;
    return [
      {
        id: 'index',
        level: isLarge ? 'warning' : 'note',
        what: `there is no index on public.${table} (${column})`,
        consequence: isLarge ? `${read}: about ${found.rows} rows` : `${read}, once that has grown`,
        mend: sql(`CREATE INDEX CONCURRENTLY ON public.${table} (${column});`),
      },
    ];
  });
  return findings.length > 0 ? findings : [ok('index', 'the indexes that reads need are there')];
}

interface PlanNode {
  readonly 'Node Type': string;
  readonly Schema?: string;
  readonly 'Relation Name'?: string;
  readonly 'Plan Rows': number;
  readonly 'Total Cost': number;
  readonly Plans?: readonly PlanNode[];
}

/** What the planner expects of the very statement that the reader runs, planned as the reader has it planned. */
export async function checkCost(client: pg.ClientBase, view: EventView): Promise<Finding[]> {
  const { text } = readStatement(view);
  const plan = await explain(client, text);
  const scanned = new Set(
    nodesOf(plan)
      .filter((node) => node['Node Type'] === 'Seq Scan')
      .map((node) => `${node.Schema ?? ''}.${node['Relation Name'] ?? ''}`),
  );
  const rows = await askJson<Record<string, number>>(
    client,
    `SELECT json_object_agg(n.nspname || '.' || c.relname, c.reltuples)::text
     FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind IN ('r', 'p')`,
  );
  const findings = [...scanned].toSorted().flatMap((table): Finding[] => {
    const size = rows[table] ?? 0;
    if (size < largeTableRows) return [];
    // No index knows which transaction wrote a row, and a decision's own time is not to be trusted.
    const isUnavoidable = table === 'public.pending_changes';
    const isOurs = view.reason === 'installed' || view.reason === 'tables';
    return [
      {
        id: 'cost',
        level: isUnavoidable ? 'note' : 'warning',
        what: `a read is expected to go through all of ${table}, about ${size} rows`,
        consequence: 'every read takes longer, and the more so the more is written',
        mend: isUnavoidable
          ? advice('move requests that were decided long ago to an archive')
          : isOurs
            ? sql(`ANALYZE ${table};`)
            : advice(
                'have an index on the column that created_at comes from, and run ANALYZE; decisions are read without one: move old ones to an archive',
              ),
      },
    ];
  });
  if (findings.length > 0) return findings;
  const estimate = `about ${plan['Plan Rows']} rows looked at, planner's cost ${Math.round(plan['Total Cost'])}`;
  return [ok('cost', `a read is cheap: ${estimate}`)];
}

/** One transaction, so that a pooler does not hand its statements to several backends, and nothing stays in the session. */
async function explain(client: pg.ClientBase, statement: string): Promise<PlanNode> {
  await client.query('BEGIN READ ONLY');
  try {
    await client.query(sessionSettings.replaceAll('SET ', 'SET LOCAL '));
    await client.query(`PREPARE flagcast_doctor AS ${statement}`);
    await client.query('SAVEPOINT prepared');
    try {
      const [{ Plan: plan }] = await askJson<[{ Plan: PlanNode }]>(
        client,
        `EXPLAIN (FORMAT JSON, VERBOSE) EXECUTE flagcast_doctor(0, '-infinity', '{}')`,
      );
      return plan;
    } finally {
      // A prepared statement outlives the transaction.
      await client.query('ROLLBACK TO SAVEPOINT prepared; DEALLOCATE flagcast_doctor');
    }
  } finally {
    await client.query('ROLLBACK');
  }
}

function nodesOf(node: PlanNode): PlanNode[] {
  return [node, ...(node.Plans ?? []).flatMap(nodesOf)];
}
