export { natsRelay } from './nats-relay.js';
export type { NatsRelayOptions } from './nats-relay.js';
