import { Paper, Stack, Text, Title } from '@mantine/core';
import { HistoryList } from '../activity/history-list.js';
import { MoreBelow } from '../activity/more-below.js';
import { useTimeline } from '../activity/use-timeline.js';
import { FailureAlert } from '../shell/failure-alert.js';
import { useTexts } from '../texts/texts.js';

/** Everything that ever happened to the feature in this environment, newest first. */
export function FeatureHistory({ featureId }: { readonly featureId: string }) {
  const { t } = useTexts();
  const { items, hasMore, searchedUntil, loading, error, loadMore, retry } = useTimeline({
    feature_id: featureId,
  });
  return (
    <Paper withBorder p="lg" component="section" aria-label={t.feature.history}>
      <Stack>
        <Title order={2}>{t.feature.history}</Title>
        {items.length === 0 && !loading && error === null && (
          <Text size="sm" c="dimmed">
            {t.activity.nothing}
          </Text>
        )}
        {error !== null && <FailureAlert error={error} onRetry={retry} />}
        <HistoryList entries={items} about="nothing" />
        <MoreBelow
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
