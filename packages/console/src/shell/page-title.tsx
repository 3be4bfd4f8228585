import { Group, Title } from '@mantine/core';
import { type ReactNode, useDeferredValue } from 'react';
import { useConcerns } from '../approvals/use-concerns.js';
import { useScope } from './scope.js';
import { visible } from '../i18n/visible.js';

/** The title of the browser tab, e.g. `(2) Flags · prod · Web shop · Flagcast`: two unseen requests or decisions. */
export function PageTitle({ text }: { readonly text: string }) {
  const { project, environment } = useScope();
  const { unseen } = useConcerns();
  const count = unseen.length === 0 ? '' : `(${unseen.length}) `;
  const title = `${count}${text} · ${visible(environment.key)} · ${visible(project.name)} · Flagcast`;
  // After the page: the browser draws the title outside of it, which costs more than most changes of the page.
  return <title>{useDeferredValue(title)}</title>;
}

interface PageHeadProps {
  readonly title: string;
  /** Below the title. */
  readonly subtitle: ReactNode;
  /** Buttons. */
  readonly children?: ReactNode;
}

/** The head of a page, with its title also for the browser tab. */
export function PageHead({ title, subtitle, children }: PageHeadProps) {
  return (
    <Group justify="space-between" align="flex-start" gap="sm" className="fc-title-row">
      <PageTitle text={title} />
      <div>
        <Title order={1}>{title}</Title>
        <Group gap="4px 14px" mih={22} mt={2} fz="sm" c="dimmed">
          {subtitle}
        </Group>
      </div>
      <Group gap="xs">{children}</Group>
    </Group>
  );
}
