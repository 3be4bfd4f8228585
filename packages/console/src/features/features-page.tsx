import type { ChannelState } from '@flagcast/client';
import { Button, Group, Stack, Title } from '@mantine/core';
import { lazy, Suspense, useDeferredValue, useMemo, useState } from 'react';
import { useChannelState, useFeatures, usePendingChanges } from '@flagcast/client/react';
import { useLiveChannel, useLiveOnly } from '../api/live.js';
import { PauseButton } from '../activity/pause-button.js';
import { LockIcon, PlusIcon } from '../shell/icons.js';
import { LiveOnly } from '../shell/live-only.js';
import { PageTitle } from '../shell/page-title.js';
import { lazyRoutes } from '../shell/lazy-routes.js';
import { useScope, useRights } from '../shell/scope.js';
import { useI18n } from '../i18n/i18n.js';
import { NoFlags, NoMatch } from './empty-list.js';
import { listFeatures } from './feature-list.js';
import { FeaturesTable } from './features-table.js';
import { FeaturesToolbar } from './features-toolbar.js';
import { LoadingRows } from './loading-rows.js';
import { useEventCount, useFrozen } from './use-frozen.js';
import { useListView } from './use-list-view.js';

const CreateDialog = lazy(lazyRoutes.createDialog);

const selectLoading = (state: ChannelState): boolean =>
  state.status.state === 'connecting' && state.features.size === 0;

/** The flags of the environment. */
export function FeaturesPage() {
  const { t } = useI18n();
  const { channel } = useLiveChannel();
  const { environment } = useScope();
  const rights = useRights();
  const liveOnly = useLiveOnly();
  const features = useFeatures();
  const pending = usePendingChanges();
  const loading = useChannelState(selectLoading);
  const [view, changeView] = useListView();
  const [paused, setPaused] = useState(false);
  const [hovered, setHovered] = useState(false);
  const [creating, setCreating] = useState(false);
  const newEvents = useEventCount(channel, paused);

  // Typing and clicking have priority over sorting thousands of rows.
  const sorted = useDeferredValue(useMemo(() => ({ features, pending }), [features, pending]));
  const sortedView = useDeferredValue(view);
  const sortedIds = useMemo(() => {
    const ids = listFeatures(sorted.features, sorted.pending, sortedView);
    return { ids, ...sorted };
  }, [sorted, sortedView]);
  // The order does not change under the pointer.
  const shown = useFrozen(sortedIds, paused || hovered, sortedView);
  const isEmpty = !loading && !liveOnly && features.size === 0;
  const createButton = rights.manage && (
    <Button className="fc-compact" leftSection={<PlusIcon size={16} />} onClick={() => setCreating(true)}>
      {t.features.create}
    </Button>
  );

  return (
    <Stack gap="md" className="fc-features">
      <PageTitle text={t.shell.features} />
      <div className="fc-title-row">
        <div>
          <Title order={1}>{t.shell.features}</Title>
          <div className="fc-subtitle">
            {!loading && !liveOnly && <span>{t.features.count(shown.ids.length, shown.features.size)}</span>}
            {environment.guarded && (
              <span className="fc-guarded">
                <LockIcon size={14} /> {t.features.guardedHere}
              </span>
            )}
            {!paused && shown !== sortedIds && !sameOrder(shown.ids, sortedIds.ids) && (
              <span>{t.features.orderFrozen}</span>
            )}
          </div>
        </div>
        <Group gap="xs">
          <PauseButton paused={paused} newEvents={newEvents} onChange={setPaused} />
          {!isEmpty && createButton}
        </Group>
      </div>
      {!liveOnly && <FeaturesToolbar view={view} onChange={changeView} />}
      {loading ? (
        <LoadingRows />
      ) : shown.ids.length > 0 ? (
        <FeaturesTable
          ids={shown.ids}
          features={paused ? shown.features : features}
          pending={paused ? shown.pending : pending}
          sortedFeatures={shown.features}
          view={view}
          onSort={changeView}
          onHover={setHovered}
        />
      ) : liveOnly ? (
        <LiveOnly />
      ) : isEmpty ? (
        <NoFlags>{createButton}</NoFlags>
      ) : (
        <NoMatch
          pendingOnly={view.state === 'pending'}
          onShowAll={() => changeView({ query: '', state: 'all' })}
        />
      )}
      <Suspense>{creating && <CreateDialog onClose={() => setCreating(false)} />}</Suspense>
    </Stack>
  );
}

function sameOrder(one: readonly string[], other: readonly string[]): boolean {
  return one.length === other.length && one.every((id, index) => id === other[index]);
}
