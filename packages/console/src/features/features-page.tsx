import type { ChannelState } from '@flagcast/client';
import { Button, Group, Stack, Title } from '@mantine/core';
import { memo, useState } from 'react';
import { useChannelState } from '@flagcast/client/react';
import { useLiveChannel, useLiveOnly } from '../api/live.js';
import { PauseButton } from '../activity/pause-button.js';
import { LockIcon, PlusIcon } from '../shell/icons.js';
import { LiveOnly } from '../shell/live-only.js';
import { PageTitle } from '../shell/page-title.js';
import { lazyPart } from '../shell/lazy-part.js';
import { lazyRoutes } from '../shell/lazy-routes.js';
import { useScope, useRights } from '../shell/scope.js';
import { useI18n } from '../i18n/i18n.js';
import { NoFlags, NoMatch } from './empty-list.js';
import { FeaturesTable } from './features-table.js';
import { FeaturesToolbar } from './features-toolbar.js';
import { LoadingRows } from './loading-rows.js';
import { useEventCount } from './use-frozen.js';
import { useList } from './use-list.js';
import { useDensity, useListView } from './use-list-view.js';

const CreateDialog = lazyPart(lazyRoutes.createDialog);

const selectLoading = (state: ChannelState): boolean =>
  state.status.state === 'connecting' && state.features.size === 0;

/** The flags of the environment. */
export function FeaturesPage() {
  const { t } = useI18n();
  const { channel } = useLiveChannel();
  const { environment } = useScope();
  const rights = useRights();
  const liveOnly = useLiveOnly();
  const loading = useChannelState(selectLoading);
  const [view, changeView] = useListView();
  const [compact, setCompact] = useDensity();
  const [paused, setPaused] = useState(false);
  const [hovered, setHovered] = useState(false);
  const [creating, setCreating] = useState(false);
  const newEvents = useEventCount(channel, paused);
  const { ids, count, state, gone, others, isFrozen } = useList(view, paused, hovered);
  const isEmpty = !loading && !liveOnly && state.features.size === 0;
  const createButton = rights.manage && <CreateButton onOpen={setCreating} />;

  return (
    <Stack gap="md" className="fc-features">
      <PageTitle text={t.shell.features} />
      <div className="fc-title-row">
        <div>
          <Title order={1}>{t.shell.features}</Title>
          <div className="fc-subtitle">
            {!loading && !liveOnly && <span>{t.features.count(ids.length, count)}</span>}
            {environment.guarded && (
              <span className="fc-guarded">
                <LockIcon size={14} /> {t.features.guardedHere}
              </span>
            )}
            {isFrozen && <span>{t.features.orderFrozen}</span>}
          </div>
        </div>
        <Group gap="xs">
          <PauseButton paused={paused} newEvents={newEvents} onChange={setPaused} />
          {!isEmpty && createButton}
        </Group>
      </div>
      {!liveOnly && (
        <FeaturesToolbar view={view} onChange={changeView} compact={compact} onCompact={setCompact} />
      )}
      {loading ? (
        <LoadingRows />
      ) : ids.length > 0 ? (
        <FeaturesTable
          ids={ids}
          state={state}
          gone={gone}
          view={view}
          compact={compact}
          others={others}
          onChange={changeView}
          onHover={setHovered}
        />
      ) : liveOnly ? (
        <LiveOnly />
      ) : isEmpty ? (
        <NoFlags>{createButton}</NoFlags>
      ) : (
        <NoMatch
          pendingOnly={view.state === 'pending'}
          onShowAll={() => changeView({ query: '', state: 'all', tags: [], differs: false })}
        />
      )}
      {creating && <CreateDialog onClose={() => setCreating(false)} />}
    </Stack>
  );
}

const CreateButton = memo(function CreateButton({ onOpen }: { readonly onOpen: (opened: true) => void }) {
  const { t } = useI18n();
  return (
    <Button className="fc-compact" leftSection={<PlusIcon size={16} />} onClick={() => onOpen(true)}>
      {t.features.create}
    </Button>
  );
});
