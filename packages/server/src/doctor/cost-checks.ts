import type pg from 'pg';
import { askJson } from './facts.js';
import { ok, sql, type Finding } from './finding.js';

/** Whether the feature of a rule or schedule can be looked up by an index. */
export async function checkIndexes(client: pg.ClientBase): Promise<Finding> {
  const id = 'index';
  const isMissing = await askJson<boolean>(
    client,
    `SELECT to_json(EXISTS (
       SELECT FROM pg_attribute a
       WHERE a.attrelid = to_regclass('public.audit_log') AND a.attname = 'entity_id' AND NOT a.attisdropped
         AND NOT EXISTS (
           SELECT FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am m ON m.oid = c.relam
           WHERE i.indrelid = a.attrelid AND i.indisvalid AND i.indpred IS NULL AND i.indkey[0] = a.attnum
             AND m.amname = 'btree'
         )
     ))::text`,
  );
  if (!isMissing) return ok(id, 'the index that requests are looked up by is there');
  return {
    id,
    level: 'note',
    what: 'there is no index on public.audit_log (entity_id)',
    consequence:
      'a request for a rule or schedule that does not name its feature is shown without one, and snapshots with such requests take longer',
    mend: sql('CREATE INDEX CONCURRENTLY ON public.audit_log (entity_id);'),
  };
}
