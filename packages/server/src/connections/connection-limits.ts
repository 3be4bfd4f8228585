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

  isFull(key: string): boolean {
    return (this.#open.get(key) ?? 0) >= this.#limit;
  }

  add(key: string, difference: 1 | -1): void {
    const count = (this.#open.get(key) ?? 0) + difference;
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
 * Limits the connections that have not authenticated, of all addresses (default 10,000) and of each (default 1,000): those
 * without a request, in a handshake, or refused and not closed yet.
 */
export class UnauthenticatedConnections {
  readonly #total: Counter;
  readonly #perNetwork: Counter;
  readonly #networks = new Map<Duplex, string>();
  /** A connection that has authenticated is not counted again. */
  readonly #seen = new WeakSet<Duplex>();
  /** One listener for all sockets. */
  readonly #onClose: (this: Duplex) => void;

  constructor(
    limits: { readonly total?: number | undefined; readonly perAddress?: number | undefined } = {},
  ) {
    this.#total = new Counter('unauthenticated connections', limits.total ?? 10_000);
    this.#perNetwork = new Counter('connections per address', limits.perAddress ?? 1_000);
    const release = (socket: Duplex): void => this.release(socket);
    this.#onClose = function onClose(this: Duplex) {
      release(this);
    };
  }

  get count(): number {
    return this.#networks.size;
  }

  /** Counts the connection until it authenticates or closes. At the limit it is not counted, and refused. */
  add(socket: Duplex, address: string): HttpProblem | null {
    if (this.#seen.has(socket)) return null;
    if (this.#total.isFull('')) return busy();
    const network = networkOf(address);
    if (this.#perNetwork.isFull(network)) return tooMany('too_many_address');
    this.#seen.add(socket);
    this.#networks.set(socket, network);
    this.#total.add('', 1);
    this.#perNetwork.add(network, 1);
    socket.once('close', this.#onClose);
    return null;
  }

  /** The connection has authenticated. */
  release(socket: Duplex): void {
    const network = this.#networks.get(socket);
    if (network === undefined) return;
    this.#networks.delete(socket);
    this.#total.add('', -1);
    this.#perNetwork.add(network, -1);
    socket.off('close', this.#onClose);
  }
}
