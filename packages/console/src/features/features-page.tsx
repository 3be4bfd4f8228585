import type { ChannelState } from '@flagcast/client';
import { Button, Center, Group, Loader, Stack, Text, Title } from '@mantine/core';
import { lazy, Suspense, useDeferredValue, useMemo, useState } from 'react';
import { selectFeatures, selectPending, useChannelState, useLiveChannel } from '../api/live.js';
import { PauseButton } from '../activity/pause-button.js';
import { LockIcon, PlusIcon } from '../shell/icons.js';
import { usePlace, useRights } from '../shell/place.js';
import { useTexts } from '../texts/texts.js';
import { listFeatures } from './feature-list.js';
import { FeaturesTable } from './features-table.js';
import { FeaturesToolbar } from './features-toolbar.js';
import { useEventCount, useHeld } from './use-held.js';
import { useListView } from './use-list-view.js';

const CreateDialog = lazy(async () => await import('../feature/create-dialog.js'));

const selectLoading = (state: ChannelState): boolean =>
  state.status.state === 'connecting' && state.features.size === 0;

/** All flags of the environment, as they are now. */
export function FeaturesPage() {
  const { t } = useTexts();
  const { channel } = useLiveChannel();
  const { environment } = usePlace();
  const rights = useRights();
  const features = useChannelState(selectFeatures);
  const pending = useChannelState(selectPending);
  const loading = useChannelState(selectLoading);
  const [view, changeView] = useListView();
  const [paused, setPaused] = useState(false);
  const [pointed, setPointed] = useState(false);
  const [creating, setCreating] = useState(false);
  const waiting = useEventCount(channel, paused);

  // Typing and clicking go before sorting five thousand rows again.
  const sorted = useDeferredValue(useMemo(() => ({ features, pending }), [features, pending]));
  const viewKey = JSON.stringify(view);
  const fitting = useMemo(() => {
    const ids = listFeatures(sorted.features, sorted.pending, view);
    return { ids, ...sorted };
  }, [sorted, view]);
  // What is under the pointer stays there until the pointer has left.
  const held = useHeld(fitting, paused || pointed, viewKey);

  return (
    <Stack gap="md" className="fc-features">
      <Group justify="space-between" align="center">
        <div>
          <Title order={1}>{t.shell.features}</Title>
          <Text size="sm" c="dimmed" component="div">
            {t.features.count(held.ids.length, held.features.size)}
            {environment.guarded && (
              <span className="fc-guarded">
                <LockIcon size={13} /> {t.features.guardedHere}
              </span>
            )}
          </Text>
        </div>
        <Group gap="xs">
          <PauseButton paused={paused} waiting={waiting} onChange={setPaused} />
          {rights.manage && (
            <Button leftSection={<PlusIcon size={16} />} onClick={() => setCreating(true)}>
              {t.features.create}
            </Button>
          )}
        </Group>
      </Group>
      <FeaturesToolbar view={view} onChange={changeView} />
      {loading ? (
        <Center mih={240}>
          <Loader role="status" aria-label={t.shell.loading} />
        </Center>
      ) : held.ids.length === 0 ? (
        <Center mih={240}>
          <Stack align="center" gap="xs">
            <Text fw={600}>{features.size === 0 ? t.features.none : t.features.noneFit}</Text>
            {features.size > 0 && (
              <Button variant="light" onClick={() => changeView({ query: '', state: 'all' })}>
                {t.features.showAll}
              </Button>
            )}
          </Stack>
        </Center>
      ) : (
        <FeaturesTable
          ids={held.ids}
          features={paused ? held.features : features}
          pending={paused ? held.pending : pending}
          before={held.features}
          view={view}
          onSort={changeView}
          onPointed={setPointed}
        />
      )}
      <Suspense>{creating && <CreateDialog onClose={() => setCreating(false)} />}</Suspense>
    </Stack>
  );
}
