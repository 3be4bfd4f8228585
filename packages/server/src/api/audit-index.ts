import type { Queries } from '../postgres/session-pool.js';

/** An index of audit_log that a search can use. */
export interface AuditIndex {
  readonly name: string;
  /** The columns that stand before created_at; all rows that a search reads have the same values in them. */
  readonly channelColumns: readonly ('project_id' | 'environment_id')[];
}

/** How the host's audit_log can be searched. */
export interface AuditIndexes {
  /** By time; null where no index has the rows in the order of created_at. */
  readonly byTime: AuditIndex | null;
  /** The name of an index that begins with feature_id; else null. */
  readonly byFeature: string | null;
}

/** A host may add or drop an index while the server runs. In milliseconds. */
const maxAgeMs = 60_000;

/** Knows which indexes audit_log has. */
export class AuditIndexSource {
  readonly #pool: Queries;
  #known: { readonly indexes: Promise<AuditIndexes>; readonly expiresAtMs: number } | null = null;

  constructor(pool: Queries) {
    this.#pool = pool;
  }

  async get(): Promise<AuditIndexes> {
    const nowMs = performance.now();
    if (this.#known === null || this.#known.expiresAtMs <= nowMs) {
      this.#known = { indexes: this.#find(), expiresAtMs: nowMs + maxAgeMs };
    }
    const known = this.#known;
    try {
      return await known.indexes;
    } catch (error) {
      if (this.#known === known) this.#known = null;
      throw error;
    }
  }

  async #find(): Promise<AuditIndexes> {
    // An index over an expression has no column; a partial one lacks rows.
    const { rows } = await this.#pool.query<{ name: string; columns: readonly (string | null)[] }>(
      `SELECT i.relname::text AS name, array_agg(a.attname::text ORDER BY k.position) AS columns
       FROM pg_index x
       JOIN pg_class i ON i.oid = x.indexrelid
       JOIN pg_am am ON am.oid = i.relam AND am.amname = 'btree'
       CROSS JOIN LATERAL unnest(x.indkey::int2[]) WITH ORDINALITY AS k (attnum, position)
       LEFT JOIN pg_attribute a ON a.attrelid = x.indrelid AND a.attnum = k.attnum
       WHERE x.indrelid = to_regclass('public.audit_log') AND x.indisvalid AND x.indpred IS NULL
         AND k.position <= x.indnkeyatts
       GROUP BY i.relname ORDER BY i.relname`,
    );
    const byTime = rows
      .flatMap(({ name, columns }) => {
        const length = columns.indexOf('created_at');
        const channelColumns = columns.slice(0, length).filter(isChannelColumn);
        return length !== -1 && channelColumns.length === length ? [{ name, channelColumns }] : [];
      })
      // With more of the channel's columns fewer rows of other channels are read.
      .sort((one, other) => other.channelColumns.length - one.channelColumns.length);
    return {
      byTime: byTime[0] ?? null,
      byFeature: rows.find(({ columns }) => columns[0] === 'feature_id')?.name ?? null,
    };
  }
}

function isChannelColumn(column: string | null): column is AuditIndex['channelColumns'][number] {
  return column === 'project_id' || column === 'environment_id';
}
