/**
 * The messages, close codes and error codes that servers and clients share. PROTOCOL.md describes their order.
 *
 * @module @flagcast/protocol
 */
export { CloseCode, type CloseReason, closeReasons, isReconnectCode } from './close-codes.js';
export {
  errorCodes,
  freshnessReasons,
  guaranteeReasons,
  maxChannels,
  resyncReasons,
  subprotocol,
} from './messages.js';
export { requestErrors, type RequestErrorCode } from './request-errors.js';
export type * from './messages.js';
export type * from './states.js';
export type * from './presence.js';
