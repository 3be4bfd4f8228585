import { Paper, Stack, Text, Title } from '@mantine/core';
import { useMemo } from 'react';
import { HistoryList } from '../activity/history-list.js';
import { LoadOlder } from '../activity/load-older.js';
import { useTimeline } from '../activity/use-timeline.js';
import { FailureAlert } from '../shell/failure-alert.js';
import { useI18n } from '../i18n/i18n.js';

/** The history of the flag in this environment, newest first. */
export function FeatureHistory({ featureId }: { readonly featureId: string }) {
  const { t } = useI18n();
  const filter = useMemo(() => ({ feature_id: featureId }), [featureId]);
  const { items, hasMore, searchedUntil, loading, error, loadMore, retry } = useTimeline(filter);
  return (
    <Paper withBorder p="lg" component="section" aria-label={t.feature.history}>
      <Stack>
        <Title order={2}>{t.feature.history}</Title>
        {items.length === 0 && !loading && error === null && (
          <Text size="sm" c="dimmed">
            {t.activity.empty}
          </Text>
        )}
        {error !== null && <FailureAlert error={error} onRetry={retry} />}
        <HistoryList entries={items} about="nothing" />
        <LoadOlder
          hasMore={hasMore}
          searchedUntil={searchedUntil}
          loading={loading}
          failed={error !== null}
          loadMore={loadMore}
        />
      </Stack>
    </Paper>
  );
}
