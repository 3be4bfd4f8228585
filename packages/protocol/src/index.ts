export { CloseCode, isReconnectCode } from './close-codes.js';
export type { PlainMessage } from './plain.js';
