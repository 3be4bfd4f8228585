import { spawnSync } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { Owner } from '../../testkit/bounded-run.ts';
import { freePort, Program } from '../../testkit/program.ts';

/** A nats-server with JetStream. A restart keeps its port and data. */
export class Nats {
  readonly #arguments: readonly string[];
  readonly #monitorPort: number;
  readonly url: string;
  #program: Program | null = null;

  private constructor(folder: string, port: number, monitorPort: number) {
    this.#arguments = ['-a', '127.0.0.1', '-p', `${port}`, '-m', `${monitorPort}`, '-js', '-sd', folder];
    this.#monitorPort = monitorPort;
    this.url = `nats://127.0.0.1:${port}`;
  }

  static async start(owner: Owner): Promise<Nats> {
    if (spawnSync('nats-server', ['--version']).status !== 0) {
      throw new Error('nats-server is not installed (Debian: apt-get install nats-server)');
    }
    const folder = await mkdtemp(path.join(tmpdir(), 'flagcast-nats-'));
    owner.defer(async () => await rm(folder, { recursive: true, force: true, maxRetries: 5 }));
    const nats = new Nats(folder, await freePort(), await freePort());
    owner.defer(async () => await nats.kill());
    await nats.start();
    return nats;
  }

  async start(): Promise<void> {
    this.#program = new Program('nats-server', this.#arguments);
    await this.#program.errorLine((line) => line.includes('Server is ready'));
  }

  async kill(): Promise<void> {
    await this.#program?.end();
  }

  /** Messages and bytes in both directions since its start. */
  async figures(): Promise<{ readonly messages: number; readonly bytes: number }> {
    const response = await fetch(`http://127.0.0.1:${this.#monitorPort}/varz`);
    const varz = (await response.json()) as Record<'in_msgs' | 'out_msgs' | 'in_bytes' | 'out_bytes', number>;
    return { messages: varz.in_msgs + varz.out_msgs, bytes: varz.in_bytes + varz.out_bytes };
  }
}
