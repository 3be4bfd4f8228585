import { createSafeContext, Notification } from '@mantine/core';
import { type ReactNode, useCallback, useRef, useState } from 'react';
import { describeError } from '../api/api.js';
import { useI18n } from '../i18n/i18n.js';
import { visible } from '../i18n/visible.js';

type Kind = 'success' | 'error';

interface Notifications {
  /** Shows one line. A success disappears after 5 s, an error stays until the user closes it. */
  readonly notify: (kind: Kind, text: string) => void;
  /** Shows an error in the language of the page. */
  readonly notifyError: (error: unknown) => void;
}

const [NotificationsContext, useNotifications] = createSafeContext<Notifications>(
  'useNotifications needs a NotificationsProvider',
);
export { useNotifications };

const successShownMs = 5_000;
const maxShown = 4;

interface ToastContent {
  readonly id: number;
  readonly kind: Kind;
  readonly text: string;
}

/** Shows notifications at the edge of the screen. Screen readers read them out. */
export function NotificationsProvider({ children }: { readonly children: ReactNode }) {
  const { t } = useI18n();
  const [shown, setShown] = useState<readonly ToastContent[]>([]);
  const lastId = useRef(0);
  const remove = useCallback((id: number) => {
    setShown((toasts) => toasts.filter((toast) => toast.id !== id));
  }, []);
  const notify = useCallback<Notifications['notify']>(
    (kind, text) => {
      lastId.current += 1;
      const toast = { id: lastId.current, kind, text };
      setShown((toasts) => [...toasts.slice(1 - maxShown), toast]);
      if (kind === 'success') setTimeout(remove, successShownMs, toast.id);
    },
    [remove],
  );
  const notifyError = useCallback<Notifications['notifyError']>(
    (error) => {
      notify('error', describeError(error, t));
    },
    [notify, t],
  );
  return (
    <NotificationsContext value={{ notify, notifyError }}>
      {children}
      <div className="fc-notifications" role="status" aria-live="polite">
        {shown.map(({ id, kind, text }) => (
          <Notification
            key={id}
            role="presentation"
            color={kind === 'error' ? 'red' : 'teal'}
            onClose={() => remove(id)}
            closeButtonProps={{ 'aria-label': t.shell.close }}
            withBorder
          >
            {visible(text)}
          </Notification>
        ))}
      </div>
    </NotificationsContext>
  );
}
