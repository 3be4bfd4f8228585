import { once } from 'node:events';
import { connect, createServer } from 'node:net';

/** @import { AddressInfo, Server, Socket } from 'node:net' */

/**
 * What a network does to a connection: it ends it politely (cut), rudely (reset) or in the middle of
 * whatever the server says next (torn), goes silent on it for ever (blackhole), or slows it down (delay).
 *
 * @typedef {'cut' | 'reset' | 'torn' | 'blackhole' | 'delay'} NetworkFault
 */

/**
 * `blackholed`: nothing passes any more, in either direction, and nobody is told. `torn`: the next bytes
 * of the server are passed on by half, and that is the end.
 *
 * @typedef {{ readonly near: Socket, readonly far: Socket, blackholed: boolean, torn: boolean, delayMs: number }} Line
 */

/** A TCP proxy that spreads connections over some servers, and can do to them what networks do. */
export class FaultyProxy {
  /** @type {Set<Line>} */
  #lines = new Set();
  #connections = 0;
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
      this.#connections += 1;
      this.#open(near, targetPorts[this.#connections % targetPorts.length] ?? 0);
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
   * Does this to about `share` (0-1) of the connections that are open now; returns to how many.
   *
   * @param {NetworkFault} fault
   * @param {number} share
   */
  inflict(fault, share) {
    let count = 0;
    for (const line of this.#lines) {
      if (this.#chance() >= share) continue;
      count += 1;
      if (fault === 'cut') line.near.end();
      else if (fault === 'reset') line.near.resetAndDestroy();
      else if (fault === 'blackhole') line.blackholed = true;
      else if (fault === 'torn') line.torn = true;
      else line.delayMs = 50 + this.#chance() * 400;
    }
    return count;
  }

  async close() {
    this.#server.close();
    for (const { near, far } of this.#lines) {
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
    /** @type {Line} */
    const line = { near, far, blackholed: false, torn: false, delayMs: 0 };
    this.#lines.add(line);
    this.#pass(line, near, far);
    this.#pass(line, far, near);
  }

  /**
   * @param {Line} line
   * @param {Socket} from
   * @param {Socket} to
   */
  #pass(line, from, to) {
    /** @type {Buffer[]} */
    const onTheirWay = [];
    /** @param {Buffer} bytes */
    const write = (bytes) => {
      // A reader that does not read holds up the writer, as without a proxy.
      if (!to.destroyed && !to.write(bytes)) from.pause();
    };
    to.on('drain', () => from.resume());
    from.on('data', (bytes) => {
      if (line.blackholed) return;
      if (line.torn && from === line.far) {
        // What is still on its way comes first: no network brings what was said later without it.
        const next = onTheirWay[0] ?? bytes;
        onTheirWay.length = 0;
        to.write(next.subarray(0, Math.ceil(next.length / 2)));
        to.destroySoon();
        from.destroy();
        return;
      }
      if (line.delayMs === 0 && onTheirWay.length === 0) {
        write(bytes);
        return;
      }
      onTheirWay.push(bytes);
      // TCP keeps the order, also where the way has become quicker meanwhile: each timer lets the oldest arrive.
      setTimeout(() => write(onTheirWay.shift() ?? Buffer.alloc(0)), line.delayMs);
    });
    from.on('error', () => to.destroy());
    from.on('close', () => {
      this.#lines.delete(line);
      // A peer behind a black hole does not learn that the other end is gone.
      if (!line.blackholed) to.end();
      else if (from === line.near) line.far.destroy();
    });
  }
}
