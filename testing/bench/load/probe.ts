import { randomUUID } from 'node:crypto';
import { EventEmitter, once } from 'node:events';
import { setTimeout as delay } from 'node:timers/promises';
import type pg from 'pg';
import { WebSocket } from 'ws';
import type { BoundedRun } from '../../testkit/bounded-run.ts';
import type { FlagIds } from '../../testkit/channel.ts';
import { nowMs } from '../../testkit/child.ts';
import { insertAudit } from '../../testkit/writers.ts';

export interface Steps {
  readonly commits: number;
  /** Each commit follows the message of the previous one after a random pause of up to so many milliseconds. */
  readonly pauseLimitMs: number;
}

interface ProbeOptions {
  readonly url: string;
  readonly headers?: Readonly<Record<string, string>>;
  /** By default one. */
  readonly clients?: number;
  readonly writer: pg.Client;
  readonly channel: FlagIds;
}

/** Time-out of a message, in milliseconds. */
const messageTimeoutMs = 30_000;

/** Clients of a channel in this process, which also writes to it, so that all times come from one clock. */
export class Probe {
  readonly #sockets: readonly WebSocket[];
  readonly #writer: pg.Client;
  readonly #channel: FlagIds;
  /** Emits the entity id of an event, with the times, when all clients have received it. */
  readonly #received = new EventEmitter();
  readonly #times = new Map<string, number[]>();

  private constructor(sockets: readonly WebSocket[], { writer, channel }: ProbeOptions) {
    this.#sockets = sockets;
    this.#writer = writer;
    this.#channel = channel;
    for (const socket of sockets) socket.on('message', (data) => this.#receive(data as Buffer, nowMs()));
  }

  static async open(run: BoundedRun, options: ProbeOptions): Promise<Probe> {
    const { url, headers = {}, clients = 1 } = options;
    const sockets = Array.from({ length: clients }, () => new WebSocket(url, { headers }));
    run.defer(async () => {
      for (const socket of sockets) socket.removeAllListeners('close').terminate();
      await Promise.resolve();
    });
    for (const socket of sockets) {
      await once(socket, 'open', { signal: run.signal });
      socket.on('error', () => undefined);
      socket.once('close', () => run.fail(new Error(`The connection to ${new URL(url).host} was closed`)));
    }
    return new Probe(sockets, options);
  }

  #receive(data: Buffer, atMs: number): void {
    const { entity_id: entityId = '' } = JSON.parse(data.toString('utf8')) as { readonly entity_id?: string };
    const times = [...(this.#times.get(entityId) ?? []), atMs];
    this.#times.set(entityId, times);
    if (times.length < this.#sockets.length) return;
    this.#times.delete(entityId);
    this.#received.emit(entityId, times);
  }

  /** Resolves with the times at which the clients received the event of the entity. Call it before COMMIT. */
  async arrivals(entityId: string): Promise<readonly number[]> {
    const signal = AbortSignal.timeout(messageTimeoutMs);
    const [times] = (await once(this.#received, entityId, { signal })) as [readonly number[]];
    return times;
  }

  /** Commits rows and returns the milliseconds from sending COMMIT to the message at each client. */
  async latencies({ commits, pauseLimitMs }: Steps): Promise<readonly number[]> {
    const latencies = [];
    for (let done = 0; done < commits; done += 1) {
      await delay(Math.random() * pauseLimitMs);
      const entityId = randomUUID();
      await this.#writer.query('BEGIN');
      await insertAudit(this.#writer, this.#channel, { entityId });
      const arriving = this.arrivals(entityId);
      const sentAtMs = nowMs();
      await this.#writer.query('COMMIT');
      for (const atMs of await arriving) latencies.push(atMs - sentAtMs);
    }
    return latencies;
  }
}
