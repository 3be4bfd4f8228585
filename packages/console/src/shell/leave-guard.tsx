import { Button, Group, Stack, Text } from '@mantine/core';
import { createContext, type ReactNode, use, useEffect, useMemo, useRef, useState } from 'react';
import { UNSAFE_NavigationContext as NavigationContext } from 'react-router';
import { useI18n } from '../i18n/i18n.js';
import { Dialog } from './dialog.js';

const LeaveGuardContext = createContext<(isGuarded: boolean) => void>(() => undefined);

/** Asks before the user leaves the page: by a link or a shortcut, or by closing the tab. */
export function useLeaveGuard(isGuarded: boolean): void {
  const setGuarded = use(LeaveGuardContext);
  useEffect(() => {
    if (!isGuarded) return;
    const ask = (event: BeforeUnloadEvent): void => event.preventDefault();
    setGuarded(true);
    addEventListener('beforeunload', ask);
    return () => {
      setGuarded(false);
      removeEventListener('beforeunload', ask);
    };
  }, [isGuarded, setGuarded]);
}

/** Holds back navigations from a guarded page until the user has confirmed them. */
export function LeaveGuardProvider({ children }: { readonly children: ReactNode }) {
  const { t } = useI18n();
  const context = use(NavigationContext);
  const isGuarded = useRef(false);
  const [leave, setLeave] = useState<(() => void) | null>(null);
  const guarded = useMemo(() => {
    const { navigator } = context;
    const push: typeof navigator.push = (...target) => {
      if (isGuarded.current) setLeave(() => () => navigator.push(...target));
      else navigator.push(...target);
    };
    return { ...context, navigator: { ...navigator, push } };
  }, [context]);
  const setGuarded = useMemo(
    () => (next: boolean) => {
      isGuarded.current = next;
    },
    [],
  );
  return (
    <NavigationContext value={guarded}>
      <LeaveGuardContext value={setGuarded}>
        {children}
        {leave !== null && (
          <Dialog title={t.shell.leaveTitle} onClose={() => setLeave(null)}>
            <Stack>
              <Text size="sm">{t.shell.leaveHint}</Text>
              <Group justify="flex-end">
                <Button variant="default" onClick={() => setLeave(null)} data-autofocus>
                  {t.shell.stay}
                </Button>
                <Button
                  color="red"
                  onClick={() => {
                    setLeave(null);
                    leave();
                  }}
                >
                  {t.shell.leave}
                </Button>
              </Group>
            </Stack>
          </Dialog>
        )}
      </LeaveGuardContext>
    </NavigationContext>
  );
}
