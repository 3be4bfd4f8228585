import '../shell/later-styles.js';
import './flag-page.css';
import type { ChannelState, FeatureState } from '@flagcast/client';
import { usePresence } from '@flagcast/client/presence/react';
import { Alert, Badge, Button, Code, Group, Loader, Paper, Stack, Text, Title } from '@mantine/core';
import { useMemo, useState } from 'react';
import { useNavigate, useParams } from 'react-router';
import { useChannelState, useFeature } from '@flagcast/client/react';
import { HistoryList } from '../activity/history-list.js';
import { useTimeline } from '../activity/use-history.js';
import { ChangeCard } from '../approvals/change-card.js';
import { useOpenChanges } from '../approvals/open-changes.js';
import { useShownRequests } from '../approvals/use-shown-requests.js';
import { FailureAlert } from '../shell/failure-alert.js';
import { useLive, useLiveChannel, useLiveOnly } from '../api/live.js';
import { useRecordedChanges } from '../features/recorded-changes.js';
import { TagBadge } from '../features/flag-parts.js';
import { BackRow } from '../shell/back-link.js';
import { RelativeTime } from '../shell/relative-time.js';
import { LockIcon, TrashIcon } from '../shell/icons.js';
import { LiveOnly } from '../shell/empty-state.js';
import { PageTitle } from '../shell/page-title.js';
import { FlagPresenceContext } from '../shell/presence.js';
import { lazyPart } from '../shell/lazy-part.js';
import { lazyRoutes } from '../shell/lazy-routes.js';
import { scopePath, useScope, useRights } from '../shell/scope.js';
import { useI18n } from '../i18n/i18n.js';
import { EditForm } from './edit-form.js';
import { EnvironmentStrip } from './environment-strip.js';
import { FieldValue } from './field-value.js';
import { useScheduled } from './schedule.js';
import { Targeting } from './targeting.js';
import { visible } from '../i18n/visible.js';

const DeleteDialog = lazyPart(lazyRoutes.deleteDialog);

const selectLoading = (state: ChannelState): boolean => state.status.state === 'connecting';

export default function FeaturePage() {
  const { t } = useI18n();
  const { featureId = '' } = useParams();
  const feature = useFeature(featureId);
  const loading = useChannelState(selectLoading);
  const liveOnly = useLiveOnly();
  // A deleted flag stays on the screen.
  const [last, setLast] = useState(feature);
  if (feature !== undefined && feature !== last) setLast(feature);
  const shown = feature ?? (last?.id === featureId ? last : undefined);
  const { client } = useLive();
  const { project, environment } = useScope();
  const [editing, setEditing] = useState<string | null>(null);
  const subject = { projectId: project.id, environmentId: environment.id, featureId };
  const presence = usePresence(client, feature === undefined ? null : subject, editing);
  return (
    <Stack gap="lg">
      <BackRow page="features" label={t.feature.back} presence={presence} />
      {shown !== undefined ? (
        <FlagPresenceContext value={{ others: presence.others, onEditing: setEditing }}>
          <Feature key={shown.id} feature={shown} gone={feature === undefined} />
        </FlagPresenceContext>
      ) : loading ? (
        <Loader role="status" aria-label={t.shell.loading} />
      ) : liveOnly ? (
        <LiveOnly />
      ) : (
        <Alert color="gray" title={t.feature.notFound}>
          {t.feature.notFoundHint}
        </Alert>
      )}
    </Stack>
  );
}

interface FeatureProps {
  readonly feature: FeatureState;
  readonly gone: boolean;
}

function Feature({ feature, gone }: FeatureProps) {
  const { t } = useI18n();
  const { project, environment } = useScope();
  const navigate = useNavigate();
  const { manage } = useRights();
  const { lastChanges } = useLiveChannel();
  const recorded = useRecordedChanges().get(feature.id);
  const [deleting, setDeleting] = useState(false);
  const change = lastChanges.made(feature.id);
  const by = change === undefined ? (recorded?.username ?? null) : change.actor;
  return (
    <>
      <Group justify="space-between" align="flex-start" gap="sm" wrap="nowrap" className="fc-title-row">
        <div>
          <PageTitle text={visible(feature.name)} />
          <Title order={1} className="fc-wrap">
            {visible(feature.name)}
          </Title>
          <Group gap="xs" mt={6}>
            <Code>{visible(feature.key)}</Code>
            <StateBadge feature={feature} />
            <Badge variant="default" tt="none" fw={500} size="md">
              <FieldValue field="kind" value={feature.kind} />
            </Badge>
            <Tags tags={feature.tags} />
            <Text size="sm" c="dimmed" component="span">
              {t.feature.changedBy(by)} · <RelativeTime at={change?.timestamp ?? feature.updated_at} />
            </Text>
          </Group>
        </div>
        {manage && !gone && (
          <Button
            variant="default"
            c="var(--fc-bad)"
            className="fc-compact"
            leftSection={<TrashIcon size={16} />}
            onClick={() => setDeleting(true)}
          >
            {t.feature.delete}
          </Button>
        )}
      </Group>
      {gone && (
        <Alert color="red" role="alert" title={t.feature.deletedBy(by)}>
          {t.feature.deletedHint}
        </Alert>
      )}
      <EnvironmentStrip featureId={feature.id} gone={gone} />
      <div className="fc-columns">
        <Stack gap="lg">
          <EditForm feature={feature} changedBy={by} gone={gone} />
          <Targeting feature={feature} />
        </Stack>
        {/* Beside the form, which must not move under the pointer when a request arrives. */}
        <Stack gap="lg">
          <FeatureRequests featureId={feature.id} />
          <FeatureHistory featureId={feature.id} />
        </Stack>
      </div>
      {deleting && (
        <DeleteDialog
          feature={feature}
          onClose={() => setDeleting(false)}
          onDeleted={() => void navigate(scopePath(project.id, environment.key, 'features'))}
        />
      )}
    </>
  );
}

/** Whether the flag is on now: by its switch, and by its schedules. */
function StateBadge({ feature }: { readonly feature: FeatureState }) {
  const { t } = useI18n();
  const { environment } = useScope();
  const schedule = useScheduled(feature);
  const isOn = feature.enabled && schedule?.now?.enabled !== false;
  return (
    <Badge {...(isOn ? { variant: 'light', color: 'teal' } : { variant: 'default' })} tt="none" size="md">
      {isOn ? t.feature.onIn(environment.name) : t.feature.offIn(environment.name)}
    </Badge>
  );
}

/** The tags of the flag, which the host's console edits. */
function Tags({ tags = [] }: { readonly tags: FeatureState['tags'] }) {
  return tags.map((tag) => (
    <TagBadge
      key={tag.slug}
      tag={tag}
      size="md"
      fw={500}
      {...(tag.slug === 'guarded' && { leftSection: <LockIcon size={12} /> })}
    />
  ));
}

/** The pending requests of a flag, in all environments, and those decided since the page was opened. */
function FeatureRequests({ featureId }: { readonly featureId: string }) {
  const { open } = useOpenChanges();
  const { shown } = useShownRequests(
    open.filter(({ entities }) => entities.some((entity) => entity.feature_id === featureId)),
    true,
  );
  return shown.map((change) => <ChangeCard key={change.id} change={change} />);
}

/** The history of the flag in this environment. */
function FeatureHistory({ featureId }: { readonly featureId: string }) {
  const { t } = useI18n();
  const timeline = useTimeline(useMemo(() => ({ feature_id: featureId }), [featureId]));
  const { error, retry } = timeline;
  return (
    <Paper withBorder p="lg" component="section" aria-label={t.feature.history}>
      <Stack>
        <Title order={2}>{t.feature.history}</Title>
        {error !== null && <FailureAlert error={error} onRetry={retry} />}
        <HistoryList timeline={timeline} empty={t.activity.empty} about="nothing" />
      </Stack>
    </Paper>
  );
}
