import { useMemo, useState } from 'react';
import { useActivity, useFeatures } from '@flagcast/client/react';
import { isNotAvailable } from '../api/api.js';
import { createTimelineMerge, type HistoryFilter, type HistoryItem, matchesFilter } from './timeline.js';
import { type History, useHistory } from './use-history.js';

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
  const [merge] = useState(createTimelineMerge);
  const { feature_id, entity, username } = filter;
  const events = useMemo(() => {
    // An event of the audit log has less detail than its entry, which follows soon.
    return activity.filter(
      (event) =>
        (liveOnly || event.source === 'pending') && matchesFilter(event, { feature_id, entity, username }),
    );
  }, [activity, liveOnly, feature_id, entity, username]);
  const items = useMemo(() => merge(entries, events, features), [merge, entries, events, features]);
  return { ...history, error: liveOnly ? null : error, items, liveOnly };
}
