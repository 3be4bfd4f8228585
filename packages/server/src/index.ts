/**
 * Flagcast in a server of your own: `createFlagcast` and its options.
 *
 * @module flagcast
 */
export { createFlagcast, FlagcastError, type FlagcastErrorCode, flagcastErrorCodes } from './flagcast.js';
export type {
  AuthOptions,
  CreateConsole,
  DatabaseOptions,
  DatabaseSettings,
  DemoUser,
  Flagcast,
  FlagcastOptions,
  HostAuthOptions,
  LimitOptions,
  NetworkOptions,
  PgPool,
  TimeoutOptions,
} from './flagcast-options.js';
export type { Authenticate, AuthenticatedUser } from './auth/host-callbacks.js';
export type { Authorize, AuthorizedChannel } from './auth/host-callbacks.js';
export type { BatchedConnection, SocketWriter, SocketWriterFactory } from './transport/socket-writer.js';
export type { TokenChecks, TokenOptions } from './auth/token-verifier.js';
export type { ConnectionTimeouts } from './connections/connection-monitor.js';
export type { EventTypes } from './connections/codecs/plain.js';
export { Lifecycle } from './lifecycle.js';
export type { LifecycleEvents } from './lifecycle.js';
