import { useConnectionStatus } from '@flagcast/client/react';
import { useEffect } from 'react';
import { loadParts } from './parts.js';

/** Where a browser has no idle moments to tell of (Safari): this long after the page is live. */
const quietMs = 2_000;
/** A page that is never idle gets its parts all the same. */
const longestWaitMs = 10_000;

/** What is set in the browser's timeline once all parts are there. */
const loadedMark = 'flagcast:parts-loaded';

/**
 * Loads the other pages and the charts while nothing else happens, so that they are there when the server
 * is not: a part that a browser has once failed to load stays away until the page is reloaded. Not for
 * whoever asks for little data.
 */
export function usePartsAhead(): void {
  const isLive = useConnectionStatus().state === 'live';
  useEffect(() => {
    if (!isLive || savesData()) return;
    const leaving = new AbortController();
    const load = (): void => {
      loadParts(leaving.signal).then(
        () => {
          if (!leaving.signal.aborted) performance.mark(loadedMark);
        },
        // Whoever opens that part is told; the others are tried when the page is live again.
        () => undefined,
      );
    };
    const cancel = whenIdle(load);
    return () => {
      cancel();
      leaving.abort();
    };
  }, [isLive]);
}

interface IdleMoments {
  readonly requestIdleCallback?: Window['requestIdleCallback'];
  readonly cancelIdleCallback?: Window['cancelIdleCallback'];
}

/** Calls `run` once at an idle moment. Returns how to call it off. */
function whenIdle(run: () => void): () => void {
  const { requestIdleCallback, cancelIdleCallback } = globalThis as IdleMoments;
  if (requestIdleCallback === undefined || cancelIdleCallback === undefined) {
    const timer = setTimeout(run, quietMs);
    return () => clearTimeout(timer);
  }
  const handle = requestIdleCallback(run, { timeout: longestWaitMs });
  return () => cancelIdleCallback(handle);
}

/** Chromium tells it; elsewhere nobody does. */
function savesData(): boolean {
  const { connection } = navigator as { readonly connection?: { readonly saveData?: boolean } };
  return connection?.saveData === true;
}
