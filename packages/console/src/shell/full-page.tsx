import { Center, Loader, Stack, Text, Title } from '@mantine/core';
import { type ReactNode, Suspense } from 'react';
import { useI18n } from '../i18n/i18n.js';
import { ErrorBoundary } from './error-boundary.js';
import { ReloadButton } from './reload.js';

interface FullPageProps {
  readonly title: string;
  readonly text: string;
  readonly children: ReactNode;
}

/** A message instead of a page. */
export function FullPage({ title, text, children }: FullPageProps) {
  return (
    <Center component="main" mih="60dvh" p="lg">
      <Stack align="center" maw={460} ta="center">
        <Title order={1}>{title}</Title>
        <Text c="dimmed" style={{ textWrap: 'balance' }}>
          {text}
        </Text>
        {children}
      </Stack>
    </Center>
  );
}

export function PageLoader() {
  const { t } = useI18n();
  return (
    <Center mih={240}>
      <Loader aria-label={t.shell.loading} role="status" />
    </Center>
  );
}

interface LazyPageProps {
  /** Another key tries the page again. */
  readonly resetKey: string;
  readonly children: ReactNode;
}

/** A page that is loaded on demand. It is never left white: after an error it can be reloaded. */
export function LazyPage({ resetKey, children }: LazyPageProps) {
  const { t } = useI18n();
  const fallback = (
    <FullPage title={t.shell.errorTitle} text={t.shell.errorHint}>
      <ReloadButton />
    </FullPage>
  );
  return (
    <ErrorBoundary resetKey={resetKey} fallback={fallback}>
      <Suspense fallback={<PageLoader />}>{children}</Suspense>
    </ErrorBoundary>
  );
}
