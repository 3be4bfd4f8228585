import { Text } from '@mantine/core';
import {
  createContext,
  type ReactNode,
  use,
  useEffect,
  useLayoutEffect,
  useMemo,
  useRef,
  useState,
} from 'react';
import { UNSAFE_NavigationContext as NavigationContext, useLocation } from 'react-router';
import { useI18n } from '../i18n/i18n.js';
import { FormDialog } from './dialog.js';

const LeaveGuardContext = createContext<(isGuarded: boolean) => void>(() => undefined);

/** Asks before the user leaves the page: by a link or a shortcut, by Back or Forward, or by closing the tab. */
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
  /** The place of the guarded page in the history; null if none is guarded. */
  const guardedAt = useRef<number | null>(null);
  /** The last entry of the history that the page was at. */
  const last = useRef({ place: 0, path: location.pathname });
  const shown = useLocation();
  useLayoutEffect(() => {
    last.current = { place: placeOf(history.state) ?? last.current.place, path: location.pathname };
  }, [shown]);
  const [leave, setLeave] = useState<(() => void) | null>(null);
  const guarded = useMemo(() => {
    const { navigator } = context;
    const push: typeof navigator.push = (...target) => {
      if (guardedAt.current !== null) setLeave(() => () => navigator.push(...target));
      else navigator.push(...target);
    };
    return { ...context, navigator: { ...navigator, push } };
  }, [context]);
  const setGuarded = useMemo(
    () => (next: boolean) => {
      guardedAt.current = next ? last.current.place : null;
      // What was asked about is saved meanwhile.
      if (!next) setLeave(null);
    },
    [],
  );
  // The layout effect of the router, which is a parent, adds its listener after this one.
  useLayoutEffect(() => {
    const onPop = (event: PopStateEvent): void => {
      const place = placeOf(event.state) ?? last.current.place + 1;
      // The user has edited the hash of the address: the browser has added an entry, without a place.
      if (placeOf(event.state) === null) history.replaceState({ ...history.state, idx: place }, '');
      const guardedPlace = guardedAt.current;
      if (guardedPlace === null) return;
      // Another entry of the guarded page.
      if (location.pathname === last.current.path) {
        guardedAt.current = place;
        return;
      }
      event.stopImmediatePropagation();
      history.go(guardedPlace - place);
      setLeave(() => () => {
        guardedAt.current = null;
        history.go(place - guardedPlace);
      });
    };
    addEventListener('popstate', onPop);
    return () => removeEventListener('popstate', onPop);
  }, []);
  return (
    <NavigationContext value={guarded}>
      <LeaveGuardContext value={setGuarded}>
        {children}
        {leave !== null && (
          <FormDialog
            title={t.shell.leaveTitle}
            submitLabel={t.shell.leave}
            submitColor="red"
            cancelLabel={t.shell.stay}
            focus="cancel"
            onClose={() => setLeave(null)}
            onSubmit={() => {
              setLeave(null);
              leave();
            }}
          >
            <Text size="sm">{t.shell.leaveHint}</Text>
          </FormDialog>
        )}
      </LeaveGuardContext>
    </NavigationContext>
  );
}

/** The number that the router has given to an entry of the history; null if it has given none. */
function placeOf(state: unknown): number | null {
  return (state as { readonly idx?: number } | null)?.idx ?? null;
}
