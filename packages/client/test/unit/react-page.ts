import { act, type ReactNode } from 'react';
import { createRoot, type Root } from 'react-dom/client';
import { afterEach, beforeEach } from 'vitest';
import { event } from './scripted-server.js';
import { type ChannelStore, until } from './client-fixture.js';

interface ReactPage {
  /** Empty before each test. */
  container: HTMLElement;
  /** Unmounted after each test. */
  root: Root | undefined;
  readonly show: (element: ReactNode) => void;
}

interface HappyPage {
  IS_REACT_ACT_ENVIRONMENT: boolean;
  window: { happyDOM: { settings: { fetch: { disableSameOriginPolicy: boolean } } } };
}

/** A page for the components of a test file. */
export function useReactPage(): ReactPage {
  const happyPage = globalThis as unknown as HappyPage;
  // The page has no origin, so every request is cross-origin.
  happyPage.window.happyDOM.settings.fetch.disableSameOriginPolicy = true;
  const page: ReactPage = {
    container: document.createElement('div'),
    root: undefined,
    show(element) {
      const root = (page.root ??= createRoot(page.container));
      act(() => root.render(element));
    },
  };
  beforeEach(() => {
    happyPage.IS_REACT_ACT_ENVIRONMENT = true;
    page.container = document.createElement('div');
  });
  afterEach(() => {
    act(() => page.root?.unmount());
    page.root = undefined;
  });
  return page;
}

/** Calls `apply`, and waits until the changes are rendered. */
export async function applied(store: ChannelStore, apply: () => void): Promise<void> {
  const last = event(`last-${Math.random()}`, 'none', { feature: null });
  await act(async () => {
    apply();
    store.apply(last);
    await until(store.view, (state) => state.lastEvent === last);
  });
}

/** Renders the hook, and collects its return values, one per rendering. */
export function probe<Value>(use: () => Value): { Probe: () => ReactNode; values: Value[] } {
  const values: Value[] = [];
  const Probe = (): ReactNode => {
    values.push(use());
    return null;
  };
  return { Probe, values };
}
