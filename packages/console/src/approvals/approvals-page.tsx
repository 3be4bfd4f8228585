import '../shell/later-styles.js';
import { SegmentedControl, Select, Skeleton, Stack } from '@mantine/core';
import { useDocumentVisibility } from '@mantine/hooks';
import { useEffect } from 'react';
import { useLiveOnly } from '../api/live.js';
import type { OpenChange } from '../api/types.js';
import { EmptyState, LiveOnly } from '../shell/empty-state.js';
import { FailureAlert } from '../shell/failure-alert.js';
import { ApprovalIcon } from '../shell/icons.js';
import { PageHead } from '../shell/page-title.js';
import { type Scope, useScope } from '../shell/scope.js';
import { useParameters } from '../shell/use-parameters.js';
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

/** All requests, or those of the project or the environment in the header. */
function placeOf(
  name: string | null,
  { project, environment }: Scope,
): { label: string | null; place: Place } {
  const { id: projectId } = project;
  if (name === 'project') return { label: visible(project.name), place: { projectId } };
  if (name !== 'environment') return { label: null, place: {} };
  const label = `${visible(project.name)} / ${visible(environment.key)}`;
  return { label, place: { projectId, environmentId: environment.id } };
}

/** The requests of all projects and environments, or of one: the pending ones, live, or the decided ones. */
export default function ApprovalsPage() {
  const { t } = useI18n();
  const liveOnly = useLiveOnly();
  const [parameters, setParameters] = useParameters();
  const { label, place } = placeOf(parameters.get('in'), useScope());
  const name = parameters.get('show') ?? 'all';
  return (
    <Stack gap="md">
      <PageHead title={t.shell.approvals} subtitle={!liveOnly && <Count label={label} place={place} />}>
        <Filters parameters={parameters} onChange={setParameters} />
      </PageHead>
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

function Count({ label, place }: ReturnType<typeof placeOf>) {
  const { t } = useI18n();
  const { open, loading, error } = useOpenChanges();
  if (loading || error !== null) return null;
  return t.approvals.count(open.filter((each) => isIn(each, place)).length, label);
}

interface FiltersProps {
  readonly parameters: URLSearchParams;
  readonly onChange: (next: string) => void;
}

function Filters({ parameters, onChange }: FiltersProps) {
  const { t } = useI18n();
  const scope = useScope();
  const change = (parameter: string, value: string): void => {
    const others = [...parameters].filter(([key]) => key !== parameter);
    onChange(new URLSearchParams(value === '' ? others : [...others, [parameter, value]]).toString());
  };
  return (
    <>
      <Select
        size="xs"
        aria-label={t.activity.scopeFilter}
        allowDeselect={false}
        value={parameters.get('in') ?? ''}
        data={[
          { value: '', label: t.activity.allProjects },
          ...['project', 'environment'].map((value) => ({
            value,
            label: placeOf(value, scope).label ?? '',
          })),
        ]}
        onChange={(value) => change('in', value ?? '')}
      />
      <SegmentedControl
        size="xs"
        aria-label={t.approvals.filter}
        data={[
          { value: 'all', label: t.features.all },
          { value: 'needsReview', label: t.approvals.needsReview },
          { value: 'mine', label: t.approvals.mine },
          { value: 'decided', label: t.approvals.decidedFilter },
        ]}
        value={parameters.get('show') ?? 'all'}
        onChange={(show) => change('show', show === 'all' ? '' : show)}
      />
    </>
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
          text={open.length === 0 ? t.approvals.emptyHint : t.features.noMatchHint}
        />
      )}
      {shown.length > 0 && <NewRequests waiting={waiting} onShow={show} />}
      {shown.map((change) => (
        <ChangeCard key={change.id} change={change} withScope />
      ))}
    </>
  );
}
