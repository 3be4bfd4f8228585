import type { EventMessage } from '@flagcast/client';
import { useMemo, useState } from 'react';
import { useActivity, useFeatures } from '@flagcast/client/react';
import { isNotAvailable } from '../api/api.js';
import type { AuditEntry } from '../api/types.js';
import { type History, type HistoryFilter, sortTime, useHistory } from './use-history.js';

/** What the page shows of an entry; events bring no more. */
export type HistoryItem = Omit<
  AuditEntry,
  'feature_key' | 'audit_id' | 'pending_change_id' | 'request_id' | 'old_value' | 'new_value'
>;

interface Timeline extends Omit<History, 'entries'> {
  /** Newest first. */
  readonly items: readonly HistoryItem[];
  /** The database has no history: the items are the events since the page was opened. */
  readonly liveOnly: boolean;
}

/** The history together with live events that it does not contain yet. Each entry appears once. */
export function useTimeline(filter: HistoryFilter): Timeline {
  const { entries, error, ...history } = useHistory(filter);
  const liveOnly = isNotAvailable(error);
  const activity = useActivity();
  const features = useFeatures();
  const [itemOf] = useState(createItemFactory);
  const { feature_id: featureId, entity, username } = filter;
  const items = useMemo(() => {
    const matches = (event: EventMessage): boolean =>
      // An event of the audit log has less detail than its entry, which follows soon.
      (liveOnly || event.source === 'pending') &&
      (featureId === undefined || event.feature_id === featureId) &&
      (entity === undefined || event.entity === entity) &&
      (username === undefined || event.actor === username);
    const matching = activity.filter(matches);
    // The oldest event with an id is the entry's: a later one can be a request that was reopened.
    const byId = new Map(matching.map((event) => [entryId(event), event]));
    // The ids of a host's view differ from those of the history.
    const byTime = new Map(matching.map((event) => [timeKey(event, event.timestamp), event]));
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
    for (const event of matching.toReversed()) {
      if (matched.has(event)) continue;
      const id = ids.has(entryId(event)) ? `${entryId(event)}:${event.id}` : entryId(event);
      ids.add(id);
      live.unshift(itemOf(event, id, features.get(event.feature_id ?? '')?.name ?? null));
    }
    const all = [...live, ...recorded];
    return all.sort((one, other) => {
      const [time, otherTime] = [sortTime(one), sortTime(other)];
      return time === otherTime ? 0 : time < otherTime ? 1 : -1;
    });
  }, [activity, features, entries, liveOnly, itemOf, featureId, entity, username]);
  return { ...history, error: liveOnly ? null : error, items, liveOnly };
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

/** Returns the same item for the same event, so that React renders it once. */
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
      action: event.action,
      entity: event.entity,
      entity_id: event.entity_id,
      feature_id: event.feature_id,
      feature_name: featureName,
      username: event.actor,
      reason: null,
      truncated: false,
      diff: [],
    };
    items.set(event, item);
    return item;
  };
}
