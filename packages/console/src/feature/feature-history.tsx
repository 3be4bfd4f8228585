import { Paper, Stack, Text, Title } from '@mantine/core';
import { HistoryList } from '../activity/history-list.js';
import { MoreBelow } from '../activity/more-below.js';
import { useHistory } from '../activity/use-history.js';
import { useTexts } from '../texts/texts.js';

/** Everything that ever happened to the feature in this environment, newest first. */
export function FeatureHistory({ featureId }: { readonly featureId: string }) {
  const { t } = useTexts();
  const { entries, hasMore, loading, loadMore } = useHistory({ feature_id: featureId });
  return (
    <Paper withBorder p="lg" component="section" aria-label={t.feature.history}>
      <Stack>
        <Title order={2}>{t.feature.history}</Title>
        {entries.length === 0 && !loading && (
          <Text size="sm" c="dimmed">
            {t.activity.nothing}
          </Text>
        )}
        <HistoryList entries={entries} withFeature={false} />
        <MoreBelow hasMore={hasMore} loading={loading} loadMore={loadMore} />
      </Stack>
    </Paper>
  );
}
