import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';

/**
 * What happens to a connection: FIN (cut), RST (reset), a close in the middle of the server's next data (torn), silence
 * without a close (blackhole), or latency (delay).
 */
export type NetworkFault = 'cut' | 'reset' | 'torn' | 'blackhole' | 'delay';

/** The answers of a proxy whose server is being replaced, or which misses a session of its own. */
export const errorPages = [
  '404 Not Found',
  '403 Forbidden',
  '408 Request Timeout',
  '502 Bad Gateway',
  '503 Service Unavailable\r\nRetry-After: 3600',
  '302 Found\r\nLocation: /login',
] as const;
/** The header `Server` of these answers. */
export const proxyName = 'faulty-proxy';

interface ProxiedConnection {
  /** The client's socket. */
  readonly near: Socket;
  /** The socket to the server. */
  readonly far: Socket;
  /** Whether all data is dropped, in both directions. */
  blackholed: boolean;
  /** Whether half of the server's next data is forwarded, and then the connection closed. */
  torn: boolean;
  delayMs: number;
}

/** A TCP proxy that distributes connections over servers and injects network faults. */
export class FaultyProxy implements AsyncDisposable {
  readonly #connections = new Set<ProxiedConnection>();
  #opened = 0;
  readonly #server: Server;
  readonly #chance: () => number;
  /** Each new connection gets this instead of a server. */
  errorPage: (typeof errorPages)[number] | null = null;

  private constructor(targetPorts: readonly number[], chance: () => number) {
    this.#chance = chance;
    this.#server = createServer((near) => {
      this.#opened += 1;
      this.#open(near, targetPorts[this.#opened % targetPorts.length] ?? 0);
    });
  }

  /** `chance`: returns a number from 0 up to 1; default Math.random. `port`: default a free one. */
  static async open(
    targetPorts: readonly number[],
    { chance = Math.random, port = 0 }: { readonly chance?: () => number; readonly port?: number } = {},
  ): Promise<FaultyProxy> {
    const proxy = new FaultyProxy(targetPorts, chance);
    proxy.#server.listen(port, '127.0.0.1');
    await once(proxy.#server, 'listening');
    return proxy;
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  get url(): string {
    return `http://127.0.0.1:${this.port}`;
  }

  /** Applies the fault to about `share` (0-1) of the open connections. Returns their number. */
  inject(fault: NetworkFault, share = 1): number {
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

  async close(): Promise<void> {
    this.#server.close();
    for (const { near, far } of this.#connections) {
      near.destroy();
      far.destroy();
    }
    await once(this.#server, 'close');
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  #open(near: Socket, port: number): void {
    if (this.errorPage !== null) {
      const page = '<h1>Please wait</h1>';
      const headers = `Server: ${proxyName}\r\nContent-Type: text/html\r\nContent-Length: ${page.length}\r\nConnection: close`;
      near.on('error', () => undefined);
      near.end(`HTTP/1.1 ${this.errorPage}\r\n${headers}\r\n\r\n${page}`);
      near.resume();
      return;
    }
    const far = connect(port, '127.0.0.1');
    const connection = { near, far, blackholed: false, torn: false, delayMs: 0 };
    this.#connections.add(connection);
    this.#pass(connection, near, far);
    this.#pass(connection, far, near);
  }

  #pass(connection: ProxiedConnection, from: Socket, to: Socket): void {
    const inFlight: Buffer[] = [];
    const write = (bytes: Buffer): void => {
      // Backpressure passes through the proxy.
      if (!to.destroyed && !to.write(bytes)) from.pause();
    };
    to.on('drain', () => from.resume());
    from.on('data', (bytes: Buffer) => {
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
