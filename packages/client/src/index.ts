export type * from '#protocol';
export type { Channel } from './channel.js';
export { type Client, type ClientOptions, createClient, type NetworkOptions } from './client.js';
export { FlagcastError } from './flagcast-error.js';
export type { ChannelKey } from './request.js';
export type { ChannelStatus, ConnectionStatus, StaleReason, StaleStatus } from './status.js';
export type { ChannelState } from './store.js';
export type { WebSocketClass, WebSocketLike } from './transport.js';
