import { Button, SegmentedControl, Skeleton, Stack, Title } from '@mantine/core';
import { useDocumentVisibility } from '@mantine/hooks';
import { useEffect } from 'react';
import { useSearchParams } from 'react-router';
import { useLiveOnly } from '../api/live.js';
import type { OpenChange } from '../api/types.js';
import { EmptyState } from '../shell/empty-state.js';
import { FailureAlert } from '../shell/failure-alert.js';
import { ApprovalIcon } from '../shell/icons.js';
import { LiveOnly } from '../shell/live-only.js';
import { PageTitle } from '../shell/page-title.js';
import { useI18n } from '../i18n/i18n.js';
import { ChangeCard } from './change-card.js';
import { DecidedRequests } from './decided-requests.js';
import { useOpenChanges } from './open-changes.js';
import { useConcerns } from './use-concerns.js';
import { useShownRequests } from './use-shown-requests.js';

const filters = {
  all: () => true,
  needsReview: (change: OpenChange) => change.may_decide,
  mine: (change: OpenChange) => change.own,
};

type Filter = keyof typeof filters;
const isFilter = (name: string): name is Filter => Object.hasOwn(filters, name);

/** The requests of all projects and environments: the pending ones, live, or the decided ones. */
export default function ApprovalsPage() {
  const { t } = useI18n();
  const { open, loading, error } = useOpenChanges();
  const liveOnly = useLiveOnly();
  const [params, setParams] = useSearchParams();
  const name = params.get('show') ?? 'all';
  return (
    <Stack gap="md">
      <PageTitle text={t.shell.approvals} />
      <div className="fc-title-row">
        <div>
          <Title order={1}>{t.shell.approvals}</Title>
          <div className="fc-subtitle">
            {!loading && !liveOnly && error === null && t.approvals.count(open.length)}
          </div>
        </div>
        <SegmentedControl
          size="xs"
          aria-label={t.approvals.filter}
          data={[
            { value: 'all', label: t.approvals.all },
            { value: 'needsReview', label: t.approvals.needsReview },
            { value: 'mine', label: t.approvals.mine },
            { value: 'decided', label: t.approvals.decidedFilter },
          ]}
          value={name}
          onChange={(show) => setParams(show === 'all' ? {} : { show }, { replace: true })}
        />
      </div>
      {liveOnly ? (
        <LiveOnly />
      ) : name === 'decided' ? (
        <DecidedRequests />
      ) : (
        <PendingRequests key={name} filter={isFilter(name) ? name : 'all'} />
      )}
    </Stack>
  );
}

function PendingRequests({ filter }: { readonly filter: Filter }) {
  const { t } = useI18n();
  const { open, error, retry, loading } = useOpenChanges();
  const { shown, waiting, show } = useShownRequests(open.filter(filters[filter]));
  const { markSeen } = useConcerns();
  const visibility = useDocumentVisibility();
  useEffect(() => {
    if (visibility === 'visible') markSeen(shown);
  });
  return (
    <>
      {error !== null && <FailureAlert error={error} onRetry={retry} />}
      {loading && (
        <Stack gap="md" role="status" aria-label={t.shell.loading}>
          <Skeleton height={190} radius="md" />
          <Skeleton height={190} radius="md" />
        </Stack>
      )}
      {!loading && shown.length === 0 && error === null && (
        <EmptyState
          icon={<ApprovalIcon size={36} />}
          title={open.length === 0 ? t.approvals.empty : t.approvals.noMatch}
          text={open.length === 0 ? t.approvals.emptyHint : t.approvals.noMatchHint}
        />
      )}
      {shown.length > 0 && (
        <div className="fc-new-requests" role="status">
          {waiting > 0 && (
            <Button size="compact-sm" radius="xl" onClick={show}>
              {t.approvals.showNew(waiting)}
            </Button>
          )}
        </div>
      )}
      {shown.map((change) => (
        <ChangeCard key={change.id} change={change} withScope />
      ))}
    </>
  );
}
