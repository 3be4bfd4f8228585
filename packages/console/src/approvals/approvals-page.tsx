import '../shell/later-styles.js';
import { Group, SegmentedControl, Select, Skeleton, Stack, Title } from '@mantine/core';
import { useDocumentVisibility } from '@mantine/hooks';
import { useEffect, useMemo } from 'react';
import { useSearchParams } from 'react-router';
import { useLiveOnly } from '../api/live.js';
import type { OpenChange } from '../api/types.js';
import { EmptyState } from '../shell/empty-state.js';
import { FailureAlert } from '../shell/failure-alert.js';
import { ApprovalIcon } from '../shell/icons.js';
import { LiveOnly } from '../shell/live-only.js';
import { PageTitle } from '../shell/page-title.js';
import { useScope } from '../shell/scope.js';
import { useI18n } from '../i18n/i18n.js';
import { visible } from '../i18n/visible.js';
import { ChangeCard } from './change-card.js';
import { DecidedRequests } from './decided-requests.js';
import { NewRequests } from './new-requests.js';
import { isIn, type Place } from './requests.js';
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

/** Which requests are listed: all, or those of the project or the environment in the header. */
function usePlace(): { readonly name: string; readonly label: string | null; readonly place: Place } {
  const { project, environment } = useScope();
  const name = useSearchParams()[0].get('in') ?? '';
  return useMemo(() => {
    const label = `${visible(project.name)} / ${visible(environment.key)}`;
    const { id: environmentId } = environment;
    if (name === 'environment') return { name, label, place: { projectId: project.id, environmentId } };
    if (name === 'project') return { name, label: visible(project.name), place: { projectId: project.id } };
    return { name: '', label: null, place: {} };
  }, [name, project, environment]);
}

/** The requests of all projects and environments, or of one: the pending ones, live, or the decided ones. */
export default function ApprovalsPage() {
  const { t } = useI18n();
  const liveOnly = useLiveOnly();
  const [params] = useSearchParams();
  const { label, place } = usePlace();
  const name = params.get('show') ?? 'all';
  return (
    <Stack gap="md">
      <PageTitle text={t.shell.approvals} />
      <div className="fc-title-row">
        <div>
          <Title order={1}>{t.shell.approvals}</Title>
          <div className="fc-subtitle">{!liveOnly && <Count />}</div>
        </div>
        <Filters />
      </div>
      {liveOnly ? (
        <LiveOnly />
      ) : name === 'decided' ? (
        <DecidedRequests key={label} place={place} />
      ) : (
        <PendingRequests
          key={`${name} ${label ?? ''}`}
          filter={isFilter(name) ? name : 'all'}
          place={place}
        />
      )}
    </Stack>
  );
}

function Count() {
  const { t } = useI18n();
  const { open, loading, error } = useOpenChanges();
  const { label, place } = usePlace();
  if (loading || error !== null) return null;
  return t.approvals.count(open.filter((each) => isIn(each, place)).length, label);
}

/** Not part of the page, which would render them with each new request. */
function Filters() {
  const { t } = useI18n();
  const { project, environment } = useScope();
  const [params, setParams] = useSearchParams();
  const change = (parameter: string, value: string): void => {
    const others = [...params].filter(([key]) => key !== parameter);
    setParams(value === '' ? others : [...others, [parameter, value]], { replace: true });
  };
  return (
    <Group gap="xs">
      <Select
        size="xs"
        aria-label={t.approvals.place}
        allowDeselect={false}
        value={usePlace().name}
        data={[
          { value: '', label: t.activity.allProjects },
          { value: 'project', label: visible(project.name) },
          { value: 'environment', label: `${visible(project.name)} / ${visible(environment.key)}` },
        ]}
        onChange={(value) => change('in', value ?? '')}
      />
      <SegmentedControl
        size="xs"
        aria-label={t.approvals.filter}
        data={[
          { value: 'all', label: t.approvals.all },
          { value: 'needsReview', label: t.approvals.needsReview },
          { value: 'mine', label: t.approvals.mine },
          { value: 'decided', label: t.approvals.decidedFilter },
        ]}
        value={params.get('show') ?? 'all'}
        onChange={(show) => change('show', show === 'all' ? '' : show)}
      />
    </Group>
  );
}

interface PendingRequestsProps {
  readonly filter: Filter;
  readonly place: Place;
}

function PendingRequests({ filter, place }: PendingRequestsProps) {
  const { t } = useI18n();
  const { open, error, retry, loading } = useOpenChanges();
  const { shown, waiting, show } = useShownRequests(
    open.filter((change) => filters[filter](change) && isIn(change, place)),
  );
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
      {shown.length > 0 && <NewRequests waiting={waiting} onShow={show} />}
      {shown.map((change) => (
        <ChangeCard key={change.id} change={change} withScope />
      ))}
    </>
  );
}
