import type { ChannelState } from '@flagcast/client';
import { Button, Skeleton, Stack } from '@mantine/core';
import { useLocalStorage } from '@mantine/hooks';
import { memo, useState } from 'react';
import { useChannelState } from '@flagcast/client/react';
import { Link } from 'react-router';
import { useLiveChannel, useLiveOnly } from '../api/live.js';
import { useOpenChanges } from '../approvals/open-changes.js';
import { PauseButton } from '../activity/pause-button.js';
import { EmptyState, LiveOnly } from '../shell/empty-state.js';
import { FlagIcon, LockIcon, PlusIcon, SearchIcon } from '../shell/icons.js';
import { PageHead } from '../shell/page-title.js';
import { lazyPart } from '../shell/lazy-part.js';
import { lazyRoutes } from '../shell/lazy-routes.js';
import { scopePath, useScope, useRights } from '../shell/scope.js';
import { useI18n } from '../i18n/i18n.js';
import { FeaturesTable } from './features-table.js';
import { FeaturesToolbar } from './features-toolbar.js';
import { useEventCount } from './use-frozen.js';
import { useList } from './use-list.js';
import { useListView } from './use-list-view.js';

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
  const [compact, setCompact] = useLocalStorage({
    key: 'flagcast.compact',
    defaultValue: false,
    getInitialValueInEffect: false,
  });
  const [paused, setPaused] = useState(false);
  const [hovered, setHovered] = useState(false);
  const [creating, setCreating] = useState(false);
  const newEvents = useEventCount(channel, paused);
  const { ids, count, state, gone, others, isFrozen } = useList(view, paused, hovered);
  const isEmpty = !loading && !liveOnly && state.features.size === 0;
  const createButton = rights.manage && <CreateButton onOpen={setCreating} />;

  return (
    <Stack gap="md" className="fc-features">
      <PageHead
        title={t.shell.features}
        subtitle={
          <>
            {!loading && !liveOnly && <span>{t.features.count(ids.length, count)}</span>}
            {environment.guarded && (
              <span className="fc-guarded">
                <LockIcon size={14} /> {t.features.guardedHere}
              </span>
            )}
            {isFrozen && <span>{t.features.orderFrozen}</span>}
          </>
        }
      >
        <PauseButton paused={paused} newEvents={newEvents} onChange={setPaused} />
        {!isEmpty && createButton}
      </PageHead>
      {!liveOnly && (
        <FeaturesToolbar view={view} onChange={changeView} compact={compact} onCompact={setCompact} />
      )}
      {loading ? (
        <Stack className="fc-table" p="md" role="status" aria-label={t.shell.loading}>
          {Array.from({ length: 8 }, (_, index) => (
            <Skeleton key={index} height={40} />
          ))}
        </Stack>
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
        <EmptyState icon={<FlagIcon size={36} />} title={t.features.empty} text={t.features.emptyHint}>
          {createButton}
        </EmptyState>
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

interface NoMatchProps {
  /** The list shows flags with pending requests only. */
  readonly pendingOnly: boolean;
  readonly onShowAll: () => void;
}

/** No flag matches the filters. */
function NoMatch({ pendingOnly, onShowAll }: NoMatchProps) {
  const { t } = useI18n();
  const { project, environment } = useScope();
  const elsewhere = useOpenChanges().open.filter(({ environment_id: id }) => id !== environment.id).length;
  return (
    <EmptyState icon={<SearchIcon size={36} />} title={t.features.noMatch} text={t.features.noMatchHint}>
      {pendingOnly && elsewhere > 0 && (
        <Button component={Link} to={scopePath(project.id, environment.key, 'approvals')} variant="subtle">
          {t.features.pendingElsewhere(elsewhere)}
        </Button>
      )}
      <Button variant="light" onClick={onShowAll}>
        {t.features.showAll}
      </Button>
    </EmptyState>
  );
}
