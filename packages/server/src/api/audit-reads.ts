import type { Queries } from '../postgres/session-pool.js';
import type { Channel } from '../auth/table-authorization.js';
import { JsonText } from '../json-text.js';
import type { AuditIndexSource } from './audit-index.js';
import { type AuditPlace, isBelow, parseAuditPlace } from './audit-place.js';
import {
  type AuditScan,
  countFeatureRows,
  maxScannedRows,
  scanByTime,
  scanFeature,
  scanNewest,
  scanOneTime,
} from './audit-scan.js';
import { type AuditRow, auditStatement } from './audit-statement.js';
import type { AuditPage as Response } from './schemas.js';

/** Which entries of a channel's history are wanted. */
export interface AuditQuery {
  /** Only what is older than this; null for the newest. */
  readonly before: AuditPlace | null;
  /** How many at the most; one step of a request counts once, however many entities it touches. */
  readonly limit: number;
  readonly entity: string | null;
  readonly action: string | null;
  readonly username: string | null;
  readonly featureId: string | null;
  /** From this time on, RFC 3339. */
  readonly since: string | null;
  /** Before this time, RFC 3339. */
  readonly until: string | null;
}

/** One entry of the history: an entry of the audit log, or one entity's part in a step of a request. */
type AuditEntry = Omit<Response['entries'][number], 'old_value' | 'new_value' | 'diff'> & {
  readonly old_value: JsonText | null;
  readonly new_value: JsonText | null;
  readonly diff: JsonText;
};

export type AuditPage = Omit<Response, 'entries'> & { readonly entries: AuditEntry[] };

/** Pages of a channel's history, newest first: the audit log, and the steps of the requests for changes. */
export class AuditSearch {
  readonly #pool: Queries;
  readonly #indexes: AuditIndexSource;

  constructor(pool: Queries, indexes: AuditIndexSource) {
    this.#pool = pool;
    this.#indexes = indexes;
  }

  /**
   * A page. Pages follow each other by time and id, so that what is written meanwhile shifts none of them. A page looks
   * at a bounded number of rows, so that it can be empty, and go on.
   */
  async read(channel: Channel, query: AuditQuery): Promise<AuditPage> {
    const { byTime, byFeature } = await this.#indexes.get();
    if (byFeature !== null && (await this.#hasFewRows(query.featureId))) {
      return { ...(await this.#scan(scanFeature, channel, query)), index: byFeature };
    }
    if (byTime === null) {
      // What is older than these rows is not to be had.
      const page = await this.#scan(scanNewest, channel, query);
      return { ...page, next: page.searched_until === null ? page.next : null, index: null };
    }
    const page = await this.#scan(scanByTime(byTime), channel, query);
    if (page.next !== `${query.before?.at}_3`) return { ...page, index: byTime.name };
    return { ...(await this.#scan(scanOneTime(byTime), channel, query)), index: byTime.name };
  }

  async #hasFewRows(featureId: string | null): Promise<boolean> {
    if (featureId === null) return false;
    const { rows } = await this.#pool.query<{ rows: number }>(countFeatureRows, [featureId]);
    return (rows[0]?.rows ?? 0) <= maxScannedRows;
  }

  async #scan(scan: AuditScan, channel: Channel, query: AuditQuery): Promise<Omit<AuditPage, 'index'>> {
    const { before, until } = query;
    // After the last entry of a moment everything is older than it.
    const isPastMoment = before?.auditId === '0';
    const { rows } = await this.#pool.query<AuditRow>(auditStatement(scan), [
      channel.projectId,
      channel.environmentId,
      query.limit + 1,
      before?.at ?? null,
      before?.rank ?? null,
      before?.auditId ?? null,
      before?.changeId ?? null,
      query.entity,
      query.action,
      query.username,
      query.featureId,
      query.since,
      isPastMoment && (until === null || until > before.at) ? before.at : until,
    ]);
    const floor = lowest(rows[0]);
    const moments = new Map<string, AuditEntry[]>();
    let isCut = false;
    for (const row of rows) {
      const place = row.place === null ? null : parseAuditPlace(row.place);
      if (row.place === null || place === null || (floor !== null && isBelow(place, floor.place))) continue;
      isCut = moments.size === query.limit || (row.is_beyond && moments.size > 0 && !moments.has(row.place));
      if (isCut && !moments.has(row.place)) break;
      moments.set(row.place, [...(moments.get(row.place) ?? []), ...toEntries(row)]);
    }
    const entries = [...moments.values()].flat();
    if (isCut) return { entries, next: [...moments.keys()].at(-1) ?? null, searched_until: null };
    return { entries, next: floor?.text ?? null, searched_until: floor?.place.at ?? null };
  }
}

/** Down to where the page is complete: where the first of its two lists ends; null where both were read to their ends. */
function lowest(row: AuditRow | undefined): { text: string; place: AuditPlace } | null {
  const [first, second] = [row?.audit_floor, row?.step_floor].flatMap((text) => {
    const place = typeof text === 'string' ? parseAuditPlace(text) : null;
    return typeof text === 'string' && place !== null ? [{ text, place }] : [];
  });
  if (first === undefined || second === undefined) return first ?? null;
  return isBelow(first.place, second.place) ? second : first;
}

function toEntries(row: AuditRow): AuditEntry[] {
  const { entity, entity_id, audit_id, pending_change_id, action } = row;
  if (entity === null || entity_id === null) return [];
  const source = pending_change_id === null ? 'audit' : 'pending';
  return [
    {
      id: [source, audit_id ?? pending_change_id, entity, entity_id, action].join(':'),
      source,
      audit_id,
      pending_change_id,
      created_at: row.created_at,
      requested_at: row.requested_at,
      action,
      entity,
      entity_id,
      feature_id: row.feature_id,
      feature_key: row.feature_key,
      feature_name: row.feature_name,
      username: row.username,
      reason: row.reason,
      request_id: row.request_id,
      old_value: row.old_value === null ? null : new JsonText(row.old_value),
      new_value: row.new_value === null ? null : new JsonText(row.new_value),
      truncated: row.truncated,
      diff: new JsonText(row.diff),
    },
  ];
}
