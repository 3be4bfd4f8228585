import type { EventMessage } from '@flagcast/client';
import { Alert, Button, Group, Loader, Paper, Select, Stack, Text, TextInput, Title } from '@mantine/core';
import { useEffect, useMemo, useRef, useState } from 'react';
import { selectActivity, selectFeatures, useChannelState, useLiveChannel } from '../api/live.js';
import { useEventCount, useHeld } from '../features/use-held.js';
import { SearchIcon } from '../shell/icons.js';
import { describeError } from '../shell/messages.js';
import { usePlace } from '../shell/place.js';
import { useTexts } from '../texts/texts.js';
import { ActivityChart } from './activity-chart.js';
import { type HistoryItem, HistoryList } from './history-list.js';
import { PauseButton } from './pause-button.js';
import { type HistoryFilter, useHistory } from './use-history.js';

/** Everything that happens in the environment, as it happens, and back to its beginning. */
export default function ActivityPage() {
  const { t } = useTexts();
  const { channel } = useLiveChannel();
  const { project, environment } = usePlace();
  const [entity, setEntity] = useState<string | null>(null);
  const [username, setUsername] = useState('');
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
  const held = useHeld(items, paused, `${project.id} ${environment.key} ${entity ?? ''} ${username}`);
  return (
    <Stack gap="md">
      <Group justify="space-between">
        <Title order={1}>{t.shell.activity}</Title>
        <PauseButton paused={paused} waiting={waiting} onChange={setPaused} />
      </Group>
      <Paper withBorder p="md">
        <ActivityChart items={held} complete={!history.hasMore} />
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
        <TextInput
          size="sm"
          type="search"
          data-search
          aria-label={t.activity.who}
          placeholder={t.activity.who}
          leftSection={<SearchIcon size={16} />}
          value={username}
          onChange={(event) => setUsername(event.currentTarget.value.trim())}
        />
      </Group>
      {history.error !== null && (
        <Alert color="red" role="alert">
          {describeError(history.error, t)}
        </Alert>
      )}
      <Paper withBorder p="md">
        {held.length === 0 && !history.loading && <Text c="dimmed">{t.activity.nothing}</Text>}
        <HistoryList entries={held} withFeature />
        <MoreBelow hasMore={history.hasMore} loading={history.loading} loadMore={history.loadMore} />
      </Paper>
    </Stack>
  );
}

/** The steps of approvals since the page was opened: the audit log does not keep them. */
function useApprovalSteps(entity: string | null, username: string): readonly HistoryItem[] {
  const activity = useChannelState(selectActivity);
  const features = useChannelState(selectFeatures);
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

interface MoreBelowProps {
  readonly hasMore: boolean;
  readonly loading: boolean;
  readonly loadMore: () => void;
}

/** Loads what is older when the end of the list comes near; a button for who does not scroll. */
function MoreBelow({ hasMore, loading, loadMore }: MoreBelowProps) {
  const { t } = useTexts();
  const place = useRef<HTMLDivElement>(null);
  useEffect(() => {
    const element = place.current;
    if (element === null || !hasMore || loading) return;
    const observer = new IntersectionObserver(
      ([entry]) => {
        if (entry?.isIntersecting === true) loadMore();
      },
      { rootMargin: '600px' },
    );
    observer.observe(element);
    return () => observer.disconnect();
  }, [hasMore, loading, loadMore]);
  return (
    <Group ref={place} justify="center" mt="sm" mih={40}>
      {loading ? (
        <Loader size="sm" role="status" aria-label={t.shell.loading} />
      ) : hasMore ? (
        <Button variant="subtle" onClick={loadMore}>
          {t.activity.older}
        </Button>
      ) : (
        <Text size="xs" c="dimmed">
          {t.activity.beginning}
        </Text>
      )}
    </Group>
  );
}
