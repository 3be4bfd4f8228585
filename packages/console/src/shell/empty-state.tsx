import { Stack, Text } from '@mantine/core';
import type { ReactNode } from 'react';

interface EmptyStateProps {
  readonly icon: ReactNode;
  readonly title: string;
  readonly text: string;
  /** Buttons. */
  readonly children?: ReactNode;
}

/** Explains why a list is empty. */
export function EmptyState({ icon, title, text, children }: EmptyStateProps) {
  return (
    <Stack className="fc-empty" align="center" justify="center" gap={6} mih={260} p="lg" ta="center">
      <Text c="dimmed" opacity={0.55} component="span">
        {icon}
      </Text>
      <Text c="var(--mantine-color-text)" fw={600}>
        {title}
      </Text>
      <span>{text}</span>
      {children}
    </Stack>
  );
}
