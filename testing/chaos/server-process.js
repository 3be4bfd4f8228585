import { fork } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, openSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';

/** @import { ChildProcess } from 'node:child_process' */
/** @import { ServerFigures, ServerNote, ServerTask } from './server-program.js' */

/** Time-out of a request to the process, in milliseconds: longer than any fault stops it. */
const requestTimeoutMs = 30_000;
/** Writes to this file fail with ENOSPC, where the system has it. */
export const fullFile = '/dev/full';
/** Prefix of every JWT. Logs must not contain tokens. */
const tokenPrefix = 'eyJ';
/** Number of notes that are kept for timelines. */
const maxNotes = 200_000;

/**
 * @typedef {{
 *   readonly name: string,
 *   readonly databaseUrl: string,
 *   readonly secret: string,
 *   readonly port: number,
 *   readonly onProblem: (problem: string) => void,
 * }} ServerOptions
 * `onProblem`: called when the process ends unexpectedly or violates a promise.
 */

/** A server of the run. Faults replace its process; the port stays the same. */
export class ServerProcess {
  /** @type {ServerNote[]} */
  notes = [];
  /** @type {ChildProcess | null} */
  #child = null;
  #ending = false;
  #requests = 0;
  /** @type {Map<number, { resolve: (value: unknown) => void, reject: (error: Error) => void }>} */
  #pending = new Map();
  #options;

  /** @param {ServerOptions} options */
  constructor(options) {
    this.#options = options;
  }

  get name() {
    return this.#options.name;
  }

  get url() {
    return `http://127.0.0.1:${this.#options.port}`;
  }

  get port() {
    return this.#options.port;
  }

  /**
   * Starts the process and waits until it listens. `diskFull`: its log goes to a full disk.
   *
   * @param {{ diskFull?: boolean }} [options]
   */
  async start({ diskFull = false } = {}) {
    const log = diskFull ? openSync(fullFile, 'w') : 'pipe';
    const child = fork(new URL('./server-program.js', import.meta.url), {
      stdio: ['ignore', log, 'inherit', 'ipc'],
      // v8.queryObjects is experimental, and warns in the log.
      execArgv: [...process.execArgv, '--expose-gc', '--disable-warning=ExperimentalWarning'],
    });
    if (typeof log === 'number') closeSync(log);
    this.#child = child;
    this.#ending = false;
    this.#note(diskFull ? 'started, with its log on a full disk' : 'started');
    child.stdout?.on('data', (/** @type {Buffer} */ bytes) => {
      if (bytes.includes(tokenPrefix)) this.#options.onProblem(`${this.name} wrote a token into its log`);
    });
    child.on('message', (message) => this.#receive(message));
    child.once('exit', (code, signal) => {
      const how = `ended with ${code ?? signal ?? 'nothing'}`;
      this.#note(how);
      for (const { reject } of this.#pending.values()) reject(new Error(`${this.name} ${how}`));
      this.#pending.clear();
      if (!this.#ending) this.#options.onProblem(`${this.name} ${how} unexpectedly`);
    });
    const { databaseUrl, secret, port } = this.#options;
    await this.request({ do: 'start', databaseUrl, secret, port });
  }

  /**
   * @param {ServerTask} task
   * @returns {Promise<unknown>}
   */
  async request(task) {
    this.#requests += 1;
    const id = this.#requests;
    const limit = new AbortController();
    try {
      return await Promise.race([
        new Promise((/** @type {(value: unknown) => void} */ resolve, reject) => {
          this.#pending.set(id, { resolve, reject });
          this.#child?.send({ id, request: task }, () => undefined);
        }),
        delay(requestTimeoutMs, undefined, { signal: limit.signal }).then(() => {
          throw new Error(`${this.name} did not answer "${task.do}" within ${requestTimeoutMs / 1_000} s`);
        }),
      ]);
    } finally {
      limit.abort();
      this.#pending.delete(id);
    }
  }

  /** @returns {Promise<ServerFigures>} */
  async figures() {
    return /** @type {ServerFigures} */ (await this.request({ do: 'figures' }));
  }

  /** Ends the process with SIGKILL, as the kernel does when it is out of memory. */
  async kill() {
    const child = this.#child;
    if (child === null || child.exitCode !== null || child.signalCode !== null) return;
    this.#ending = true;
    const ended = once(child, 'exit');
    child.kill('SIGKILL');
    await ended;
  }

  /** Shuts down gracefully, as in a rolling update: the server asks its clients to reconnect elsewhere. */
  async drain() {
    this.#ending = true;
    this.#note('drains');
    await this.request({ do: 'drain' });
    await this.kill();
  }

  /**
   * Suspends the process with SIGSTOP.
   *
   * @param {number} holdMs
   */
  async freeze(holdMs) {
    const child = this.#child;
    child?.kill('SIGSTOP');
    this.#note('suspended');
    await delay(holdMs);
    child?.kill('SIGCONT');
    this.#note('resumed');
  }

  /**
   * Stops reading the log of the process, so that its pipe fills.
   *
   * @param {number} holdMs
   */
  async stallLog(holdMs) {
    const log = this.#child?.stdout;
    log?.pause();
    await delay(holdMs);
    log?.resume();
  }

  /** @param {unknown} message */
  #receive(message) {
    if (typeof message !== 'object' || message === null) return;
    if ('note' in message) {
      this.notes.push(/** @type {ServerNote} */ (message.note));
      if (this.notes.length > maxNotes) this.notes.splice(0, maxNotes / 2);
      return;
    }
    const { id, result, error } = /** @type {{ id: number, result?: unknown, error?: string }} */ (message);
    const request = this.#pending.get(id);
    if (error === undefined) request?.resolve(result);
    else request?.reject(new Error(`${this.name}: ${error}`));
  }

  /** @param {string} text */
  #note(text) {
    this.notes.push([Date.now(), text]);
  }
}
