import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { setTimeout as delay } from 'node:timers/promises';
import type pg from 'pg';
import { WebSocket } from 'ws';
import type { BoundedRun } from '../../testkit/bounded-run.ts';
import { nowMs } from '../../testkit/child.ts';

export interface ChannelIds {
  readonly projectId: string;
  readonly environmentId: string;
  readonly featureId: string;
}

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
  readonly channel: ChannelIds;
}

/** Time-out of a message, in milliseconds. */
const messageTimeoutMs = 30_000;

/** Clients of a channel in this process, which also writes to it, so that all times come from one clock. */
export class Probe {
  readonly #sockets: readonly WebSocket[];
  readonly #writer: pg.Client;
  readonly #channel: ChannelIds;
  readonly #awaited = new Map<string, { readonly times: number[]; readonly onAll: () => void }>();

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
    const message = JSON.parse(data.toString('utf8')) as { readonly entity_id?: string };
    const awaited = this.#awaited.get(message.entity_id ?? '');
    if (awaited === undefined) return;
    awaited.times.push(atMs);
    if (awaited.times.length === this.#sockets.length) awaited.onAll();
  }

  /** Resolves with the times at which the clients received the event of the entity. Call it before COMMIT. */
  async arrivals(entityId: string): Promise<readonly number[]> {
    const times: number[] = [];
    let timer: NodeJS.Timeout | undefined;
    try {
      return await new Promise((resolve, reject) => {
        const late = new Error(`A message did not arrive within ${messageTimeoutMs / 1_000} s`);
        timer = setTimeout(() => reject(late), messageTimeoutMs);
        this.#awaited.set(entityId, { times, onAll: () => resolve(times) });
      });
    } finally {
      clearTimeout(timer);
      this.#awaited.delete(entityId);
    }
  }

  /** Commits rows and returns the milliseconds to each client, from sending COMMIT and from its response. */
  async measure({ commits, pauseLimitMs }: Steps) {
    const deliveries = [];
    for (let done = 0; done < commits; done += 1) {
      await delay(Math.random() * pauseLimitMs);
      const entityId = randomUUID();
      await this.#writer.query('BEGIN');
      await insertRow(this.#writer, this.#channel, entityId);
      const arriving = this.arrivals(entityId);
      const sentAtMs = nowMs();
      await this.#writer.query('COMMIT');
      const answeredAtMs = nowMs();
      for (const atMs of await arriving)
        deliveries.push({ sent: atMs - sentAtMs, answered: atMs - answeredAtMs });
    }
    return deliveries;
  }

  /** The same, only from sending COMMIT. */
  async latencies(steps: Steps): Promise<readonly number[]> {
    return (await this.measure(steps)).map(({ sent }) => sent);
  }
}

/** Inserts an audit row with the entity id. */
export async function insertRow(writer: pg.Client, channel: ChannelIds, entityId: string): Promise<void> {
  await writer.query({
    name: 'bench_insert',
    text: `INSERT INTO audit_log
        (feature_id, entity, entity_id, actor, username, action, old_value, new_value, request_id, project_id, environment_id)
      VALUES ($1, 'feature_params', $2, 'user', 'bench', 'update', '{"enabled": false}', '{"enabled": true}', $2, $3, $4)`,
    values: [channel.featureId, entityId, channel.projectId, channel.environmentId],
  });
}
