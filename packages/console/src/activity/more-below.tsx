import { Button, Group, Loader, Text } from '@mantine/core';
import { useEffect, useRef } from 'react';
import { useTexts } from '../texts/texts.js';

interface MoreBelowProps {
  readonly hasMore: boolean;
  readonly loading: boolean;
  /** What is older could not be read: then it is read again only when somebody asks. */
  readonly failed: boolean;
  readonly loadMore: () => void;
}

/** Loads what is older when the end of the list comes near; a button for who does not scroll. */
export function MoreBelow({ hasMore, loading, failed, loadMore }: MoreBelowProps) {
  const { t } = useTexts();
  const place = useRef<HTMLDivElement>(null);
  useEffect(() => {
    const element = place.current;
    if (element === null || !hasMore || loading || failed) return;
    const observer = new IntersectionObserver(
      ([entry]) => {
        if (entry?.isIntersecting === true) loadMore();
      },
      { rootMargin: '600px' },
    );
    observer.observe(element);
    return () => observer.disconnect();
  }, [hasMore, loading, failed, loadMore]);
  return (
    <Group ref={place} justify="center" mt="sm" mih={40}>
      {loading ? (
        <Loader size="sm" role="status" aria-label={t.shell.loading} />
      ) : hasMore ? (
        <Button variant="subtle" onClick={loadMore}>
          {t.activity.older}
        </Button>
      ) : (
        !failed && (
          <Text size="xs" c="dimmed">
            {t.activity.beginning}
          </Text>
        )
      )}
    </Group>
  );
}
