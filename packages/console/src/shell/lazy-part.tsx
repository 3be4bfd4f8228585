import { Alert, Group } from '@mantine/core';
import { type ComponentType, lazy, Suspense } from 'react';
import { createPortal } from 'react-dom';
import { useI18n } from '../i18n/i18n.js';
import { ErrorBoundary } from './error-boundary.js';
import { ReloadButton } from './reload.js';

/**
 * A dialog or popup that is loaded on demand. The page stays when it cannot be loaded: after an update, or in an outage.
 * Without `onClose` it stays until its parent removes it.
 */
export function lazyPart<Props extends { readonly onClose?: (() => void) | undefined }>(
  load: () => Promise<{ readonly default: ComponentType<Props> }>,
): ComponentType<Props> {
  const Part = lazy(load);
  return function OnDemand(props) {
    const { t } = useI18n();
    const { onClose } = props;
    // In the body: its ancestors may be transformed, and then `fixed` is relative to them.
    const fallback = createPortal(
      <Alert
        color="red"
        role="alert"
        className="fc-part-failed"
        {...(onClose && { withCloseButton: true, closeButtonLabel: t.shell.close, onClose })}
        title={t.shell.errorTitle}
      >
        <Group>
          {t.shell.errorHint}
          <ReloadButton size="xs" variant="default" />
        </Group>
      </Alert>,
      document.body,
    );
    return (
      <ErrorBoundary resetKey="" fallback={fallback}>
        <Suspense>
          <Part {...props} />
        </Suspense>
      </ErrorBoundary>
    );
  };
}
