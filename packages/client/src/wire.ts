import type { CloseCode, subprotocol as protocolName } from '#protocol';

// The values of the protocol are repeated here, so that a page without a bundler can load the built files: `#protocol`
// is a name of Node and of bundlers. Everything else is imported as types.

export const subprotocol: typeof protocolName = 'flagcast.v1';
export const draining: typeof CloseCode.draining = 4000;
export const badToken: typeof CloseCode.badToken = 4501;
export const unknownChannel: typeof CloseCode.unknownChannel = 4504;

/** Whether a client should reconnect after it was closed with `code`. */
export function isReconnectCode(code: number): boolean {
  return code < 4500 || code > 4999;
}
