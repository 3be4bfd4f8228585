import { useMemo, useState } from 'react';
import { useActivity, useFeatures } from '@flagcast/client/react';
import { isNotAvailable } from '../api/api.js';
import { useFrozen } from '../features/use-frozen.js';
import { createTimelineMerge, type HistoryFilter, type HistoryItem, matchesFilter } from './timeline.js';
import { type History, useHistory } from './use-history.js';

interface Timeline extends Omit<History, 'entries'> {
  /** Newest first. */
  readonly items: readonly HistoryItem[];
  /** The database has no history: the items are the events since the page was opened. */
  readonly liveOnly: boolean;
}

/**
 * The history together with live events that it does not contain yet. Each entry appears once. While `paused` only older
 * entries are added. `filter` must stay the same object.
 */
export function useTimeline(filter: HistoryFilter, paused = false): Timeline {
  const { entries, error, ...history } = useHistory(filter, paused);
  const liveOnly = isNotAvailable(error);
  const activity = useFrozen(useActivity(), paused, filter);
  const features = useFeatures();
  const [merge] = useState(createTimelineMerge);
  const events = useMemo(() => {
    // An event of the audit log has less detail than its entry, which follows soon.
    return activity.filter(
      (event) => (liveOnly || event.source === 'pending') && matchesFilter(event, filter),
    );
  }, [activity, liveOnly, filter]);
  const items = useMemo(() => merge(entries, events, features), [merge, entries, events, features]);
  return { ...history, error: liveOnly ? null : error, items, liveOnly };
}
