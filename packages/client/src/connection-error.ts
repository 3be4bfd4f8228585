import { FlagcastError } from './flagcast-error.js';
import type { Page } from './page.js';
import type { ConnectionStatus } from './status.js';
import { isReconnectCode } from './wire.js';

/**
 * Creates the error of a lost connection, or of an attempt that failed if it was not connected. `code` is the server's
 * error code, '' if there is none.
 */
export function connectionError(
  url: string,
  transport: ConnectionStatus['transport'],
  wasConnected: boolean,
  closeCode: number,
  code = '',
  cause?: unknown,
): FlagcastError {
  const { origin } = (globalThis as unknown as Page).location ?? {};
  // A browser hides from its page that the server refuses the page's origin.
  const isForeign = origin && !wasConnected && !url.startsWith(`${origin}/`);
  return new FlagcastError(
    code || 'connection_lost',
    isReconnectCode(closeCode)
      ? `${wasConnected ? 'Lost the connection' : 'Cannot connect'} to ${url} by ${transport} (${code || closeCode})${isForeign ? `. Is ${origin} in its FLAGCAST_ALLOWED_ORIGINS?` : ''}`
      : `Refused: ${code}`,
    { closeCode, url, cause },
  );
}
