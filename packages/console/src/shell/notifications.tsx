import { createSafeContext, Notification } from '@mantine/core';
import { type ReactNode, useCallback, useRef, useState } from 'react';
import { ApiError } from '../api/api.js';
import type { Messages } from '../i18n/en.js';
import { useI18n } from '../i18n/i18n.js';
import { nameOf, visible } from '../i18n/visible.js';

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

/** One line about an error, in the language of the page. */
export function describeError(error: unknown, { errors }: Messages): string {
  return error instanceof ApiError ? describeCode(error.code, errors) : String(error);
}

/** One line about an error code of the server. An unknown one is quoted, for the administrator. */
export function describeCode(code: string, errors: Messages['errors']): string {
  return Object.hasOwn(errors, code) ? nameOf(errors, code) : `${errors.unexpected} (${visible(code)})`;
}

/** What is wrong with each input; unknown problems as the server words them. */
export function describeFields(
  error: unknown,
  { fieldProblems }: Messages,
): Readonly<Record<string, string>> {
  if (!(error instanceof ApiError)) return {};
  const described = Object.entries(error.fields).map(([field, problem]) => {
    const text = nameOf(fieldProblems, problem.replace(/\d+/, '#'));
    return [field, text.replace('#', /\d+/.exec(problem)?.[0] ?? '')];
  });
  return Object.fromEntries(described) as Readonly<Record<string, string>>;
}
