/**
 * The client: channels with their live state, and the messages of the protocol.
 *
 * @module @flagcast/client
 */
export type * from '#protocol';
export type { ChannelState } from './channel-model.js';
export {
  type Channel,
  type Client,
  type ClientOptions,
  createClient,
  type NetworkOptions,
} from './client.js';
export type { Backoff } from './connection-machine.js';
export type { Readable } from './emitter.js';
export { FlagcastError, type FlagcastErrorDetails } from './flagcast-error.js';
export type { ChannelKey } from './request.js';
export type {
  ChannelStatus,
  ConnectionDetails,
  ConnectionPhase,
  ConnectionStatus,
  StaleReason,
  StaleStatus,
} from './status.js';
export type { Subscription } from './subscription.js';
export type { WebSocketClass, WebSocketLike } from './transport.js';
