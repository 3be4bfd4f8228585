import { CloseCode } from '@flagcast/protocol';
import type { Lifecycle } from '../lifecycle.js';
import type { Connection } from './connection.js';

/** The connections are divided into this many parts, so that periodic work is spread over its interval. */
export const partitionCount = 60;

/** All open connections of a server. */
export class ConnectionRegistry {
  readonly lifecycle: Lifecycle;
  readonly #partitions = Array.from({ length: partitionCount }, () => new Set<Connection>());
  #size = 0;
  #nextId = 1;
  /** New connections are refused. */
  isDraining = false;
  #onEmpty: (() => void) | null = null;

  constructor(lifecycle: Lifecycle) {
    this.lifecycle = lifecycle;
  }

  get size(): number {
    return this.#size;
  }

  /** The connections of the partitions from number `first` to before `end`; a connection stays in its partition. */
  *connections(first = 0, end = partitionCount): Iterable<Connection> {
    for (const partition of this.#partitions.slice(first, end)) yield* partition;
  }

  /** How many are open, and how many of them are paused. */
  count(): { all: number; paused: number } {
    let paused = 0;
    for (const { pausedSinceMs } of this.connections()) if (pausedSinceMs !== null) paused += 1;
    return { all: this.#size, paused };
  }

  add(connection: Connection): void {
    connection.connectionId = this.#nextId;
    this.#nextId += 1;
    this.#size += 1;
    this.#partitionOf(connection)?.add(connection);
    this.lifecycle.emit('connection:opened', describe(connection));
  }

  /** `code` and `reason` say how it ended. */
  remove(connection: Connection, code: number, reason: string): void {
    if (this.#partitionOf(connection)?.delete(connection) !== true) return;
    this.#size -= 1;
    this.lifecycle.emit('connection:closed', { ...describe(connection), code, reason });
    if (this.#size === 0) this.#onEmpty?.();
  }

  /** Refuses new connections, closes all, and waits until they have ended. Those left after the time-out are terminated. */
  async drain(timeoutMs: number): Promise<void> {
    this.isDraining = true;
    for (const { session } of this.connections()) {
      session.close(CloseCode.draining, 'draining');
    }
    if (this.#size === 0) return;
    await new Promise<void>((resolve) => {
      const timer = setTimeout(() => {
        for (const connection of this.connections()) connection.terminate();
      }, timeoutMs);
      this.#onEmpty = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }

  #partitionOf({ connectionId }: Connection): Set<Connection> | undefined {
    return this.#partitions[connectionId % partitionCount];
  }
}

function describe({ connectionId, principal, session }: Connection): {
  connectionId: number;
  userId: string;
  dialect: string;
} {
  return { connectionId, userId: principal.user.id, dialect: session.dialect.name };
}
