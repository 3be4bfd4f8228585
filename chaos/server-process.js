import { fork } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, openSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';

/** @import { ChildProcess } from 'node:child_process' */
/** @import { ServerFigures, ServerNote, ServerTask } from './server-program.js' */

/** How long an answer may take, in milliseconds: longer than a server is ever paused. */
const answerLimitMs = 30_000;
/** A file that is always full, where the system has one. */
export const fullFile = '/dev/full';
/** What every token begins with: none may be in a log. */
const tokenStart = 'eyJ';
/** Notes that are kept for timelines. */
const maxNotes = 200_000;

/**
 * @typedef {{
 *   readonly name: string,
 *   readonly databaseUrl: string,
 *   readonly secret: string,
 *   readonly port: number,
 *   readonly onProblem: (problem: string) => void,
 * }} ServerOptions
 * `onProblem`: it ended by itself, or did what no fault excuses.
 */

/** One server of the run: its process, which may be another one after each fault, always at the same port. */
export class ServerProcess {
  /** @type {ServerNote[]} */
  notes = [];
  /** @type {ChildProcess | null} */
  #child = null;
  #ending = false;
  #questions = 0;
  /** @type {Map<number, { resolve: (value: unknown) => void, reject: (error: Error) => void }>} */
  #asked = new Map();
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
   * Starts it, and waits until it listens. `diskFull`: its log goes to a disk without any room.
   *
   * @param {{ diskFull?: boolean }} [options]
   */
  async start({ diskFull = false } = {}) {
    const log = diskFull ? openSync(fullFile, 'w') : 'pipe';
    const child = fork(new URL('./server-program.js', import.meta.url), {
      stdio: ['ignore', log, 'inherit', 'ipc'],
      // Counting what is in memory is an experiment of Node's, and says so.
      execArgv: ['--expose-gc', '--disable-warning=ExperimentalWarning'],
    });
    if (typeof log === 'number') closeSync(log);
    this.#child = child;
    this.#ending = false;
    this.#note(diskFull ? 'starts, with its log on a full disk' : 'starts');
    child.stdout?.on('data', (/** @type {Buffer} */ bytes) => {
      if (bytes.includes(tokenStart)) this.#options.onProblem(`${this.name} wrote a token into its log`);
    });
    child.on('message', (message) => this.#receive(message));
    child.once('exit', (code, signal) => {
      const how = `ended with ${code ?? signal ?? 'nothing'}`;
      this.#note(how);
      for (const { reject } of this.#asked.values()) reject(new Error(`${this.name} ${how}`));
      this.#asked.clear();
      if (!this.#ending) this.#options.onProblem(`${this.name} ${how}, by itself`);
    });
    const { databaseUrl, secret, port } = this.#options;
    await this.ask({ do: 'start', databaseUrl, secret, port });
  }

  /**
   * @param {ServerTask} task
   * @returns {Promise<unknown>}
   */
  async ask(task) {
    this.#questions += 1;
    const id = this.#questions;
    const limit = new AbortController();
    try {
      return await Promise.race([
        new Promise((/** @type {(value: unknown) => void} */ resolve, reject) => {
          this.#asked.set(id, { resolve, reject });
          this.#child?.send({ id, question: task }, () => undefined);
        }),
        delay(answerLimitMs, undefined, { signal: limit.signal }).then(() => {
          throw new Error(`${this.name} did not answer "${task.do}" within ${answerLimitMs / 1_000} s`);
        }),
      ]);
    } finally {
      limit.abort();
      this.#asked.delete(id);
    }
  }

  /** @returns {Promise<ServerFigures>} */
  async figures() {
    return /** @type {ServerFigures} */ (await this.ask({ do: 'figures' }));
  }

  /** Without a word, as the kernel does when memory is short. */
  async kill() {
    const child = this.#child;
    if (child === null || child.exitCode !== null || child.signalCode !== null) return;
    this.#ending = true;
    const ended = once(child, 'exit');
    child.kill('SIGKILL');
    await ended;
  }

  /** As a new version is rolled out: everybody is asked to go elsewhere first. */
  async drain() {
    this.#ending = true;
    this.#note('is asked to end');
    await this.ask({ do: 'drain' });
    await this.kill();
  }

  /**
   * Stops the process where it is, for so long.
   *
   * @param {number} holdMs
   */
  async freeze(holdMs) {
    const child = this.#child;
    child?.kill('SIGSTOP');
    this.#note('is stopped');
    await delay(holdMs);
    child?.kill('SIGCONT');
    this.#note('goes on');
  }

  /**
   * Nobody reads its log for so long: it fills a pipe.
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
    const { id, answer, error } = /** @type {{ id: number, answer?: unknown, error?: string }} */ (message);
    const question = this.#asked.get(id);
    if (error === undefined) question?.resolve(answer);
    else question?.reject(new Error(`${this.name}: ${error}`));
  }

  /** @param {string} what */
  #note(what) {
    this.notes.push([Date.now(), what]);
  }
}
