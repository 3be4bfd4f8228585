export { createFlagcast } from './flagcast.js';
export type { Flagcast, FlagcastOptions } from './flagcast-options.js';
export type { Authenticate, AuthenticatedUser } from './auth/authenticate.js';
export type { Authorize, AuthorizedChannel } from './auth/authorize.js';
export type { BatchedConnection, SocketWriter, SocketWriterFactory } from './transport/socket-writer.js';
export { Lifecycle } from './lifecycle.js';
export type { LifecycleEvents } from './lifecycle.js';
