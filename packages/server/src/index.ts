export { createFlagcast } from './flagcast.js';
export type { Flagcast, FlagcastOptions } from './flagcast-options.js';
export type { Authenticate, AuthenticatedUser } from './access/authenticate.js';
export type { Authorize, AuthorizedChannel } from './access/authorize.js';
export { Lifecycle } from './lifecycle.js';
export type { LifecycleEvents } from './lifecycle.js';
