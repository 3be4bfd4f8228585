import { Avatar, Badge, Group, Paper, Stack, Text, Title } from '@mantine/core';
import { Link } from 'react-router';
import type { ChangedEntity, OpenChange } from '../api/types.js';
import { DiffList } from '../feature/diff-list.js';
import { RelativeTime } from '../shell/relative-time.js';
import { scopePath } from '../shell/scope.js';
import { useI18n } from '../i18n/i18n.js';
import { DecisionButtons } from './decision-buttons.js';
import { useOpenChanges } from './open-changes.js';
import { decisionText } from './use-decide.js';
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
