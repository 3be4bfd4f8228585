import type { Duplex } from 'node:stream';
import { addTo, atLeastOne } from '../connections/connection-limits.js';
import { networkOf } from '../auth/trusted-proxies.js';
import { HttpProblem, busy, tooMany } from '../http-problem.js';

export interface UnauthenticatedLimits {
  /** How many may be open in all. Default 10,000. */
  readonly total?: number | undefined;
  /** How many may be open from one address, or one /64 network of IPv6. Default 1,000. */
  readonly perAddress?: number | undefined;
}

/**
 * Bounds the connections that have not authenticated: without a request, within a handshake, or refused and not yet
 * closed. A limit of NaN throws a RangeError.
 */
export class UnauthenticatedConnections {
  readonly #total: number;
  readonly #perAddress: number;
  /** The network that each counted connection is from. */
  readonly #networks = new Map<Duplex, string>();
  readonly #openByNetwork = new Map<string, number>();
  /** A connection is counted once: after it has authenticated it is not counted again. */
  readonly #seen = new WeakSet<Duplex>();
  /** One listener for all connections. */
  readonly #onClose: (this: Duplex) => void;

  constructor({ total, perAddress }: UnauthenticatedLimits) {
    this.#total = atLeastOne('unauthenticated connections', total ?? 10_000);
    this.#perAddress = atLeastOne('connections per address', perAddress ?? 1_000);
    const release = (socket: Duplex): void => this.release(socket);
    this.#onClose = function (this: Duplex) {
      release(this);
    };
  }

  get count(): number {
    return this.#networks.size;
  }

  /** Counts the connection until it authenticates or ends. Returns why there is no room; then it is not counted. */
  add(socket: Duplex, address: string): HttpProblem | null {
    if (this.#seen.has(socket)) return null;
    if (this.#networks.size >= this.#total) return busy();
    const network = networkOf(address);
    if ((this.#openByNetwork.get(network) ?? 0) >= this.#perAddress) {
      return tooMany('too_many_address');
    }
    this.#seen.add(socket);
    this.#networks.set(socket, network);
    addTo(this.#openByNetwork, network, 1);
    socket.once('close', this.#onClose);
    return null;
  }

  /** The connection has authenticated. */
  release(socket: Duplex): void {
    const network = this.#networks.get(socket);
    if (network === undefined) return;
    this.#networks.delete(socket);
    addTo(this.#openByNetwork, network, -1);
    socket.off('close', this.#onClose);
  }
}
