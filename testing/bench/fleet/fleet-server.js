import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

/** @import { ChildProcess } from 'node:child_process' */

const program = fileURLToPath(new URL('../../../packages/server/bin/flagcast.js', import.meta.url));

/**
 * `relayUrl`: null for a server without the relay.
 *
 * @typedef {{
 *   readonly name: string,
 *   readonly databaseUrl: string,
 *   readonly secret: string,
 *   readonly port: number,
 *   readonly relayUrl: string | null,
 *   readonly onProblem: (problem: string) => void,
 * }} FleetServerOptions
 */

/** @typedef {'none' | 'direct' | 'following' | 'leading'} Role the current role of a server, from its log */

/** @type {Readonly<Record<string, Role>>} */
const roles = {
  reader_started: 'direct',
  relay_elected: 'leading',
  relay_following: 'following',
  relay_leadership_lost: 'direct',
  relay_direct: 'direct',
};

/** A `flagcast serve` of a fleet. Faults replace its process; the port stays the same. */
export class FleetServer {
  /** @type {Role} */
  role = 'none';
  /** @type {Record<string, number>} number of role changes, by log event */
  counts = {};
  /** @type {ChildProcess | null} */
  #child = null;
  #options;

  /** @param {FleetServerOptions} options */
  constructor(options) {
    this.#options = options;
  }

  get url() {
    return `http://127.0.0.1:${this.#options.port}`;
  }

  get name() {
    return this.#options.name;
  }

  /** Resolves when the server has a role. */
  async start() {
    const { databaseUrl, secret, port, relayUrl, onProblem, name } = this.#options;
    const child = spawn(process.execPath, [program, 'serve', '--port', String(port)], {
      stdio: ['ignore', 'pipe', 'inherit'],
      env: {
        PATH: process.env['PATH'],
        DATABASE_URL: databaseUrl,
        FLAGCAST_JWT_SECRET: secret,
        FLAGCAST_MAX_CONNECTIONS_PER_USER: '100000',
        FLAGCAST_MAX_CONNECTIONS_PER_ADDRESS: '100000',
        ...(relayUrl === null ? {} : { FLAGCAST_RELAY_URL: relayUrl }),
      },
    });
    this.#child = child;
    child.once('exit', (code, signal) => {
      this.role = 'none';
      if (this.#child === child) onProblem(`${name} ended unexpectedly with ${code ?? signal ?? 'nothing'}`);
    });
    /** @type {Promise<void>} */
    const started = new Promise((resolve) => {
      createInterface({ input: child.stdout }).on('line', (line) => {
        const { event } = /** @type {{ event?: string }} */ (JSON.parse(line));
        const role = roles[event ?? ''];
        if (event === undefined || role === undefined || this.#child !== child) return;
        this.role = role;
        this.counts[event] = (this.counts[event] ?? 0) + 1;
        resolve();
      });
    });
    await started;
  }

  /** @param {NodeJS.Signals} signal */
  signal(signal) {
    this.#child?.kill(signal);
  }

  /** @param {NodeJS.Signals} [signal] default SIGKILL */
  async end(signal = 'SIGKILL') {
    const child = this.#child;
    if (child === null) return;
    this.#child = null;
    this.role = 'none';
    if (child.exitCode !== null || child.signalCode !== null) return;
    const ended = once(child, 'exit');
    child.kill(signal);
    await ended;
  }
}
