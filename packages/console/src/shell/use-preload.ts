import { useConnectionStatus } from '@flagcast/client/react';
import { useEffect } from 'react';
import { preloadRoutes } from './lazy-routes.js';

/** Delay after the page is live: what the user sees first has the network and the processor for itself. */
const delayMs = 2_000;

/** The mark in the browser's timeline when everything is loaded. */
const preloadedMark = 'flagcast:preloaded';

/**
 * Loads the other pages and the charts a moment after this one, so that they are available during an outage: a browser
 * does not retry a failed import before a reload.
 */
export function usePreload(): void {
  const isLive = useConnectionStatus().state === 'live';
  useEffect(() => {
    if (!isLive) return;
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
    const timer = setTimeout(preload, delayMs);
    return () => {
      clearTimeout(timer);
      abort.abort();
    };
  }, [isLive]);
}
