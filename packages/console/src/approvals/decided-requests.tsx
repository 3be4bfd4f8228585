import { Button, Loader } from '@mantine/core';
import { useInfiniteQuery } from '@tanstack/react-query';
import { useState } from 'react';
import type { OpenChange } from '../api/types.js';
import { useApi } from '../sign-in/app-services.js';
import { EmptyState } from '../shell/empty-state.js';
import { FailureAlert } from '../shell/failure-alert.js';
import { ApprovalIcon } from '../shell/icons.js';
import { useI18n } from '../i18n/i18n.js';
import { ChangeCard } from './change-card.js';
import { NewRequests } from './new-requests.js';
import { useOpenChanges } from './open-changes.js';
import { isIn, type Place } from './requests.js';

interface Page {
  readonly pending_changes: readonly OpenChange[];
  readonly next: string | null;
}

const pageSize = 20;

const idsOf = (changes: readonly OpenChange[]): ReadonlySet<string> => new Set(changes.map(({ id }) => id));

/** The decided requests, the newest decision first, a page at a time. */
export function DecidedRequests({ place }: { readonly place: Place }) {
  const { t } = useI18n();
  const api = useApi();
  const { projectId, environmentId } = place;
  const { data, error, refetch, hasNextPage, fetchNextPage, isFetching } = useInfiniteQuery({
    queryKey: ['decided-requests', place],
    queryFn: async ({ pageParam: before }) => {
      const query = new URLSearchParams({
        state: 'decided',
        limit: String(pageSize),
        ...(projectId === undefined ? {} : { project_id: projectId }),
        ...(environmentId === undefined ? {} : { environment_id: environmentId }),
        ...before,
      });
      return await api.get<Page>(`/api/pending-changes?${query.toString()}`);
    },
    initialPageParam: {},
    getNextPageParam: ({ next }) => (next === null ? null : { before: next }),
  });
  const { decided, find } = useOpenChanges();
  /** What was decided before the list was loaded. */
  const [earlier, setEarlier] = useState<ReadonlySet<string>>(() => idsOf(decided));
  const changes = data?.pages.flatMap((page) => page.pending_changes) ?? [];
  const listed = idsOf(changes);
  const waiting = decided.filter(
    (change) => isIn(change, place) && !earlier.has(change.id) && !listed.has(change.id),
  );
  const show = async (): Promise<void> => {
    await refetch();
    setEarlier(idsOf(decided));
  };
  return (
    <>
      <NewRequests waiting={waiting.length} onShow={() => void show()} />
      {error !== null && <FailureAlert error={error} onRetry={() => void refetch()} />}
      {data !== undefined && changes.length === 0 && (
        <EmptyState icon={<ApprovalIcon size={36} />} title={t.approvals.noDecided} text="" />
      )}
      {changes.map((change) => (
        <ChangeCard key={change.id} change={find(change.id) ?? change} withScope />
      ))}
      {isFetching && <Loader mx="auto" role="status" aria-label={t.shell.loading} />}
      {hasNextPage && !isFetching && (
        <Button variant="subtle" mx="auto" onClick={() => void fetchNextPage()}>
          {t.approvals.older}
        </Button>
      )}
    </>
  );
}
