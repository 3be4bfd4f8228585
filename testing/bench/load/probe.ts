import { randomUUID } from 'node:crypto';
import { EventEmitter, once } from 'node:events';
import { setTimeout as delay } from 'node:timers/promises';
import type { PlainMessage } from '@flagcast/protocol';
import type pg from 'pg';
import type { BoundedRun } from '../../testkit/bounded-run.ts';
import type { FlagIds } from '../../testkit/channel.ts';
import { nowMs } from '../../testkit/child.ts';
import { PlainClient } from '../../testkit/clients/plain-client.ts';
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
  readonly #options: ProbeOptions;
  /** Emits the entity id of an event, with the times, when all clients have received it. */
  readonly #received = new EventEmitter().setMaxListeners(0);
  readonly #times = new Map<string, number[]>();
  readonly #closers: (() => void)[] = [];

  private constructor(options: ProbeOptions) {
    this.#options = options;
  }

  static async open(run: BoundedRun, options: ProbeOptions): Promise<Probe> {
    const { url, headers = {}, clients = 1 } = options;
    const probe = new Probe(options);
    for (let opened = 0; opened < clients; opened += 1) {
      const onMessage = ({ entity_id: entityId }: PlainMessage) => probe.#receive(entityId, nowMs());
      const { socket } = await PlainClient.connect(url, {}, { headers, onMessage });
      const onClose = () => run.fail(new Error(`The connection to ${new URL(url).host} was closed`));
      socket.once('close', onClose);
      probe.#closers.push(() => socket.off('close', onClose).terminate());
    }
    run.defer(() => probe.close());
    return probe;
  }

  close(): void {
    for (const close of this.#closers) close();
  }

  #receive(entityId: string, atMs: number): void {
    const times = [...(this.#times.get(entityId) ?? []), atMs];
    this.#times.set(entityId, times);
    if (times.length < (this.#options.clients ?? 1)) return;
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
    const { writer, channel } = this.#options;
    const latencies = [];
    for (let done = 0; done < commits; done += 1) {
      await delay(Math.random() * pauseLimitMs);
      const entityId = randomUUID();
      await writer.query('BEGIN');
      await insertAudit(writer, channel, { entityId });
      const arriving = this.arrivals(entityId);
      const sentAtMs = nowMs();
      await writer.query('COMMIT');
      for (const atMs of await arriving) latencies.push(atMs - sentAtMs);
    }
    return latencies;
  }
}
