import type { EventMessage } from '@flagcast/client';
import { Alert, Autocomplete, Group, Paper, Select, Skeleton, Stack, Text, Title } from '@mantine/core';
import { useDebouncedValue } from '@mantine/hooks';
import { lazy, Suspense, useMemo, useState } from 'react';
import { useActivity, useFeatures } from '@flagcast/client/react';
import { useLiveChannel } from '../api/live.js';
import { useEventCount, useHeld } from '../features/use-held.js';
import { FaultBoundary } from '../shell/fault-boundary.js';
import { SearchIcon } from '../shell/icons.js';
import { describeError } from '../shell/messages.js';
import { PageTitle } from '../shell/page-title.js';
import { usePlace } from '../shell/place.js';
import { useTexts } from '../texts/texts.js';
import { type HistoryItem, HistoryList } from './history-list.js';
import { MoreBelow } from './more-below.js';
import { PauseButton } from './pause-button.js';
import { useRecentEvents } from './recent-events.js';
import { type HistoryFilter, useHistory } from './use-history.js';

const ActivityChart = lazy(async () => await import('./activity-chart.js'));
/** Title and picture, in pixels: nothing jumps when it comes. */
const chartHeight = 134;

/** Who types a name is not asked about each of its letters. */
const typingPauseMs = 300;

/** Everything that happens in the environment, as it happens, and back to its beginning. */
export default function ActivityPage() {
  const { t } = useTexts();
  const { channel } = useLiveChannel();
  const { project, environment } = usePlace();
  const [entity, setEntity] = useState<string | null>(null);
  const [typed, setTyped] = useState('');
  const [username] = useDebouncedValue(typed.trim(), typingPauseMs);
  const [paused, setPaused] = useState(false);
  const waiting = useEventCount(channel, paused);
  const filter: HistoryFilter = {
    ...(entity === null ? {} : { entity }),
    ...(username === '' ? {} : { username }),
  };
  const history = useHistory(filter);
  const approvals = useApprovalSteps(entity, username);
  const items = useMemo(() => {
    const all: HistoryItem[] = [...approvals, ...history.entries];
    return all.sort((one, other) => (one.created_at < other.created_at ? 1 : -1));
  }, [approvals, history.entries]);
  const times = useRecentEvents();
  const shownTimes = useHeld(times, paused && times !== undefined, channel.env);
  const people = usePeople(items);
  const held = useHeld(items, paused, `${project.id} ${environment.key} ${entity ?? ''} ${username}`);
  return (
    <Stack gap="md">
      <PageTitle text={t.shell.activity} />
      <div className="fc-title-row">
        <div>
          <Title order={1}>{t.shell.activity}</Title>
          <div className="fc-subtitle">{t.activity.newest}</div>
        </div>
        <PauseButton paused={paused} waiting={waiting} onChange={setPaused} />
      </div>
      <Paper withBorder p="md">
        <FaultBoundary place="chart" fallback={null}>
          <Suspense fallback={<Skeleton height={chartHeight} />}>
            {shownTimes === undefined ? (
              <Skeleton height={chartHeight} />
            ) : (
              <ActivityChart times={shownTimes} />
            )}
          </Suspense>
        </FaultBoundary>
      </Paper>
      <Group gap="sm" className="fc-toolbar">
        <Select
          size="sm"
          aria-label={t.activity.what}
          placeholder={t.activity.everything}
          clearable
          clearButtonProps={{ 'aria-label': t.activity.everything }}
          value={entity}
          onChange={setEntity}
          data={[
            { value: 'feature', label: t.entities.feature },
            { value: 'rule', label: t.entities.rule },
            { value: 'feature_schedule', label: t.entities.feature_schedule },
          ]}
        />
        <Autocomplete
          size="sm"
          data-search
          aria-label={t.activity.who}
          placeholder={t.activity.who}
          leftSection={<SearchIcon size={16} />}
          data={people}
          clearable
          clearButtonProps={{ 'aria-label': t.activity.clearWho }}
          value={typed}
          onChange={setTyped}
        />
      </Group>
      {history.error !== null && (
        <Alert color="red" role="alert">
          {describeError(history.error, t)}
        </Alert>
      )}
      <Paper withBorder p="md">
        {held.length === 0 && !history.loading && (
          <Text c="dimmed" ta="center" mt="sm">
            {entity === null && username === '' ? t.activity.nothing : t.activity.nothingFits}
          </Text>
        )}
        <HistoryList entries={held} withFeature />
        <MoreBelow hasMore={history.hasMore} loading={history.loading} loadMore={history.loadMore} />
      </Paper>
    </Stack>
  );
}

/** Who has been seen at work, to choose from. */
function usePeople(items: readonly HistoryItem[]): string[] {
  const [people, setPeople] = useState<readonly string[]>([]);
  const known = new Set(people);
  const fresh = new Set(
    items.map(({ username }) => username ?? '').filter((name) => name !== '' && !known.has(name)),
  );
  if (fresh.size > 0) setPeople([...people, ...fresh].sort());
  return [...people];
}

/** The steps of approvals since the page was opened: the audit log does not keep them. */
function useApprovalSteps(entity: string | null, username: string): readonly HistoryItem[] {
  const activity = useActivity();
  const features = useFeatures();
  return useMemo(() => {
    const fits = (event: EventMessage): boolean =>
      event.source === 'pending' &&
      (entity === null || event.entity === entity) &&
      (username === '' || event.actor === username);
    return activity.filter(fits).map((event) => ({
      id: event.id,
      created_at: event.timestamp,
      action: event.action,
      entity: event.entity,
      feature_id: event.feature_id,
      feature_name: features.get(event.feature_id ?? '')?.name ?? null,
      username: event.actor,
      diff: [],
    }));
  }, [activity, features, entity, username]);
}
