/** What @flagcast/relay-nats needs of the server. Not a public interface: it changes with both. */
export { parseRelayUrl } from './cli/relay-url.js';
export type { CreateRelay, Relay, RelayContext, RelayedReader, RelaySession } from './broadcast/relay.js';
export { NewestStates } from './broadcast/replay-buffer.js';
export { toError } from './describe.js';
export { byChannel } from './events/event.js';
export type { Batch, ControlEntry, FlagEvent, PartialRead, ReadState, RelayedRead } from './events/event.js';
export { covers } from './events/position.js';
export type { Coverage, Position } from './events/position.js';
export type { Lifecycle } from './lifecycle.js';
export { backoffMs, retry } from './retry.js';
