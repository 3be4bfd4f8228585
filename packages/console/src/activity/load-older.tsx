import { Button, Group, Loader, Text } from '@mantine/core';
import { useEffect, useRef } from 'react';
import { useI18n } from '../i18n/i18n.js';
import type { Timeline } from './use-history.js';

/**
 * Loads older entries when the end of the list is near, or by a button: after a failed read, and to search further back,
 * only by the button.
 */
export function LoadOlder({ timeline }: { readonly timeline: Timeline }) {
  const { items, error, hasMore, searchedUntil, loading, loadMore } = timeline;
  const failed = error !== null;
  const { t, format } = useI18n();
  const ref = useRef<HTMLDivElement>(null);
  useEffect(() => {
    const element = ref.current;
    if (element === null || !hasMore || searchedUntil !== null || loading || failed) return;
    const observer = new IntersectionObserver(
      ([entry]) => {
        if (entry?.isIntersecting === true) loadMore();
      },
      { rootMargin: '600px' },
    );
    observer.observe(element);
    return () => observer.disconnect();
  }, [hasMore, searchedUntil, loading, failed, loadMore]);
  return (
    <Group ref={ref} justify="center" mt="sm" mih={40}>
      {searchedUntil !== null && (
        <Text size="xs" c="dimmed" role="status">
          {(hasMore ? t.activity.searchedUntil : t.activity.searchedOnly)(
            format.dateTime(Date.parse(searchedUntil)),
          )}
        </Text>
      )}
      {loading ? (
        <Loader size="sm" role="status" aria-label={t.shell.loading} />
      ) : hasMore ? (
        <Button variant="subtle" onClick={loadMore}>
          {searchedUntil === null ? t.activity.older : t.activity.searchFurther}
        </Button>
      ) : (
        !failed &&
        items.length > 0 &&
        searchedUntil === null && (
          <Text size="xs" c="dimmed">
            {t.activity.end}
          </Text>
        )
      )}
    </Group>
  );
}
