import { useLocalStorage } from '@mantine/hooks';
import { useEffect, useRef } from 'react';
import { useNavigate } from 'react-router';
import type { OpenChange } from '../api/types.js';
import { useScope } from '../shell/scope.js';
import { useI18n } from '../i18n/i18n.js';
import { concernText } from './requests.js';
import { useOpenChanges } from './open-changes.js';
import { stateKey } from './use-concerns.js';

const isSupported = (): boolean => 'Notification' in globalThis;

/** Whether the user wants notifications in this browser. */
function useStoredChoice() {
  const { me } = useScope();
  return useLocalStorage({
    key: `flagcast.notify ${me.user.id}`,
    defaultValue: false,
    getInitialValueInEffect: false,
  });
}

/** The choice of the user. Reading the permission blocks the page for more than a millisecond: not for each event. */
export function useNotificationChoice() {
  const [enabled, setEnabled] = useStoredChoice();
  const permission = isSupported() ? Notification.permission : 'denied';
  return {
    /** Whether this browser can show notifications, and the user has not blocked them. */
    isPossible: permission !== 'denied',
    enabled: enabled && permission === 'granted',
    /** Asks the user for the permission if necessary. */
    setEnabled: (wanted: boolean) => {
      if (!wanted) setEnabled(false);
      else void Notification.requestPermission().then((answer) => setEnabled(answer === 'granted'));
    },
  };
}

/** Shows a notification of the browser for each new concern while the user looks at something else. Opt-in. */
export function useBrowserNotifications(concerns: readonly OpenChange[]): void {
  const { t } = useI18n();
  const { loading } = useOpenChanges();
  const navigate = useNavigate();
  const [enabled, setEnabled] = useStoredChoice();
  const known = useRef<ReadonlySet<string> | null>(null);
  useEffect(() => {
    if (loading) return;
    const before = known.current;
    known.current = enabled ? new Set(concerns.map(stateKey)) : null;
    if (before === null || !enabled || !isSupported() || document.hasFocus()) return;
    for (const change of concerns.filter((each) => !before.has(stateKey(each)))) {
      try {
        // Several tabs show one.
        const notification = new Notification(concernText(change, t), {
          body: change.decision_reason ?? change.reason ?? '',
          tag: stateKey(change),
        });
        notification.addEventListener('click', () => {
          window.focus();
          void navigate(`/approvals/${change.id}`);
        });
      } catch {
        // Chrome on Android has the class, but shows only notifications of service workers.
        setEnabled(false);
        return;
      }
    }
  }, [concerns, enabled, setEnabled, loading, navigate, t]);
}
