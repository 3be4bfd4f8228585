import { act } from 'react';
import type { Root } from 'react-dom/client';
import { afterEach, beforeEach } from 'vitest';

interface ReactPage {
  /** Empty before each test. */
  container: HTMLElement;
  /** Unmounted after each test. */
  root: Root | undefined;
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
  const page: ReactPage = { container: document.createElement('div'), root: undefined };
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
