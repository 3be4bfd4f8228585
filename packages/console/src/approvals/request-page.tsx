import '../shell/later-styles.js';
import { usePresence } from '@flagcast/client/presence/react';
import { Group, Loader, Paper, Stack, Text, Title } from '@mantine/core';
import { useEffect } from 'react';
import { useParams } from 'react-router';
import { actionOf } from '../api/actions.js';
import { ApiError } from '../api/api.js';
import { useLive } from '../api/live.js';
import { useRequestDetail } from '../api/queries.js';
import type { OpenChange, RequestStep } from '../api/types.js';
import { BackRow } from '../shell/back-link.js';
import { EmptyState } from '../shell/empty-state.js';
import { FailureAlert } from '../shell/failure-alert.js';
import { ApprovalIcon } from '../shell/icons.js';
import { PageTitle } from '../shell/page-title.js';
import { RelativeTime } from '../shell/relative-time.js';
import { useI18n } from '../i18n/i18n.js';
import { nameOf, visible } from '../i18n/visible.js';
import { ChangeCard } from './change-card.js';
import { withoutRights } from './requests.js';
import { useOpenChanges } from './open-changes.js';

/** The details of a request. They are loaded again when the feed has another state of it. */
function useRequest(id: string) {
  const { find, loading } = useOpenChanges();
  const { data, error, isPending, refetch } = useRequestDetail(id);
  const live = find(data?.id ?? id);
  const version = live?.version;
  // Also of a request that the user could not view before.
  const isBehind = version !== undefined && version !== data?.version && !isPending;
  // The feed has every open request that the user may view.
  const isGone = data?.status === 'pending' && !loading && live === undefined;
  useEffect(() => {
    if (isBehind || isGone) void refetch();
  }, [isBehind, isGone, version, refetch]);
  return {
    latest: data && latestOf(data, live, { isBehind, isGone }),
    steps: data?.steps ?? [],
    error,
    refetch,
  };
}

function latestOf(
  data: OpenChange,
  live: OpenChange | undefined,
  { isBehind, isGone }: { readonly isBehind: boolean; readonly isGone: boolean },
): OpenChange {
  if (isGone) return withoutRights(data);
  if (live === undefined || isBehind) return live ?? data;
  // The rights of the user follow the feed.
  return { ...data, may_decide: live.may_decide, may_cancel: live.may_cancel };
}

/** One request, open or decided: what it changes, its whole life, and the buttons to decide. */
export default function RequestPage() {
  const { t } = useI18n();
  const { requestId = '' } = useParams();
  const { latest, steps, error, refetch } = useRequest(requestId);
  const { client } = useLive();
  const presence = usePresence(
    client,
    latest === undefined
      ? null
      : {
          projectId: latest.project_id,
          environmentId: latest.environment_id,
          pendingChangeId: latest.id,
        },
  );
  const isUnknown = error instanceof ApiError && error.status === 404;
  return (
    <Stack gap="md">
      <PageTitle text={t.approvals.requestPage} />
      <BackRow page="approvals" label={t.approvals.back} presence={presence} />
      <Title order={1}>{t.approvals.requestPage}</Title>
      {isUnknown ? (
        <EmptyState
          icon={<ApprovalIcon size={36} />}
          title={t.approvals.notFound}
          text={t.approvals.notFoundHint}
        />
      ) : (
        error !== null && <FailureAlert error={error} onRetry={() => void refetch()} />
      )}
      {latest === undefined && error === null && <Loader role="status" aria-label={t.shell.loading} />}
      {latest !== undefined && !isUnknown && (
        <>
          <ChangeCard key={latest.id} change={latest} withScope />
          <Timeline steps={steps} />
        </>
      )}
    </Stack>
  );
}

/** The steps of a request, oldest first. */
function Timeline({ steps }: { readonly steps: readonly RequestStep[] }) {
  const { t } = useI18n();
  return (
    <Paper withBorder p="lg" component="section" aria-label={t.feature.history}>
      <Title order={2}>{t.feature.history}</Title>
      <Stack component="ol" gap={10} mt="sm" pl={18}>
        {steps.map(({ action, at, by, reason }, index) => (
          <li key={`${index} ${action}`}>
            <Group gap={6}>
              <Text size="sm" fw={600} component="span">
                {by === null ? t.activity.unknownUser : visible(by)}
              </Text>
              <Text size="sm" component="span">
                {nameOf(t.actions, actionOf({ source: 'pending', action }))}
              </Text>
              <Text size="sm" c="dimmed" component="span">
                {at === null ? t.activity.timeUnknown : <RelativeTime at={at} />}
              </Text>
            </Group>
            {reason !== null && <blockquote className="fc-reason">{visible(reason)}</blockquote>}
          </li>
        ))}
      </Stack>
    </Paper>
  );
}
