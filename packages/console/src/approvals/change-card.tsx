import { Avatar, Badge, Button, Group, Paper, Stack, Text, Title } from '@mantine/core';
import { useQueryClient } from '@tanstack/react-query';
import { useState } from 'react';
import { Link } from 'react-router';
import { ApiError } from '../api/api.js';
import type { ChangedEntity, OpenChange } from '../api/types.js';
import { DiffList, useFieldName } from '../feature/diff-list.js';
import { ReasonDialog } from '../features/reason-dialog.js';
import { RelativeTime } from '../shell/relative-time.js';
import { CheckIcon, CloseIcon } from '../shell/icons.js';
import { useNotifications } from '../shell/notifications.js';
import { scopePath, useScope } from '../shell/scope.js';
import { useApi } from '../sign-in/app-services.js';
import type { Messages } from '../i18n/en.js';
import { useI18n } from '../i18n/i18n.js';
import { type Decision, useOpenChanges } from './open-changes.js';
import { nameOf, visible } from '../i18n/visible.js';

interface ChangeCardProps {
  readonly change: OpenChange;
  /** Whether to show the project and link to the feature. Default false. */
  readonly withScope?: boolean;
}

const decisionColors: ReadonlyMap<string, string> = new Map([
  ['approved', 'teal'],
  ['rejected', 'red'],
]);

/** E.g. `Approved by alice`. */
function decisionText({ approvals }: Messages, status: string, by: string | null): string {
  const decided: Readonly<Record<string, (who: string | null) => string>> = approvals.decided;
  return (Object.hasOwn(decided, status) ? decided[status]?.(by) : undefined) ?? visible(status);
}

/** A request for a change, with its reason, its diff and the buttons to decide. */
export function ChangeCard({ change, withScope = false }: ChangeCardProps) {
  const { t } = useI18n();
  const { decisions } = useOpenChanges();
  const decision = decisions.get(change.id);
  const feature = change.entities.find(({ feature_id: id }) => id !== null);
  return (
    <Paper
      withBorder
      p="lg"
      component="article"
      className="fc-change"
      data-decided={decision?.status}
      aria-label={t.approvals.cardLabel(change.requested_by, feature?.feature_name ?? null)}
    >
      <Stack gap="sm">
        <Group justify="space-between" align="flex-start" wrap="nowrap" className="fc-change-head">
          <Group gap="sm" wrap="nowrap">
            <Avatar name={visible(change.requested_by)} color="initials" size={36} aria-hidden="true" />
            <div>
              <Title order={2} className="fc-wrap">
                {withScope && feature !== undefined ? (
                  <Link
                    to={`${scopePath(change.project_id, change.environment, 'features')}/${feature.feature_id}`}
                  >
                    {visible(feature.feature_name ?? t.approvals.deletedFeature)}
                  </Link>
                ) : (
                  t.approvals.pendingRequest
                )}
              </Title>
              <Text size="sm" c="dimmed" component="div">
                {t.approvals.requestedBy(change.requested_by)} · <RelativeTime at={change.created_at} />
              </Text>
              {!change.requester_active && (
                <Badge color="orange" variant="light" tt="none" size="md">
                  {t.approvals.requesterInactive}
                </Badge>
              )}
            </div>
          </Group>
          <Badge variant="default" tt="none" fw={500} size="lg" className="fc-shrink">
            {withScope ? `${visible(change.project)} / ` : ''}
            {visible(change.environment)}
          </Badge>
        </Group>
        {change.reason !== null && <blockquote className="fc-reason">{visible(change.reason)}</blockquote>}
        {change.entities.map((entity) => (
          <EntityDiff
            key={`${entity.entity} ${entity.entity_id}`}
            entity={entity}
            withFeature={new Set(change.entities.map(({ feature_id: id }) => id)).size > 1}
          />
        ))}
        {decision !== undefined && (
          <Badge
            color={decisionColors.get(decision.status) ?? 'gray'}
            variant="light"
            tt="none"
            size="lg"
            role="status"
          >
            {decisionText(t, decision.status, decision.by)}
          </Badge>
        )}
        <DecisionButtons change={change} decision={decision} />
      </Stack>
    </Paper>
  );
}

interface EntityDiffProps {
  readonly entity: ChangedEntity;
  /** Whether to show the name of the flag. */
  readonly withFeature: boolean;
}

function EntityDiff({ entity, withFeature }: EntityDiffProps) {
  const { t } = useI18n();
  return (
    <div>
      <Text size="sm" fw={600}>
        {nameOf(t.approvals.verbs, entity.action ?? 'update')} · {nameOf(t.entities, entity.entity)}
        {withFeature && ` · ${visible(entity.feature_name ?? t.approvals.deletedFeature)}`}
      </Text>
      <DiffList diff={entity.diff} />
    </div>
  );
}

interface DecisionButtonsProps {
  readonly change: OpenChange;
  readonly decision: Decision | undefined;
}

/** The buttons that the user may use. A decision of another user disables them. */
function DecisionButtons({ change, decision }: DecisionButtonsProps) {
  const { t } = useI18n();
  const api = useApi();
  const queries = useQueryClient();
  const { me } = useScope();
  const { notify, notifyError } = useNotifications();
  const [busy, setBusy] = useState<string | null>(null);
  const [dialog, setDialog] = useState<'approve' | 'reject' | null>(null);
  const fieldName = useFieldName();
  const decide = async (step: 'approve' | 'reject' | 'cancel', body: object = {}): Promise<void> => {
    setBusy(step);
    let isWrongPassword = false;
    try {
      await api.send('POST', `/api/pending-changes/${change.id}/${step}`, body);
      notify('success', t.approvals.done[step]);
    } catch (error) {
      if (error instanceof ApiError && error.code === 'already_decided') {
        const { status, by } = error.body as { status: string; by: string | null };
        notify('error', t.approvals.alreadyDecided(decisionText(t, status, by)));
      } else if (error instanceof ApiError && error.code === 'conflict') {
        const { conflicts = [] } = error.body as { conflicts?: readonly { field: string }[] };
        notify('error', t.approvals.conflictWith(conflicts.map(({ field }) => fieldName(field)).join(', ')));
      } else notifyError(error);
      isWrongPassword = error instanceof ApiError && error.code === 'password_wrong';
      void queries.invalidateQueries({ queryKey: ['open-changes'] });
    } finally {
      setBusy(null);
      if (!isWrongPassword) setDialog(null);
    }
  };
  if (!me.writes) return null;
  const needsPassword = me.decisions === 'password';
  const mayDecide = change.may_decide && me.decisions !== 'elsewhere';
  const disabled = decision !== undefined || busy !== null;
  return (
    <Group gap="xs">
      {mayDecide && (
        <>
          <Button
            color="teal.9"
            leftSection={<CheckIcon size={16} />}
            disabled={disabled && busy !== 'approve'}
            loading={busy === 'approve'}
            onClick={() => {
              if (needsPassword) setDialog('approve');
              else void decide('approve');
            }}
          >
            {t.approvals.approve}
          </Button>
          <Button
            variant="default"
            leftSection={<CloseIcon size={16} />}
            disabled={disabled}
            onClick={() => setDialog('reject')}
          >
            {t.approvals.reject}
          </Button>
        </>
      )}
      {change.may_cancel && (
        <Button variant="default" disabled={disabled} onClick={() => void decide('cancel')}>
          {t.approvals.cancel}
        </Button>
      )}
      {!mayDecide && decision === undefined && (
        <Text size="sm" c="dimmed">
          {change.own
            ? t.approvals.ownRequest
            : change.may_decide
              ? t.approvals.elsewhere
              : t.approvals.managersOnly}
        </Text>
      )}
      {dialog === 'approve' && decision === undefined && (
        <ReasonDialog
          title={t.approvals.approveTitle}
          explanation={t.approvals.passwordHint}
          submitLabel={t.approvals.approve}
          submitColor="teal.9"
          withReason={false}
          withPassword
          busy={busy === 'approve'}
          onClose={() => setDialog(null)}
          onSubmit={({ password }) => void decide('approve', { password })}
        />
      )}
      {dialog === 'reject' && decision === undefined && (
        <ReasonDialog
          title={t.approvals.rejectTitle}
          explanation={t.approvals.rejectHint(change.requested_by)}
          submitLabel={t.approvals.reject}
          submitColor="red"
          withPassword={needsPassword}
          busy={busy === 'reject'}
          onClose={() => setDialog(null)}
          onSubmit={({ reason, password }) =>
            void decide('reject', needsPassword ? { reason, password } : { reason })
          }
        />
      )}
    </Group>
  );
}
