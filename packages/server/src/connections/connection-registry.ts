import { CloseCode } from '@flagcast/protocol';
import type { Lifecycle } from '../lifecycle.js';
import type { Connection } from './connection.js';

/** The connections are divided into this many parts, so that periodic work is spread over its interval. */
export const partitionCount = 60;

interface Partition {
  readonly connections: Set<Connection>;
  /** No token of these connections expires before, in milliseconds since the epoch. */
  nextExpiryMs: number;
}

/** All open connections of a server. */
export class ConnectionRegistry {
  readonly lifecycle: Lifecycle;
  readonly #partitions: readonly Partition[] = Array.from({ length: partitionCount }, () => ({
    connections: new Set(),
    nextExpiryMs: Infinity,
  }));
  readonly #paused = new Map<Connection, number>();
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
    for (const { connections } of this.#partitions.slice(first, end)) yield* connections;
  }

  /** Those that have not drained or, if they are closing, not ended, with the time since when, in milliseconds since the epoch. */
  get paused(): ReadonlyMap<Connection, number> {
    return this.#paused;
  }

  /** Returns whether it was not paused before. */
  pause(connection: Connection): boolean {
    const isOpen = this.#partitionOf(connection)?.connections.has(connection) === true;
    if (!isOpen || this.#paused.has(connection)) return false;
    this.#paused.set(connection, Date.now());
    return true;
  }

  resume(connection: Connection): void {
    this.#paused.delete(connection);
  }

  /**
   * The connections whose token has expired. Looks only at partitions in which one may have: to visit each of thousands
   * of idle connections every second would cost more than all else that is done for them.
   */
  expired(nowMs: number): Connection[] {
    const expired: Connection[] = [];
    for (const partition of this.#partitions) {
      if (partition.nextExpiryMs > nowMs) continue;
      partition.nextExpiryMs = Infinity;
      for (const connection of partition.connections) {
        expectExpiry(partition, connection);
        if (connection.principal.expiresAtMs <= nowMs) expired.push(connection);
      }
    }
    return expired;
  }

  /** The connection has another token. */
  renewed(connection: Connection): void {
    const partition = this.#partitionOf(connection);
    if (partition !== undefined) expectExpiry(partition, connection);
  }

  add(connection: Connection): void {
    connection.connectionId = this.#nextId;
    this.#nextId += 1;
    this.#size += 1;
    this.#partitionOf(connection)?.connections.add(connection);
    this.renewed(connection);
    this.lifecycle.emit('connection:opened', describe(connection));
  }

  /** `code` and `reason` say how it ended. */
  remove(connection: Connection, code: number, reason: string): void {
    if (this.#partitionOf(connection)?.connections.delete(connection) !== true) return;
    this.#paused.delete(connection);
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

  #partitionOf({ connectionId }: Connection): Partition | undefined {
    return this.#partitions[connectionId % partitionCount];
  }
}

function expectExpiry(partition: Partition, { principal }: Connection): void {
  partition.nextExpiryMs = Math.min(partition.nextExpiryMs, principal.expiresAtMs);
}

function describe({ connectionId, principal, session }: Connection): {
  connectionId: number;
  userId: string;
  dialect: string;
} {
  return { connectionId, userId: principal.user.id, dialect: session.dialect.name };
}
