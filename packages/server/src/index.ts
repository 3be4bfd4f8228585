export { createFlagcast } from './flagcast.js';
export type { Flagcast, FlagcastOptions } from './flagcast.js';
export { Lifecycle } from './lifecycle.js';
export type { LifecycleEvents } from './lifecycle.js';
