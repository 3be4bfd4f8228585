export type * from '#protocol';
export type { Channel } from './channel.js';
export { type Client, type ClientOptions, createClient, type Transport } from './client.js';
export type { ConnectionStatus } from './connection.js';
export { FlagcastError } from './flagcast-error.js';
export type { WebSocketClass, WebSocketLike } from './line.js';
export type { ChannelName } from './request.js';
export type { StaleReason, StaleStatus } from './status.js';
export type { ChannelState, ChannelStatus } from './store.js';
