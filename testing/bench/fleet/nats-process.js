import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { freePort } from '../../../packages/demo/dist/embedded/embedded-process.js';

/** @import { ChildProcess } from 'node:child_process' */
/** @import { BoundedRun } from '../../testkit/bounded-run.ts' */

/** Counters of a nats-server since its start. */
/** @typedef {{ readonly in_msgs: number, readonly out_msgs: number, readonly in_bytes: number, readonly out_bytes: number }} NatsFigures */

/** @throws Error if nats-server is not installed */
export function requireNats() {
  if (spawnSync('nats-server', ['--version']).status === 0) return;
  throw new Error('nats-server is not installed (Debian: apt-get install nats-server)');
}

/** A nats-server with JetStream. A restart keeps its port and data. */
export class NatsProcess {
  /** @type {ChildProcess | null} */
  #child = null;
  #folder;
  #port;
  #monitorPort;

  /**
   * @param {string} folder
   * @param {number} port
   * @param {number} monitorPort
   */
  constructor(folder, port, monitorPort) {
    this.#folder = folder;
    this.#port = port;
    this.#monitorPort = monitorPort;
  }

  /** @param {BoundedRun} run */
  static async start(run) {
    const folder = await mkdtemp(path.join(tmpdir(), 'flagcast-bench-nats-'));
    run.defer(async () => await rm(folder, { recursive: true, force: true, maxRetries: 5 }));
    const nats = new NatsProcess(folder, await freePort(), await freePort());
    run.defer(async () => await nats.kill());
    await nats.start();
    return nats;
  }

  get url() {
    return `nats://127.0.0.1:${this.#port}`;
  }

  async start() {
    const args = ['-a', '127.0.0.1', '-p', String(this.#port), '-m', String(this.#monitorPort), '-js', '-sd'];
    const child = spawn('nats-server', [...args, this.#folder], { stdio: ['ignore', 'ignore', 'pipe'] });
    this.#child = child;
    for await (const line of createInterface({ input: child.stderr })) {
      if (line.includes('Server is ready')) break;
    }
    child.stderr.resume();
  }

  async kill() {
    const child = this.#child;
    if (child === null) return;
    this.#child = null;
    const ended = once(child, 'exit');
    child.kill('SIGKILL');
    await ended;
  }

  /** @returns {Promise<NatsFigures>} */
  async figures() {
    const answer = await fetch(`http://127.0.0.1:${this.#monitorPort}/varz`);
    return /** @type {NatsFigures} */ (await answer.json());
  }
}
