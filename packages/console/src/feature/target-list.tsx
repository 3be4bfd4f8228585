import { Text, Title } from '@mantine/core';
import type { ReactNode } from 'react';
import { useI18n } from '../i18n/i18n.js';

interface TargetListProps {
  readonly title: string;
  readonly shown: number;
  readonly total: number | undefined;
  readonly note?: string | null;
  readonly children: ReactNode;
}

/** A list with its title. If it is not whole, it says so. */
export function TargetList({ title, shown, total = shown, note = null, children }: TargetListProps) {
  const { t } = useI18n();
  return (
    <div>
      <Title order={3} size="h5">
        {title}
        <Text size="sm" c="dimmed" component="span">
          {note !== null && ` ${note}`}
          {shown < total && ` · ${t.targeting.first(shown, total)}`}
        </Text>
      </Title>
      {children}
    </div>
  );
}
