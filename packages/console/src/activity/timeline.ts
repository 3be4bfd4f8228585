import type { EventMessage, FeatureState } from '@flagcast/client';
import type { AuditEntry } from '../api/types.js';
import { sortTime } from './history-pages.js';

/** Parameters of `GET /api/audit`. */
export interface HistoryFilter {
  readonly projects?: 'all' | undefined;
  readonly feature_id?: string | undefined;
  readonly entity?: string | undefined;
  readonly action?: string | undefined;
  readonly username?: string | undefined;
  /** RFC 3339 in UTC. */
  readonly since?: string | undefined;
  readonly until?: string | undefined;
}

/** The query string of a filter in an environment. */
export function searchOf(projectId: string, env: string, filter: HistoryFilter): string {
  const place = filter.projects === 'all' ? {} : { project_id: projectId, env };
  const entries = Object.entries({ ...place, ...filter });
  return new URLSearchParams(
    entries.filter((entry): entry is [string, string] => entry[1] !== undefined),
  ).toString();
}

/** What the page shows of an entry; events bring no more. */
export type HistoryItem = Omit<
  AuditEntry,
  | 'audit_id'
  | 'pending_change_id'
  | 'request_id'
  | 'old_value'
  | 'new_value'
  | 'project'
  | 'environment_id'
  | 'feature_key'
>;

type Features = ReadonlyMap<string, FeatureState>;

/** Whether the filter of the history lets the event through. */
export function matchesFilter(
  event: EventMessage,
  { feature_id: featureId, entity, action, username, since, until }: HistoryFilter,
): boolean {
  return (
    (featureId === undefined || event.feature_id === featureId) &&
    (entity === undefined || event.entity === entity) &&
    (action === undefined || event.action === action) &&
    (username === undefined || event.actor === username) &&
    (since === undefined || event.timestamp >= since) &&
    (until === undefined || event.timestamp < until)
  );
}

/**
 * Returns a function that adds to the entries the events that they do not contain yet. All lists are newest first. It
 * makes the same item for the same event, so that React renders it once.
 */
export function createTimelineMerge(): (
  entries: readonly AuditEntry[],
  events: readonly EventMessage[],
  features: Features,
) => HistoryItem[] {
  const itemOf = createItemFactory();
  return (entries, events, features) => {
    // The oldest event with an id is the entry's: a later one can be a request that was reopened.
    const byId = new Map(events.map((event) => [entryId(event), event]));
    // The ids of a host's view differ from those of the history.
    const byTime = new Map(events.map((event) => [timeKey(event, event.timestamp), event]));
    const matched = new Set<EventMessage>();
    const ids = new Set<string>();
    const recorded = entries.map((entry) => {
      const event = byId.get(entry.id) ?? byTime.get(timeKey(entry, entry.created_at));
      if (event !== undefined) matched.add(event);
      ids.add(entry.id);
      // The event has a time, even if the database stores none for this step.
      return entry.created_at === null && event !== undefined
        ? { ...entry, created_at: event.timestamp }
        : entry;
    });
    const live: HistoryItem[] = [];
    for (const event of events.toReversed()) {
      if (matched.has(event)) continue;
      const id = ids.has(entryId(event)) ? `${entryId(event)}:${event.id}` : entryId(event);
      ids.add(id);
      live.unshift(itemOf(event, id, features.get(event.feature_id ?? '')?.name ?? null));
    }
    return [...live, ...recorded].sort(newestFirst);
  };
}

function newestFirst(one: HistoryItem, other: HistoryItem): number {
  const [time, otherTime] = [sortTime(one), sortTime(other)];
  return time === otherTime ? 0 : time < otherTime ? 1 : -1;
}

/** The id of the event's entry in `GET /api/audit`. */
function entryId({ source, row_id: rowId, entity, entity_id: entityId, action }: EventMessage): string {
  return [source, rowId, entity, entityId, action].join(':');
}

function timeKey(
  { action, entity, entity_id: entityId }: Pick<HistoryItem, 'action' | 'entity' | 'entity_id'>,
  at: string | null,
): string {
  return `${at ?? ''} ${action} ${entity} ${entityId}`;
}

function createItemFactory(): (event: EventMessage, id: string, featureName: string | null) => HistoryItem {
  const items = new WeakMap<EventMessage, HistoryItem>();
  return (event, id, featureName) => {
    const known = items.get(event);
    if (known?.feature_name === featureName && known.id === id) return known;
    const item: HistoryItem = {
      id,
      source: event.source === 'pending' ? 'pending' : 'audit',
      created_at: event.timestamp,
      requested_at: null,
      project_id: event.project_id,
      environment: event.environment,
      action: event.action,
      entity: event.entity,
      entity_id: event.entity_id,
      feature_id: event.feature_id,
      feature_name: featureName,
      feature_deleted: false,
      username: event.actor,
      reason: null,
      truncated: false,
      diff: [],
    };
    items.set(event, item);
    return item;
  };
}
