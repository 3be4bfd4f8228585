import { Group, Paper, Skeleton, Stack, Text } from '@mantine/core';
import { useState } from 'react';
import { Link } from 'react-router';
import { InEnvironment, type LiveEnvironment, useAllEnvironments } from '../api/all-environments.js';
import { isProduction } from '../api/environments.js';
import { FeatureSwitch } from '../features/feature-switch.js';
import { FlagValue, PendingBadge } from '../features/flag-parts.js';
import { useI18n } from '../i18n/i18n.js';
import { EnvironmentName } from '../shell/environment-name.js';
import { LockIcon } from '../shell/icons.js';
import { ScheduleNote } from './schedule.js';
import { scopePath, useScope } from '../shell/scope.js';

interface EnvironmentStripProps {
  readonly featureId: string;
  /** The flag was deleted. */
  readonly gone: boolean;
}

/** The flag in all environments, each with its switch, value and pending request. */
export function EnvironmentStrip({ featureId, gone }: EnvironmentStripProps) {
  const { t } = useI18n();
  const { project, environment } = useScope();
  const environments = useAllEnvironments();
  if (project.environments.length === 1) return null;
  return (
    <ul className="fc-list fc-strip" aria-label={t.feature.environments}>
      {environments.map((live) => (
        <Paper
          component="li"
          withBorder
          key={live.environment.id}
          data-current={live.environment === environment || undefined}
          data-production={isProduction(live.environment) || undefined}
        >
          <InEnvironment live={live}>
            <Stack gap={8} px={14} pt={10} pb="sm">
              <Cell
                live={live}
                featureId={featureId}
                gone={gone}
                current={live.environment === environment}
              />
            </Stack>
          </InEnvironment>
        </Paper>
      ))}
    </ul>
  );
}

interface CellProps extends EnvironmentStripProps {
  readonly live: LiveEnvironment;
  readonly current: boolean;
}

function Cell({ live: { environment, state }, featureId, gone, current }: CellProps) {
  const { t } = useI18n();
  const { project, me } = useScope();
  const feature = state.features.get(featureId);
  const shown = feature && `${feature.enabled} ${feature.default_value}`;
  const [seen, setSeen] = useState({ shown, changes: 0, by: null as string | null });
  if (shown !== seen.shown) {
    const { actor = null } = state.activity.find((event) => event.feature_id === featureId) ?? {};
    // What a snapshot brings is not news.
    setSeen({ shown, changes: seen.shown === undefined ? 0 : seen.changes + 1, by: actor });
  }
  return (
    <>
      {seen.changes > 0 && seen.by !== me.user.username && (
        <span key={seen.changes} className="fc-flash" role="presentation" />
      )}
      <Group gap="xs" wrap="nowrap">
        <Text
          component={Link}
          to={scopePath(project.id, environment.key, `features/${featureId}`)}
          aria-current={current ? 'page' : undefined}
          size="sm"
          fw={600}
          className="fc-link fc-wrap"
        >
          <EnvironmentName environment={environment} />
        </Text>
        {environment.guarded && (
          <span className="fc-guarded" title={t.shell.guarded}>
            <LockIcon size={14} />
          </span>
        )}
      </Group>
      {feature === undefined ? (
        <Skeleton h={24} w="60%" animate={!gone} />
      ) : (
        <Group gap="sm" wrap="nowrap">
          <FeatureSwitch
            feature={feature}
            disabled={gone}
            label={t.feature.switchIn(feature.name, environment.name)}
          />
          <FlagValue value={feature.default_value} />
        </Group>
      )}
      {feature !== undefined && <ScheduleNote feature={feature} />}
      {state.pendingChanges.get(featureId)?.map((change) => (
        <PendingBadge key={change.id} change={change} />
      ))}
    </>
  );
}
