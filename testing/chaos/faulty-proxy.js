import { once } from 'node:events';
import { connect, createServer } from 'node:net';

/** @import { AddressInfo, Server, Socket } from 'node:net' */

/**
 * What happens to a connection: FIN (cut), RST (reset), a close in the middle of the server's next data (torn), silence
 * without a close (blackhole), or latency (delay).
 *
 * @typedef {'cut' | 'reset' | 'torn' | 'blackhole' | 'delay'} NetworkFault
 */

/**
 * `near`: the client's socket. `far`: the socket to the server. `blackholed`: the proxy drops all data in both
 * directions. `torn`: the proxy forwards half of the server's next data, then closes.
 *
 * @typedef {{ readonly near: Socket, readonly far: Socket, blackholed: boolean, torn: boolean, delayMs: number }} ProxiedConnection
 */

/** A TCP proxy that distributes connections over servers and injects network faults. */
export class FaultyProxy {
  /** @type {Set<ProxiedConnection>} */
  #connections = new Set();
  #opened = 0;
  /** @type {Server} */
  #server;
  #chance;

  /**
   * @param {readonly number[]} targetPorts
   * @param {() => number} chance
   */
  constructor(targetPorts, chance) {
    this.#chance = chance;
    this.#server = createServer((near) => {
      this.#opened += 1;
      this.#open(near, targetPorts[this.#opened % targetPorts.length] ?? 0);
    });
  }

  /**
   * @param {readonly number[]} targetPorts
   * @param {() => number} [chance] from 0 up to 1; default Math.random
   */
  static async open(targetPorts, chance = Math.random) {
    const proxy = new FaultyProxy(targetPorts, chance);
    proxy.#server.listen(0, '127.0.0.1');
    await once(proxy.#server, 'listening');
    return proxy;
  }

  get url() {
    return `http://127.0.0.1:${/** @type {AddressInfo} */ (this.#server.address()).port}`;
  }

  /**
   * Applies the fault to about `share` (0-1) of the open connections. Returns their number.
   *
   * @param {NetworkFault} fault
   * @param {number} share
   */
  inject(fault, share) {
    let count = 0;
    for (const connection of this.#connections) {
      if (this.#chance() >= share) continue;
      count += 1;
      if (fault === 'cut') connection.near.end();
      else if (fault === 'reset') connection.near.resetAndDestroy();
      else if (fault === 'blackhole') connection.blackholed = true;
      else if (fault === 'torn') connection.torn = true;
      else connection.delayMs = 50 + this.#chance() * 400;
    }
    return count;
  }

  async close() {
    this.#server.close();
    for (const { near, far } of this.#connections) {
      near.destroy();
      far.destroy();
    }
    await once(this.#server, 'close');
  }

  /**
   * @param {Socket} near
   * @param {number} port
   */
  #open(near, port) {
    const far = connect(port, '127.0.0.1');
    /** @type {ProxiedConnection} */
    const connection = { near, far, blackholed: false, torn: false, delayMs: 0 };
    this.#connections.add(connection);
    this.#pass(connection, near, far);
    this.#pass(connection, far, near);
  }

  /**
   * @param {ProxiedConnection} connection
   * @param {Socket} from
   * @param {Socket} to
   */
  #pass(connection, from, to) {
    /** @type {Buffer[]} */
    const inFlight = [];
    /** @param {Buffer} bytes */
    const write = (bytes) => {
      // Backpressure passes through the proxy.
      if (!to.destroyed && !to.write(bytes)) from.pause();
    };
    to.on('drain', () => from.resume());
    from.on('data', (bytes) => {
      if (connection.blackholed) return;
      if (connection.torn && from === connection.far) {
        // TCP delivers in order: delayed data comes before the new data.
        const next = inFlight[0] ?? bytes;
        inFlight.length = 0;
        to.write(next.subarray(0, Math.ceil(next.length / 2)));
        to.destroySoon();
        from.destroy();
        return;
      }
      if (connection.delayMs === 0 && inFlight.length === 0) {
        write(bytes);
        return;
      }
      inFlight.push(bytes);
      // TCP delivers in order even if the delay has decreased: each timer sends the oldest chunk.
      setTimeout(() => write(inFlight.shift() ?? Buffer.alloc(0)), connection.delayMs);
    });
    from.on('error', () => to.destroy());
    from.on('close', () => {
      this.#connections.delete(connection);
      // The other end of a blackholed connection receives no FIN.
      if (!connection.blackholed) to.end();
      else if (from === connection.near) connection.far.destroy();
    });
  }
}
