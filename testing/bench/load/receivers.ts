import { setTimeout as delay } from 'node:timers/promises';
import type { BoundedRun } from '../../testkit/bounded-run.ts';
import { type Child, startChild } from '../../testkit/child.ts';
import type { Arrival, Count, Task } from './receiver-program.ts';
import type { ReceiverOptions } from './receiver.ts';

/** Clients of a process: limited by its open files (20,000) and by one core. */
const clientsPerProcess = 8_000;
/** Time limit for all handshakes, in milliseconds: 100,000 clients need minutes, on a busy machine a quarter of an hour. */
const connectLimitMs = 1_800_000;
/** Time limit for events to arrive, in milliseconds. */
const arrivalLimitMs = 120_000;
/** Pause after the handshakes, in milliseconds: some servers subscribe the client after their response. */
const subscribeMs = 200;

/** Where clients connect. */
export interface Address extends Pick<ReceiverOptions, 'port' | 'headers' | 'dialect'> {
  readonly path: (channel: number) => string;
}

export interface Load {
  readonly clients: number;
  /** The clients are distributed evenly over so many channels, by default one. */
  readonly channels?: number;
  /** The first of these channels, by default 0. */
  readonly first?: number;
  readonly resumes?: boolean;
}

interface Process {
  readonly child: Child;
  /** The number of its clients in each channel. */
  clients: ReadonlyMap<number, number>;
  /** The number of events that will have arrived at it. */
  due: number;
}

/** The number of local addresses that were used: each connect takes new ones, because ports may still be in TIME_WAIT. */
let addresses = 0;

/** Clients in child processes. */
export class Receivers {
  readonly #processes: readonly Process[];

  constructor(run: BoundedRun, mostClients: number) {
    const program = new URL('./receiver-program.ts', import.meta.url);
    const length = Math.max(1, Math.ceil(mostClients / clientsPerProcess));
    this.#processes = Array.from({ length }, () => ({
      child: startChild(run, program),
      clients: new Map<number, number>(),
      due: 0,
    }));
  }

  async connect(
    { path, port, headers, dialect }: Address,
    { clients, channels = 1, first = 0, resumes = false }: Load,
  ): Promise<void> {
    const { length } = this.#processes;
    const share = (whole: number, parts: number, part: number) =>
      Math.floor(whole / parts) + (part % parts < whole % parts ? 1 : 0);
    const indexes = Array.from({ length: channels }, (_, index) => index);
    const connectProcess = async (each: Process, number: number) => {
      each.due = 0;
      each.clients = new Map(
        // Of channels with few clients each process gets some.
        indexes.map((index) => [
          first + index,
          share(share(clients, channels, index), length, number + index),
        ]),
      );
      addresses += 1;
      const localAddress = `127.0.${1 + Math.floor(addresses / 250)}.${1 + (addresses % 250)}`;
      const groups = [...each.clients].map(([channel, count]) => ({ path: path(channel), clients: count }));
      const common = { port, headers, dialect, resumes, localAddress };
      const task: Task = { do: 'connect', ...common, groups };
      await each.child.request(task, connectLimitMs);
    };
    await Promise.all(this.#processes.map(connectProcess));
    await delay(subscribeMs);
  }

  /**
   * Call it before publishing, with the channels of the events. Resolves when all of them have arrived, with the times; with
   * null if they have not within two minutes.
   */
  async expect(channels: readonly number[]): Promise<Arrival | null> {
    try {
      const arrivals = await this.#all<Arrival>((each) => {
        for (const channel of channels) each.due += each.clients.get(channel) ?? 0;
        return { do: 'await', events: each.due };
      }, arrivalLimitMs);
      return {
        firstAtMs: Math.min(...arrivals.map(({ firstAtMs }) => firstAtMs)),
        lastAtMs: Math.max(...arrivals.map(({ lastAtMs }) => lastAtMs)),
      };
    } catch {
      // Missing events are not expected again.
      await this.count();
      return null;
    }
  }

  /** Resolves with the times at which each client is live again. Call it before the connections are lost. */
  async expectLive(): Promise<readonly number[]> {
    return (await this.#all<number[]>(() => ({ do: 'await-live' }), connectLimitMs)).flat();
  }

  /** All clients lose their connections. */
  async drop(): Promise<void> {
    await this.#all(() => ({ do: 'drop' }));
  }

  /** The totals since the connect. */
  async count(): Promise<Count> {
    return this.#sum(await this.#all(() => ({ do: 'count' })));
  }

  /** Closes the connections and returns the totals. */
  async disconnect(): Promise<Count> {
    return this.#sum(await this.#all(() => ({ do: 'disconnect' })));
  }

  async #all<Result>(taskOf: (each: Process) => Task, limitMs?: number): Promise<Result[]> {
    const asked = this.#processes.map(async (each) => await each.child.request(taskOf(each), limitMs));
    return (await Promise.all(asked)) as Result[];
  }

  #sum(counts: readonly Count[]): Count {
    for (const [index, each] of this.#processes.entries()) each.due = counts[index]?.events ?? each.due;
    return counts.reduce((total, one) => ({
      events: total.events + one.events,
      bytes: total.bytes + one.bytes,
      lost: total.lost + one.lost,
    }));
  }
}
