import { Button, Group, Loader, Text } from '@mantine/core';
import { useEffect, useRef } from 'react';
import { useI18n } from '../i18n/i18n.js';

interface LoadOlderProps {
  readonly hasMore: boolean;
  /** RFC 3339: how far back rare entries were searched; the search then continues only by the button. */
  readonly searchedUntil: string | null;
  readonly loading: boolean;
  /** The last read failed: scrolling does not read again. */
  readonly failed: boolean;
  /** There are no entries, so that there is no end of them. */
  readonly isEmpty: boolean;
  readonly loadMore: () => void;
}

/** Loads older entries when the end of the list is near, or by a button. */
export function LoadOlder(props: LoadOlderProps) {
  const { hasMore, searchedUntil, loading, failed, isEmpty, loadMore } = props;
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
        !isEmpty &&
        searchedUntil === null && (
          <Text size="xs" c="dimmed">
            {t.activity.end}
          </Text>
        )
      )}
    </Group>
  );
}
