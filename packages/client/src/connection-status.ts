import { createEmitter, isEqual, observe, type Readable } from './emitter.js';
import type { ConnectionStatus } from './status.js';

/** The status of a connection and its listeners. */
export interface StatusSource {
  /** Returns the same object until the status changes. */
  readonly getStatus: () => ConnectionStatus;
  /** Calls `listener` with the status when it has changed. Returns the function that removes the listener. */
  readonly subscribe: (listener: (status: ConnectionStatus) => void) => () => void;
  /** The status in the form of a store of Svelte, or for `from` of Solid. */
  readonly store: Readable<ConnectionStatus>;
}

/**
 * Creates the status that `create` returns, and `publish`, which notifies listeners if it has changed and returns whether it
 * has.
 */
export function createStatusSource(
  create: () => ConnectionStatus,
  onError: (error: unknown) => void,
): readonly [source: StatusSource, publish: () => boolean] {
  const [subscribe, emit] = createEmitter(onError);
  let status = create();
  const getStatus = (): ConnectionStatus => status;
  return [
    { getStatus, ...observe(getStatus, subscribe) },
    () => {
      const next = create();
      if (isEqual(status, next)) return false;
      status = next;
      emit();
      return true;
    },
  ];
}
