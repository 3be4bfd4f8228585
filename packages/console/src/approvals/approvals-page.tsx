import { Button, SegmentedControl, Skeleton, Stack, Title } from '@mantine/core';
import { useState } from 'react';
import { isNotAvailable } from '../api/api.js';
import type { OpenChange } from '../api/types.js';
import { EmptyState } from '../shell/empty-state.js';
import { FailureAlert } from '../shell/failure-alert.js';
import { ApprovalIcon } from '../shell/icons.js';
import { LiveOnly } from '../shell/live-only.js';
import { PageTitle } from '../shell/page-title.js';
import { useI18n } from '../i18n/i18n.js';
import { ChangeCard } from './change-card.js';
import { useOpenChanges } from './open-changes.js';

type Filter = 'all' | 'needsReview' | 'mine';

const filters: Readonly<Record<Filter, (change: OpenChange) => boolean>> = {
  all: () => true,
  needsReview: (change) => change.may_decide,
  mine: (change) => change.own,
};

/** The pending requests of all projects and environments. Requests decided meanwhile stay, with their decision. */
export default function ApprovalsPage() {
  const { t } = useI18n();
  const { all, open, error, retry, loading } = useOpenChanges();
  const [filter, setFilter] = useState<Filter>('all');
  const shown = all.filter(filters[filter]);
  return (
    <Stack gap="md">
      <PageTitle text={t.shell.approvals} />
      <div className="fc-title-row">
        <div>
          <Title order={1}>{t.shell.approvals}</Title>
          <div className="fc-subtitle">{!loading && error === null && t.approvals.count(open.length)}</div>
        </div>
        <SegmentedControl
          size="xs"
          aria-label={t.approvals.filter}
          data={[
            { value: 'all', label: t.approvals.all },
            { value: 'needsReview', label: t.approvals.needsReview },
            { value: 'mine', label: t.approvals.mine },
          ]}
          value={filter}
          onChange={setFilter}
        />
      </div>
      {isNotAvailable(error) && <LiveOnly />}
      {error !== null && !isNotAvailable(error) && <FailureAlert error={error} onRetry={retry} />}
      {loading && (
        <Stack gap="md" role="status" aria-label={t.shell.loading}>
          <Skeleton height={190} radius="md" />
          <Skeleton height={190} radius="md" />
        </Stack>
      )}
      {!loading && all.length === 0 && error === null && (
        <EmptyState
          icon={<ApprovalIcon size={36} />}
          title={t.approvals.empty}
          text={t.approvals.emptyHint}
        />
      )}
      {all.length > 0 && shown.length === 0 && (
        <EmptyState icon={<ApprovalIcon size={36} />} title={t.approvals.noMatch} text="">
          <Button variant="light" mt="sm" onClick={() => setFilter('all')}>
            {t.approvals.all}
          </Button>
        </EmptyState>
      )}
      {shown.map((change) => (
        <ChangeCard key={change.id} change={change} withScope />
      ))}
    </Stack>
  );
}
