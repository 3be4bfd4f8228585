import type { Machine } from './connection-machine.js';
import { FlagcastError, type FlagcastErrorDetails } from './flagcast-error.js';
import type { Page } from './page.js';
import { isReconnectCode } from './wire.js';

/** Why a connection was lost, or could not be opened. */
export interface Loss extends Pick<FlagcastErrorDetails, 'closeCode' | 'retryAfterMs' | 'cause'> {
  /** The error code of the server or the client; '' or undefined if there is none. */
  readonly code?: string | undefined;
}

/** Creates the error of the connection of this machine, before the machine knows that it is lost. */
export function connectionError(
  { code, closeCode = 0, retryAfterMs = 0, cause }: Loss,
  url: string,
  { helloAtMs, usesStreams }: Machine,
): FlagcastError {
  const { origin } = (globalThis as unknown as Page).location ?? {};
  // A browser hides from its page that the server refuses the page's origin.
  const isForeign = origin && !helloAtMs && !url.startsWith(`${origin}/`);
  return new FlagcastError(
    code || 'connection_lost',
    isReconnectCode(closeCode)
      ? `${helloAtMs ? 'Lost' : 'No'} connection to ${url} by ${usesStreams ? 'sse' : 'websocket'} (${code || closeCode})${isForeign ? `. Is ${origin} in its FLAGCAST_ALLOWED_ORIGINS?` : ''}`
      : `Refused: ${code}`,
    { closeCode, retryAfterMs, url, cause },
  );
}
