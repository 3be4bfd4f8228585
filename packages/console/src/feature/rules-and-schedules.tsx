import { Badge, Group, Paper, Stack, Text, Title } from '@mantine/core';
import { useQuery, useQueryClient } from '@tanstack/react-query';
import { useEffect } from 'react';
import { useLiveChannel } from '../api/live.js';
import type { FeatureDetails, RuleOrSchedule } from '../api/types.js';
import { FailureAlert } from '../shell/failure-alert.js';
import { useScope } from '../shell/scope.js';
import { useApi } from '../sign-in/app-services.js';
import { useI18n } from '../i18n/i18n.js';
import { FieldValue } from './field-value.js';
import { useFieldName } from './diff-list.js';

/** The rules and schedules of a flag, read only. */
export function RulesAndSchedules({ featureId }: { readonly featureId: string }) {
  const { t } = useI18n();
  const api = useApi();
  const queries = useQueryClient();
  const { environment } = useScope();
  const { channel } = useLiveChannel();
  const { data, error, refetch } = useQuery({
    queryKey: ['feature', featureId, environment.key],
    queryFn: async () =>
      await api.get<FeatureDetails>(
        `/api/features/${featureId}?${new URLSearchParams({ env: environment.key }).toString()}`,
      ),
  });
  useEffect(
    () =>
      channel.onEvent((event) => {
        if (event.feature_id !== featureId || event.entity === 'feature') return;
        void queries.invalidateQueries({ queryKey: ['feature', featureId] });
      }),
    [channel, queries, featureId],
  );
  if (error !== null && data === undefined)
    return <FailureAlert error={error} onRetry={() => void refetch()} />;
  if (data === undefined) return null;
  return (
    <>
      <Section title={t.feature.rules} emptyText={t.feature.noRules} items={data.rules} />
      <Section title={t.feature.schedules} emptyText={t.feature.noSchedules} items={data.schedules} />
    </>
  );
}

interface SectionProps {
  readonly title: string;
  readonly emptyText: string;
  readonly items: readonly RuleOrSchedule[];
}

/** Not shown as labelled values. */
const hiddenFields = new Set([
  'id',
  'feature_id',
  'project_id',
  'environment_id',
  'created_at',
  'updated_at',
  'action',
  'conditions',
]);

function Section({ title, emptyText, items }: SectionProps) {
  const fieldName = useFieldName();
  return (
    <Paper withBorder p="lg" component="section" aria-label={title}>
      <Stack gap="sm">
        <Title order={2}>{title}</Title>
        {items.length === 0 && (
          <Text size="sm" c="dimmed">
            {emptyText}
          </Text>
        )}
        {items.map((item) => (
          <div key={item.id} className="fc-rule">
            {typeof item['action'] === 'string' && (
              <Badge variant="light" tt="none" size="md">
                <FieldValue field="action" value={item['action']} />
              </Badge>
            )}
            <Text component="div" size="sm" className="fc-condition">
              {item['conditions'] === undefined ? null : (
                <FieldValue field="conditions" value={item['conditions']} />
              )}
            </Text>
            <Group gap="md">
              {Object.entries(item)
                .filter(([field, value]) => !hiddenFields.has(field) && value !== null)
                .map(([field, value]) => (
                  <Text key={field} size="sm" component="span">
                    <Text c="dimmed" component="span" size="sm">
                      {fieldName(field)}:{' '}
                    </Text>
                    <FieldValue field={field} value={value} />
                  </Text>
                ))}
            </Group>
          </div>
        ))}
      </Stack>
    </Paper>
  );
}
