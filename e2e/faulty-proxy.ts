import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';

/** What a network does to a connection. */
export type Fault = 'cut' | 'reset' | 'blackhole' | 'delay';

interface Line {
  readonly near: Socket;
  readonly far: Socket;
  /** Nothing passes any more, in either direction, and nobody is told. */
  blackholed: boolean;
  delayMs: number;
}

/**
 * A TCP proxy that spreads connections over some servers, and can do to them what networks do: end them
 * politely (cut), end them rudely (reset), go silent on them for ever (blackhole), or slow them down (delay).
 */
export class FaultyProxy {
  readonly #server: Server;
  readonly #lines = new Set<Line>();
  #connections = 0;

  private constructor(targetPorts: readonly number[]) {
    this.#server = createServer((near) => {
      this.#connections += 1;
      this.#open(near, targetPorts[this.#connections % targetPorts.length] ?? 0);
    });
  }

  static async open(targetPorts: readonly number[]): Promise<FaultyProxy> {
    const proxy = new FaultyProxy(targetPorts);
    proxy.#server.listen(0, '127.0.0.1');
    await once(proxy.#server, 'listening');
    return proxy;
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  /** Does this to about `share` (0-1) of the connections that are open now; returns to how many. */
  inflict(fault: Fault, share: number): number {
    let count = 0;
    for (const line of this.#lines) {
      if (Math.random() >= share) continue;
      count += 1;
      if (fault === 'cut') line.near.end();
      else if (fault === 'reset') line.near.resetAndDestroy();
      else if (fault === 'blackhole') line.blackholed = true;
      else line.delayMs = 50 + Math.random() * 400;
    }
    return count;
  }

  async close(): Promise<void> {
    this.#server.close();
    for (const { near, far } of this.#lines) {
      near.destroy();
      far.destroy();
    }
    await once(this.#server, 'close');
  }

  #open(near: Socket, port: number): void {
    const far = connect(port, '127.0.0.1');
    const line: Line = { near, far, blackholed: false, delayMs: 0 };
    this.#lines.add(line);
    const pass = (from: Socket, to: Socket): void => {
      const onTheirWay: Buffer[] = [];
      from.on('data', (bytes) => {
        if (line.blackholed) return;
        onTheirWay.push(bytes);
        // TCP keeps the order, also where the way has become quicker meanwhile: each timer lets the oldest arrive.
        setTimeout(() => to.write(onTheirWay.shift() ?? ''), line.delayMs);
      });
      from.on('error', () => to.destroy());
      from.on('close', () => {
        this.#lines.delete(line);
        // A peer behind a black hole does not learn that the other end is gone.
        if (!line.blackholed) to.end();
        else if (from === near) far.destroy();
      });
    };
    pass(near, far);
    pass(far, near);
  }
}
