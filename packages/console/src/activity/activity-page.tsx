import '../shell/later-styles.js';
import { Paper, Skeleton, Stack } from '@mantine/core';
import { useConnectionStatus } from '@flagcast/client/react';
import { lazy, Suspense, useCallback, useState } from 'react';
import { ApiError } from '../api/api.js';
import { useLiveChannel } from '../api/live.js';
import { useEventCount, useFrozen } from '../features/use-frozen.js';
import { FailureAlert } from '../shell/failure-alert.js';
import { ErrorBoundary } from '../shell/error-boundary.js';
import { PageHead } from '../shell/page-title.js';
import { lazyRoutes } from '../shell/lazy-routes.js';
import { useI18n } from '../i18n/i18n.js';
import { ActivityFilters } from './activity-filters.js';
import { ExportMenu } from './export-menu.js';
import { HistoryList } from './history-list.js';
import { PauseButton } from './pause-button.js';
import { matchesFilter } from './timeline.js';
import { useActivityFilter } from './use-activity-filter.js';
import { type Histogram, useHistogram } from './use-histogram.js';
import { useTimeline } from './use-history.js';

const ActivityChart = lazy(lazyRoutes.activityChart);
/** Label and plot, in pixels, so that the page does not move when the chart appears. */
const chartHeight = 134;

/** The history of the environment or of all projects, live and back to the first event. */
export default function ActivityPage() {
  const { t } = useI18n();
  const { channel } = useLiveChannel();
  const { parameters, filter, change } = useActivityFilter();
  const [paused, setPaused] = useState(false);
  const matches = useCallback(
    (event: Parameters<typeof matchesFilter>[0]) => matchesFilter(event, filter),
    [filter],
  );
  const newEvents = useEventCount(channel, paused, matches);
  const history = useTimeline(filter, paused);
  const { items } = history;
  // The banner of the page says so, and has the button to try again.
  const isDisconnected =
    useConnectionStatus().state !== 'live' && history.error instanceof ApiError && history.error.status === 0;
  const histogram = useHistogram(filter);
  const shownHistogram = useFrozen(histogram, paused, filter);
  const people = [...new Set(items.map(({ username }) => username ?? ''))].filter(Boolean).sort();
  const isFiltered = Object.values(parameters).some((value) => value !== undefined);
  return (
    <Stack gap="md">
      <PageHead
        title={t.shell.activity}
        subtitle={
          history.liveOnly
            ? t.liveOnly.sinceOpened
            : filter.projects === 'all'
              ? t.activity.allProjectsSubtitle
              : t.activity.subtitle
        }
      >
        {!history.liveOnly && <ExportMenu filter={filter} />}
        <PauseButton paused={paused} newEvents={newEvents} onChange={setPaused} />
      </PageHead>
      {shownHistogram !== null && history.error === null && (
        <Chart
          histogram={shownHistogram}
          onSelect={(sinceMs, untilMs) =>
            change({
              since: new Date(sinceMs).toISOString(),
              until: new Date(untilMs).toISOString(),
              last: undefined,
            })
          }
        />
      )}
      <ActivityFilters parameters={parameters} change={change} people={people} />
      {history.error !== null && !isDisconnected && (
        <FailureAlert error={history.error} onRetry={history.retry} />
      )}
      {(items.length > 0 || history.error === null) && (
        <Paper withBorder p="md">
          <HistoryList
            timeline={history}
            empty={isFiltered ? t.activity.noMatch : t.activity.empty}
            about={history.liveOnly ? 'id' : 'name'}
          />
        </Paper>
      )}
    </Stack>
  );
}

interface ChartProps {
  /** Undefined while it loads. */
  readonly histogram: Histogram | undefined;
  readonly onSelect: (sinceMs: number, untilMs: number) => void;
}

/** The chart, or its placeholder of the same size. */
function Chart({ histogram, onSelect }: ChartProps) {
  const placeholder = <Skeleton height={chartHeight} />;
  return (
    <Paper withBorder p="md">
      <ErrorBoundary resetKey="chart" fallback={null}>
        <Suspense fallback={placeholder}>
          {histogram === undefined ? (
            placeholder
          ) : (
            <ActivityChart histogram={histogram} onSelect={onSelect} />
          )}
        </Suspense>
      </ErrorBoundary>
    </Paper>
  );
}
