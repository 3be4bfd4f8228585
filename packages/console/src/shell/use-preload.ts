import { useConnectionStatus } from '@flagcast/client/react';
import { useEffect } from 'react';
import { lazyRoutes } from './lazy-routes.js';

/** Delay after the page is live: what the user sees first has the network and the processor for itself. */
const delayMs = 2_000;

/** The mark in the browser's timeline when everything is loaded. */
const preloadedMark = 'flagcast:preloaded';

/**
 * Loads the other pages and the charts a moment after this one, so that they are available during an outage: a browser
 * does not retry a failed import before a reload. One after the other, so that the requests of the page do not queue
 * behind them.
 */
export function usePreload(): void {
  const isLive = useConnectionStatus().state === 'live';
  useEffect(() => {
    if (!isLive) return;
    let isOver = false;
    const preload = async (): Promise<void> => {
      for (const load of Object.values(lazyRoutes)) {
        if (isOver) return;
        await load();
      }
      performance.mark(preloadedMark);
    };
    // The page that needs a failed import shows the error. The others are tried when the page is live again.
    const timer = setTimeout(() => void preload().catch(() => undefined), delayMs);
    return () => {
      clearTimeout(timer);
      isOver = true;
    };
  }, [isLive]);
}
