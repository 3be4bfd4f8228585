import { Avatar, Badge, Group, Paper, Stack, Text, Title } from '@mantine/core';
import { memo, type SyntheticEvent, useRef } from 'react';
import { Link } from 'react-router';
import type { OpenChange } from '../api/types.js';
import { RelativeTime } from '../shell/relative-time.js';
import { scopePath } from '../shell/scope.js';
import { useI18n } from '../i18n/i18n.js';
import { DecisionRow } from './decision-row.js';
import { EntityDiffs } from '../feature/diff-list.js';
import { flagOf, stampOf } from './requests.js';
import { useShownChange } from './use-shown-change.js';
import { visible } from '../i18n/visible.js';

interface ChangeCardProps {
  readonly change: OpenChange;
  /** Whether to show the project and link to the feature. Default false. */
  readonly withScope?: boolean;
}

/** A request for a change, with its reason, its diff and the buttons to decide. */
export const ChangeCard = memo(function ChangeCard({ change, withScope = false }: ChangeCardProps) {
  const { t } = useI18n();
  const view = useShownChange(change);
  const { shown, before } = view;
  const guard = usePointerGuard(`${stampOf(shown)} ${view.isOutdated}`);
  const feature = flagOf(shown);
  return (
    <Paper
      withBorder
      p="lg"
      component="article"
      className="fc-change"
      tabIndex={-1}
      data-decided={shown.status === 'pending' ? undefined : shown.status}
      aria-label={t.approvals.cardLabel(shown.requested_by, feature?.feature_name ?? null)}
      {...guard}
    >
      <Stack gap="sm">
        <CardHead shown={shown} withScope={withScope} />
        {shown.reason !== null && <blockquote className="fc-reason">{visible(shown.reason)}</blockquote>}
        <EntityDiffs shown={shown} before={before} />
        <DecisionRow {...view} />
      </Stack>
    </Paper>
  );
});

/**
 * Cancels clicks whose pointer went down before the card had this state: they were meant for what was there then.
 * Clicks of the keyboard have no pointer.
 */
function usePointerGuard(state: string) {
  const pressed = useRef<string | null>(null);
  return {
    onPointerDownCapture: () => {
      pressed.current = state;
    },
    onClickCapture: (event: SyntheticEvent) => {
      const isPointer = (event.nativeEvent as UIEvent).detail > 0;
      if (isPointer && pressed.current !== state) {
        event.preventDefault();
        event.stopPropagation();
      }
    },
  };
}

function CardHead({ shown, withScope }: { readonly shown: OpenChange; readonly withScope: boolean }) {
  const { t } = useI18n();
  const feature = flagOf(shown);
  return (
    <Group justify="space-between" align="flex-start" wrap="nowrap" className="fc-change-head">
      <Group gap="sm" wrap="nowrap">
        <Avatar name={visible(shown.requested_by)} color="initials" size={36} aria-hidden="true" />
        <div>
          <Title order={2} className="fc-wrap">
            {withScope && feature !== undefined ? (
              <Link
                className="fc-link"
                to={`${scopePath(shown.project_id, shown.environment, 'features')}/${feature.feature_id}`}
              >
                {visible(feature.feature_name ?? t.approvals.deletedFeature)}
              </Link>
            ) : (
              t.approvals[shown.status === 'pending' ? 'pendingRequest' : 'requestPage']
            )}
          </Title>
          <Text size="sm" c="dimmed" component="div">
            {t.approvals.requestedBy(shown.requested_by)} ·{' '}
            <Link to={`/approvals/${shown.id}`} style={{ color: 'inherit' }}>
              <RelativeTime at={shown.created_at} />
            </Link>
          </Text>
          {!shown.requester_active && (
            <Badge color="orange" variant="light" tt="none" size="md">
              {t.approvals.requesterInactive}
            </Badge>
          )}
        </div>
      </Group>
      <Badge variant="default" tt="none" fw={500} size="lg" className="fc-shrink">
        {withScope ? `${visible(shown.project)} / ` : ''}
        {visible(shown.environment)}
      </Badge>
    </Group>
  );
}
