import { Button } from '@mantine/core';
import type { ReactNode } from 'react';
import { Link } from 'react-router';
import { useOpenChanges } from '../approvals/open-changes.js';
import { useI18n } from '../i18n/i18n.js';
import { EmptyState } from '../shell/empty-state.js';
import { FlagIcon, SearchIcon } from '../shell/icons.js';
import { scopePath, useScope } from '../shell/scope.js';

interface NoFlagsProps {
  /** The button for a new flag, if the user may create one. */
  readonly children: ReactNode;
}

/** The environment has no flags. */
export function NoFlags({ children }: NoFlagsProps) {
  const { t } = useI18n();
  return (
    <EmptyState icon={<FlagIcon size={36} />} title={t.features.empty} text={t.features.emptyHint}>
      {children}
    </EmptyState>
  );
}

interface NoMatchProps {
  /** The list shows flags with pending requests only. */
  readonly pendingOnly: boolean;
  readonly onShowAll: () => void;
}

/** No flag matches the filters. */
export function NoMatch({ pendingOnly, onShowAll }: NoMatchProps) {
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
