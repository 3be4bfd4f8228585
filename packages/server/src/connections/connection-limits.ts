import type { Duplex } from 'node:stream';
import { networkOf } from '../auth/trusted-proxies.js';
import { busy, type HttpProblem, tooMany } from '../http-problem.js';

/** Counts open connections by a key, at most `limit` for each. Throws a RangeError unless the limit is a positive integer. */
class Counter {
  readonly #limit: number;
  readonly #open = new Map<string, number>();

  constructor(name: string, limit: number) {
    if (!Number.isInteger(limit) || limit < 1) {
      throw new RangeError(`The limit on ${name} is ${limit}: it must be a whole number, 1 or more`);
    }
    this.#limit = limit;
  }

  count(key: string): number {
    return this.#open.get(key) ?? 0;
  }

  isFull(key: string): boolean {
    return this.count(key) >= this.#limit;
  }

  add(key: string, difference: 1 | -1): void {
    const count = this.count(key) + difference;
    if (count === 0) this.#open.delete(key);
    else this.#open.set(key, count);
  }
}

/** Limits the open connections of each user (default 100) and of each address or IPv6 /64 network (default 1,000). */
export class ConnectionLimits {
  readonly #users: Counter;
  readonly #networks: Counter;

  constructor(
    limits: { readonly perUser?: number | undefined; readonly perAddress?: number | undefined } = {},
  ) {
    this.#users = new Counter('connections per user', limits.perUser ?? 100);
    this.#networks = new Counter('connections per address', limits.perAddress ?? 1_000);
  }

  /** Counts a connection. Returns the function that stops counting it, once. Throws HttpProblem if a limit is reached. */
  acquire(userId: string, address: string): () => void {
    const network = networkOf(address);
    if (this.#users.isFull(userId)) throw tooMany('too_many_user');
    if (this.#networks.isFull(network)) throw tooMany('too_many_address');
    this.#users.add(userId, 1);
    this.#networks.add(network, 1);
    let isOpen = true;
    return () => {
      if (!isOpen) return;
      isOpen = false;
      this.#users.add(userId, -1);
      this.#networks.add(network, -1);
    };
  }
}

/**
 * Limits the HTTP connections of each address (default 1,000), and those of all addresses that have not authenticated
 * (default 10,000): those without a request, in a handshake, or refused and not closed yet. WebSockets and event streams
 * are released when `ConnectionLimits` counts them.
 */
export class HttpConnections {
  readonly #unauthenticated: Counter;
  readonly #perNetwork: Counter;
  readonly #open = new Map<Duplex, { readonly network: string; isAuthenticated: boolean }>();
  /** A connection that was released is not counted again. */
  readonly #seen = new WeakSet<Duplex>();
  /** One listener for all sockets. */
  readonly #onClose: (this: Duplex) => void;

  constructor(
    limits: { readonly unauthenticated?: number | undefined; readonly perAddress?: number | undefined } = {},
  ) {
    this.#unauthenticated = new Counter('unauthenticated connections', limits.unauthenticated ?? 10_000);
    this.#perNetwork = new Counter('connections per address', limits.perAddress ?? 1_000);
    const release = (socket: Duplex): void => this.release(socket);
    this.#onClose = function onClose(this: Duplex) {
      release(this);
    };
  }

  /** How many have not authenticated. */
  get unauthenticated(): number {
    return this.#unauthenticated.count('');
  }

  /** Counts the connection until it closes or is released. At the limit it is not counted, and refused. */
  add(socket: Duplex, address: string): HttpProblem | null {
    if (this.#seen.has(socket)) return null;
    if (this.#unauthenticated.isFull('')) return busy();
    const network = networkOf(address);
    if (this.#perNetwork.isFull(network)) return tooMany('too_many_address');
    this.#seen.add(socket);
    this.#open.set(socket, { network, isAuthenticated: false });
    this.#unauthenticated.add('', 1);
    this.#perNetwork.add(network, 1);
    socket.once('close', this.#onClose);
    return null;
  }

  /** A request of the connection has authenticated. */
  authenticated(socket: Duplex): void {
    const connection = this.#open.get(socket);
    if (connection === undefined || connection.isAuthenticated) return;
    connection.isAuthenticated = true;
    this.#unauthenticated.add('', -1);
  }

  /** The connection is closed, or counted as a WebSocket or an event stream. */
  release(socket: Duplex): void {
    this.authenticated(socket);
    const connection = this.#open.get(socket);
    if (connection === undefined) return;
    this.#open.delete(socket);
    this.#perNetwork.add(connection.network, -1);
    socket.off('close', this.#onClose);
  }
}
