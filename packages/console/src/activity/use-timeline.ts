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
  /** The database has no history: what is here has come while the page was open. */
  readonly liveOnly: boolean;
}

/** The history, and at its new end what has just come: each once, under the time that is known for it. */
export function useTimeline(filter: HistoryFilter): Timeline {
  const { entries, error, ...history } = useHistory(filter);
  const liveOnly = isNotAvailable(error);
  const activity = useActivity();
  const features = useFeatures();
  const [itemOf] = useState(createItems);
  const { feature_id: featureId, entity, username } = filter;
  const items = useMemo(() => {
    const fits = (event: EventMessage): boolean =>
      // Of the audit log an event tells less than the entry, which comes as well.
      (liveOnly || event.source === 'pending') &&
      (featureId === undefined || event.feature_id === featureId) &&
      (entity === undefined || event.entity === entity) &&
      (username === undefined || event.actor === username);
    const fitting = activity.filter(fits);
    // The oldest event of an entry wins: a later one with the same id is e.g. a request that was opened again.
    const byId = new Map(fitting.map((event) => [entryId(event), event]));
    // A view of the host's gives its rows other ids than the history has.
    const byPlace = new Map(fitting.map((event) => [placeKey(event, event.timestamp), event]));
    const matched = new Set<EventMessage>();
    const ids = new Set<string>();
    const recorded = entries.map((entry) => {
      const event = byId.get(entry.id) ?? byPlace.get(placeKey(entry, entry.created_at));
      if (event !== undefined) matched.add(event);
      ids.add(entry.id);
      // What happened just now has a time, also where the database keeps none for it.
      return entry.created_at === null && event !== undefined
        ? { ...entry, created_at: event.timestamp }
        : entry;
    });
    const live: HistoryItem[] = [];
    for (const event of fitting.toReversed()) {
      if (matched.has(event)) continue;
      const id = ids.has(entryId(event)) ? `${entryId(event)}:${event.id}` : entryId(event);
      ids.add(id);
      live.unshift(itemOf(event, id, features.get(event.feature_id ?? '')?.name ?? null));
    }
    const all = [...live, ...recorded];
    return all.sort((one, other) => {
      const [place, otherPlace] = [sortTime(one), sortTime(other)];
      return place === otherPlace ? 0 : place < otherPlace ? 1 : -1;
    });
  }, [activity, features, entries, liveOnly, itemOf, featureId, entity, username]);
  return { ...history, error: liveOnly ? null : error, items, liveOnly };
}

/** The id that `GET /api/audit` gives to the entry of this event. */
function entryId({ source, row_id: rowId, entity, entity_id: entityId, action }: EventMessage): string {
  return [source, rowId, entity, entityId, action].join(':');
}

function placeKey(
  { action, entity, entity_id: entityId }: Pick<HistoryItem, 'action' | 'entity' | 'entity_id'>,
  at: string | null,
): string {
  return `${at ?? ''} ${action} ${entity} ${entityId}`;
}

/** An event's line; the same object every time, so that it is drawn once. */
function createItems(): (event: EventMessage, id: string, featureName: string | null) => HistoryItem {
  const made = new WeakMap<EventMessage, HistoryItem>();
  return (event, id, featureName) => {
    const known = made.get(event);
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
    made.set(event, item);
    return item;
  };
}
