import '../shell/later-styles.js';
import './flag-page.css';
import type { ChannelState, FeatureState } from '@flagcast/client';
import type { PresenceState } from '@flagcast/client/presence';
import { usePresence } from '@flagcast/client/presence/react';
import { Alert, Badge, Button, Code, Group, Loader, Stack, Text, Title } from '@mantine/core';
import { useState } from 'react';
import { useNavigate, useParams } from 'react-router';
import { useChannelState, useFeature } from '@flagcast/client/react';
import { useLive, useLiveChannel, useLiveOnly } from '../api/live.js';
import { useRecordedChanges } from '../features/recorded-changes.js';
import { TagBadge } from '../features/flag-parts.js';
import { BackLink } from '../shell/back-link.js';
import { RelativeTime } from '../shell/relative-time.js';
import { LockIcon, TrashIcon } from '../shell/icons.js';
import { LiveOnly } from '../shell/live-only.js';
import { PresenceLine } from '../shell/presence.js';
import { PageTitle } from '../shell/page-title.js';
import { lazyPart } from '../shell/lazy-part.js';
import { lazyRoutes } from '../shell/lazy-routes.js';
import { scopePath, useScope, useRights } from '../shell/scope.js';
import { useI18n } from '../i18n/i18n.js';
import { EditForm } from './edit-form.js';
import { EnvironmentStrip } from './environment-strip.js';
import { FeatureHistory } from './feature-history.js';
import { FeatureRequests } from './feature-requests.js';
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
      <div className="fc-back-row">
        <BackLink page="features" label={t.feature.back} />
        <PresenceLine {...presence} />
      </div>
      {shown !== undefined ? (
        <Feature
          key={shown.id}
          feature={shown}
          gone={feature === undefined}
          others={presence.others}
          onEditing={setEditing}
        />
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
  /** The other users on this page. */
  readonly others: PresenceState['others'];
  /** Called with the field that the user edits. */
  readonly onEditing: (field: string | null) => void;
}

function Feature({ feature, gone, others, onEditing }: FeatureProps) {
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
      <div className="fc-title-row">
        <div className="fc-title">
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
      </div>
      {gone && (
        <Alert color="red" role="alert" title={t.feature.deletedBy(by)}>
          {t.feature.deletedHint}
        </Alert>
      )}
      <EnvironmentStrip featureId={feature.id} gone={gone} />
      <div className="fc-columns">
        <Stack gap="lg">
          <EditForm feature={feature} changedBy={by} gone={gone} others={others} onEditing={onEditing} />
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
