import { Button, Stack, Text } from '@mantine/core';
import type { ReactNode } from 'react';
import { Link } from 'react-router';
import { useI18n } from '../i18n/i18n.js';
import { ActivityIcon } from './icons.js';
import { scopePath, useScope } from './scope.js';

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

/** Replaces pages that need tables which the database does not have; links to the activity. */
export function LiveOnly() {
  const { t } = useI18n();
  const { project, environment } = useScope();
  return (
    <EmptyState icon={<ActivityIcon size={36} />} title={t.liveOnly.title} text={t.liveOnly.hint}>
      <Button
        component={Link}
        to={scopePath(project.id, environment.key, 'activity')}
        variant="light"
        mt="sm"
      >
        {t.liveOnly.activity}
      </Button>
    </EmptyState>
  );
}
