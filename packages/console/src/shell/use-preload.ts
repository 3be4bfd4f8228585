import { useConnectionStatus } from '@flagcast/client/react';
import { useEffect } from 'react';
import { preloadRoutes } from './lazy-routes.js';

/** Delay in browsers without requestIdleCallback (Safari). */
const delayWithoutIdleMs = 2_000;
/** A page that is never idle preloads after this time. */
const maxIdleWaitMs = 10_000;

/** The mark in the browser's timeline when everything is loaded. */
const preloadedMark = 'flagcast:preloaded';

/**
 * Loads the other pages and the charts when the browser is idle, so that they are available during an outage: a browser
 * does not retry a failed import before a reload. Respects the browser's data saver.
 */
export function usePreload(): void {
  const isLive = useConnectionStatus().state === 'live';
  useEffect(() => {
    if (!isLive || savesData()) return;
    const abort = new AbortController();
    const preload = (): void => {
      preloadRoutes(abort.signal).then(
        () => {
          if (!abort.signal.aborted) performance.mark(preloadedMark);
        },
        // The page that needs a failed import shows the error. The others are tried when the page is live again.
        () => undefined,
      );
    };
    const cancel = whenIdle(preload);
    return () => {
      cancel();
      abort.abort();
    };
  }, [isLive]);
}

interface IdleCallbacks {
  readonly requestIdleCallback?: Window['requestIdleCallback'];
  readonly cancelIdleCallback?: Window['cancelIdleCallback'];
}

/** Calls `run` once when the browser is idle. Returns a function that cancels it. */
function whenIdle(run: () => void): () => void {
  const { requestIdleCallback, cancelIdleCallback } = globalThis as IdleCallbacks;
  if (requestIdleCallback === undefined || cancelIdleCallback === undefined) {
    const timer = setTimeout(run, delayWithoutIdleMs);
    return () => clearTimeout(timer);
  }
  const handle = requestIdleCallback(run, { timeout: maxIdleWaitMs });
  return () => cancelIdleCallback(handle);
}

/** The data saver is known only in Chromium. */
function savesData(): boolean {
  const { connection } = navigator as { readonly connection?: { readonly saveData?: boolean } };
  return connection?.saveData === true;
}
