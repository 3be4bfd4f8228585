import { Autocomplete, Group, Paper, Select, Skeleton, Stack, Text, Title } from '@mantine/core';
import { useDebouncedValue } from '@mantine/hooks';
import { lazy, Suspense, useState } from 'react';
import { useLiveChannel } from '../api/live.js';
import { useEventCount, useFrozen } from '../features/use-frozen.js';
import { FailureAlert } from '../shell/failure-alert.js';
import { ErrorBoundary } from '../shell/error-boundary.js';
import { SearchIcon } from '../shell/icons.js';
import { PageTitle } from '../shell/page-title.js';
import { lazyRoutes } from '../shell/lazy-routes.js';
import { useScope } from '../shell/scope.js';
import { useI18n } from '../i18n/i18n.js';
import { HistoryList } from './history-list.js';
import { LoadOlder } from './load-older.js';
import { PauseButton } from './pause-button.js';
import { useRecentEvents } from './recent-events.js';
import type { HistoryItem } from './timeline.js';
import { useTimeline } from './use-timeline.js';
import { visible } from '../i18n/visible.js';

const ActivityChart = lazy(lazyRoutes.activityChart);
/** Label and plot, in pixels, so that the page does not move when the chart appears. */
const chartHeight = 134;

/** Delay after the last key before the filter applies, in milliseconds. */
const debounceMs = 300;

/** All events of the environment, live and back to the first one. */
export default function ActivityPage() {
  const { t } = useI18n();
  const { channel } = useLiveChannel();
  const { project, environment } = useScope();
  const [entity, setEntity] = useState<string | null>(null);
  const [typed, setTyped] = useState('');
  const [username] = useDebouncedValue(typed.trim(), debounceMs);
  const [paused, setPaused] = useState(false);
  const newEvents = useEventCount(channel, paused);
  const { items, ...history } = useTimeline({ entity: entity ?? undefined, username: username || undefined });
  const times = useRecentEvents();
  const shownTimes = useFrozen(times, paused && Array.isArray(times), channel.env);
  const people = usePeople(items);
  const shown = useFrozen(items, paused, `${project.id} ${environment.key} ${entity ?? ''} ${username}`);
  return (
    <Stack gap="md">
      <PageTitle text={t.shell.activity} />
      <div className="fc-title-row">
        <div>
          <Title order={1}>{t.shell.activity}</Title>
          <div className="fc-subtitle">{history.liveOnly ? t.liveOnly.sinceOpened : t.activity.subtitle}</div>
        </div>
        <PauseButton paused={paused} newEvents={newEvents} onChange={setPaused} />
      </div>
      {shownTimes !== null && <Chart times={shownTimes} />}
      <Filters entity={entity} onEntity={setEntity} person={typed} onPerson={setTyped} people={people} />
      {history.error !== null && <FailureAlert error={history.error} onRetry={history.retry} />}
      {(shown.length > 0 || history.error === null) && (
        <Paper withBorder p="md">
          {shown.length === 0 && !history.loading && history.error === null && (
            <Text c="dimmed" ta="center" mt="sm">
              {entity === null && username === '' ? t.activity.empty : t.activity.noMatch}
            </Text>
          )}
          <HistoryList entries={shown} about={history.liveOnly ? 'id' : 'name'} />
          {!history.liveOnly && (
            <LoadOlder
              hasMore={history.hasMore}
              searchedUntil={history.searchedUntil}
              loading={history.loading}
              failed={history.error !== null}
              loadMore={history.loadMore}
            />
          )}
        </Paper>
      )}
    </Stack>
  );
}

/** The chart of the last half hour, or its placeholder of the same size. `times`: undefined while they load. */
function Chart({ times }: { readonly times: readonly number[] | undefined }) {
  const placeholder = <Skeleton height={chartHeight} />;
  return (
    <Paper withBorder p="md">
      <ErrorBoundary resetKey="chart" fallback={null}>
        <Suspense fallback={placeholder}>
          {times === undefined ? placeholder : <ActivityChart times={times} />}
        </Suspense>
      </ErrorBoundary>
    </Paper>
  );
}

interface FiltersProps {
  readonly entity: string | null;
  readonly onEntity: (entity: string | null) => void;
  readonly person: string;
  readonly onPerson: (person: string) => void;
  /** Suggestions. */
  readonly people: string[];
}

function Filters({ entity, onEntity, person, onPerson, people }: FiltersProps) {
  const { t } = useI18n();
  return (
    <Group gap="sm" className="fc-toolbar">
      <Select
        size="sm"
        aria-label={t.activity.typeFilter}
        placeholder={t.activity.allTypes}
        clearable
        clearButtonProps={{ 'aria-label': t.activity.allTypes }}
        value={entity}
        onChange={onEntity}
        data={(['feature', 'rule', 'feature_schedule', 'environment'] as const).map((value) => ({
          value,
          label: t.entities[value],
        }))}
      />
      <Autocomplete
        size="sm"
        data-search
        aria-label={t.activity.personFilter}
        placeholder={t.activity.personFilter}
        leftSection={<SearchIcon size={16} />}
        data={people}
        renderOption={({ option }) => visible(option.value)}
        clearable
        clearButtonProps={{ 'aria-label': t.activity.clearPersonFilter }}
        value={person}
        onChange={onPerson}
      />
    </Group>
  );
}

/** The authors seen so far, as suggestions. */
function usePeople(items: readonly HistoryItem[]): string[] {
  const [people, setPeople] = useState<readonly string[]>([]);
  const known = new Set(people);
  const fresh = new Set(
    items.map(({ username }) => username ?? '').filter((name) => name !== '' && !known.has(name)),
  );
  if (fresh.size > 0) setPeople([...people, ...fresh].sort());
  return [...people];
}
