import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { chmod, rm, writeFile } from 'node:fs/promises';
import { connect, createServer, type AddressInfo, type Server, type Socket } from 'node:net';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { findAccount } from '../../demo/src/embedded/embedded-account.js';
import { freePort } from '../../demo/src/embedded/embedded-process.js';
import { createTestFolder } from './database.js';

const program = 'pgbouncer';

/** Whether a PgBouncer is installed. */
export const hasPgBouncer = spawnSync(program, ['--version']).status === 0;

export interface PgBouncerOptions {
  readonly poolMode: 'session' | 'transaction';
  /** How many sessions of PostgreSQL all clients share. Default 20. */
  readonly poolSize?: number;
}

/** A PgBouncer of the test's own in front of a database. */
export class PgBouncer {
  readonly url: string;
  readonly #folder: string;
  readonly #options: PgBouncerOptions;
  #process: ChildProcess | null = null;

  private constructor(url: string, folder: string, options: PgBouncerOptions) {
    this.url = url;
    this.#folder = folder;
    this.#options = options;
  }

  static async start(databaseUrl: string, options: PgBouncerOptions): Promise<PgBouncer> {
    const url = new URL(databaseUrl);
    url.port = String(await freePort());
    const pooler = new PgBouncer(url.toString(), await createTestFolder(), options);
    await pooler.#configure(databaseUrl);
    await pooler.#launch();
    return pooler;
  }

  /** Leads elsewhere from now on; the connections of clients stay. */
  async redirect(databaseUrl: string): Promise<void> {
    await this.#configure(databaseUrl);
    this.#process?.kill('SIGHUP');
  }

  /** Breaks every connection, to both sides; the port stays the same. */
  async restart(): Promise<void> {
    await this.#end();
    await this.#launch();
  }

  async stop(): Promise<void> {
    await this.#end();
    await rm(this.#folder, { recursive: true, force: true });
  }

  async #configure(databaseUrl: string): Promise<void> {
    const { hostname, port, pathname, username, password } = new URL(databaseUrl);
    const own = new URL(this.url);
    await writeFile(
      this.#file,
      [
        '[databases]',
        `${own.pathname.slice(1)} = host=${hostname} port=${port} dbname=${pathname.slice(1)} user=${username} password=${password}`,
        '[pgbouncer]',
        'listen_addr = 127.0.0.1',
        `listen_port = ${own.port}`,
        'unix_socket_dir =',
        'auth_type = any',
        `pool_mode = ${this.#options.poolMode}`,
        `default_pool_size = ${this.#options.poolSize ?? 20}`,
        'ignore_startup_parameters = extra_float_digits',
      ].join('\n'),
    );
    await chmod(this.#file, 0o644);
  }

  get #file(): string {
    return path.join(this.#folder, 'pgbouncer.ini');
  }

  async #launch(): Promise<void> {
    // It refuses to run as root.
    const account = await findAccount();
    const as = account === null ? [] : ['-u', account.name];
    const child = spawn(program, [...as, this.#file], {
      stdio: ['ignore', 'ignore', 'pipe'],
    });
    this.#process = child;
    await new Promise<void>((resolve, reject) => {
      createInterface({ input: child.stderr }).on('line', (line) => {
        if (line.includes('process up')) resolve();
      });
      child.once('exit', (code) => reject(new Error(`pgbouncer ended with ${code ?? 'a signal'}`)));
    });
  }

  async #end(): Promise<void> {
    if (this.#process === null) return;
    const ended = once(this.#process, 'exit');
    this.#process.kill('SIGTERM');
    await ended;
    this.#process = null;
  }
}

/**
 * A line to PostgreSQL that loses its notifications, as a session's are lost whose transactions go to
 * various backends. Everything else passes.
 */
export class DeafLine {
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();

  private constructor(targetPort: number) {
    this.#server = createServer((near) => {
      const far = connect(targetPort, '127.0.0.1');
      for (const socket of [near, far]) {
        this.#sockets.add(socket);
        socket.on('error', () => undefined);
        socket.on('close', () => {
          this.#sockets.delete(socket);
          near.destroy();
          far.destroy();
        });
      }
      near.pipe(far);
      let unread = Buffer.alloc(0);
      far.on('data', (chunk: Buffer) => {
        unread = Buffer.concat([unread, chunk]);
        // A message is its type, a byte, and its length, which counts itself.
        while (unread.length >= 5 && unread.length >= 1 + unread.readInt32BE(1)) {
          const length = 1 + unread.readInt32BE(1);
          if (unread.toString('latin1', 0, 1) !== 'A') near.write(unread.subarray(0, length));
          unread = unread.subarray(length);
        }
      });
    });
  }

  static async open(targetPort: number): Promise<DeafLine> {
    const line = new DeafLine(targetPort);
    line.#server.listen(0, '127.0.0.1');
    await once(line.#server, 'listening');
    return line;
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  async close(): Promise<void> {
    const closed = once(this.#server, 'close');
    this.#server.close();
    for (const socket of this.#sockets) socket.destroy();
    await closed;
  }
}
