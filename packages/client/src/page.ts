import { FlagcastError } from './flagcast-error.js';

/** The globals of a page that the client uses. None of them exists in Node. */
export type Page = Partial<Pick<Window, 'addEventListener' | 'document' | 'location'>>;

/**
 * Returns the server's base URL with a slash at its end. Throws a FlagcastError `bad_url` if it is not an address of
 * http or https. A path needs a page. The address of the API, `…/api` or `…/api/ws`, stands for its server.
 */
export function resolveBaseUrl(url: string): string {
  const { location } = globalThis as unknown as Page;
  try {
    const base = url.startsWith('/') ? location?.href : undefined;
    const { href } = new URL(url.replace(/(\/api(\/ws)?)?\/*$/, '/').replace(/^ws/, 'http'), base);
    if (href.startsWith('http')) return href;
  } catch {
    // It is refused below.
  }
  throw new FlagcastError('bad_url', `url is ${url}: give https://flags.example.com, or a path in a page`);
}

/**
 * Calls `onGone` with the reason when the page loses its network or is left, because a browser keeps no page with an open
 * connection in its back-forward cache, and `onWake` when the network or the page becomes available again. Abort the
 * returned controller to stop. Does nothing in Node.
 */
export function watchPage(
  onGone: (reason: 'offline' | 'pagehide') => void,
  onWake: () => void,
): AbortController {
  const { addEventListener, document } = globalThis as unknown as Page;
  const controller = new AbortController();
  for (const type of ['online', 'offline', 'pagehide', 'pageshow', 'visibilitychange'] as const) {
    const listener = (): void => {
      if (type === 'offline' || type === 'pagehide') onGone(type);
      else if (type === 'online' || !document?.hidden) onWake();
    };
    addEventListener?.(type, listener, controller);
  }
  return controller;
}
