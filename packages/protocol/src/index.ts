export { CloseCode, isReconnectCode } from './close-codes.js';
export type { PlainMessage } from './plain.js';
export {
  errorCodes,
  freshnessReasons,
  guaranteeReasons,
  maxChannels,
  resyncReasons,
  subprotocol,
} from './v1.js';
export type * from './v1.js';
