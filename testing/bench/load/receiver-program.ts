import { setTimeout as delay } from 'node:timers/promises';
import { nowMs, serveParent } from '../../testkit/child.ts';
import { Receiver, type ReceiverOptions } from './receiver.ts';

type Common = Omit<ReceiverOptions, 'path' | 'onReady' | 'onEvent' | 'onLost'>;

/** Clients with the same path: those of a channel. */
export interface Group {
  readonly path: string;
  readonly clients: number;
}

/** Totals since the connect. */
export interface Count {
  readonly events: number;
  readonly bytes: number;
  /** Connections that were closed. */
  readonly lost: number;
}

/** When the first and last of the awaited events arrived, by `nowMs`. */
export interface Arrival {
  readonly firstAtMs: number;
  readonly lastAtMs: number;
}

export type Task =
  | ({ readonly do: 'connect'; readonly groups: readonly Group[] } & Common)
  /** Returns an `Arrival` when this number of events has arrived since the connect. */
  | { readonly do: 'await'; readonly events: number }
  /** Returns the times at which each client has become live again, by `nowMs`. Sent before the connections are lost. */
  | { readonly do: 'await-live' }
  /** All clients lose their connections. */
  | { readonly do: 'drop' }
  | { readonly do: 'count' }
  /** Returns a last count. */
  | { readonly do: 'disconnect' };

const parallelHandshakes = 50;
/** How often a client tries to connect, and the pause before it tries again, in milliseconds. */
const attempts = 10;
const retryMs = 1_000;

let receivers = new Set<Receiver>();
let total: { -readonly [figure in keyof Count]: number } = { events: 0, bytes: 0, lost: 0 };
/** Of the events that are awaited; Infinity before it. */
let firstAtMs = Infinity;
let awaited: { readonly events: number; readonly reached: () => void } | null = null;
let liveAtMs: number[] = [];
let onLive = (): void => undefined;

function onEvent(bytes: number): void {
  firstAtMs = Math.min(firstAtMs, nowMs());
  total.events += 1;
  total.bytes += bytes;
  if (awaited === null || total.events < awaited.events) return;
  const { reached } = awaited;
  awaited = null;
  reached();
}

async function connectAll(groups: readonly Group[], common: Common): Promise<void> {
  total = { events: 0, bytes: 0, lost: 0 };
  const paths = groups.flatMap(({ path, clients }) => Array.from({ length: clients }, () => path));
  const connectNext = async () => {
    for (let path = paths.pop(); path !== undefined; path = paths.pop())
      await connectOne({ ...common, path }, attempts);
  };
  await Promise.all(Array.from({ length: parallelHandshakes }, connectNext));
}

/** On a busy machine a server refuses handshakes that take too long (408, 503). */
async function connectOne(options: Common & { readonly path: string }, left: number): Promise<void> {
  try {
    await open(options);
  } catch (error) {
    if (left === 1) throw error;
    await delay(retryMs);
    await connectOne(options, left - 1);
  }
}

async function open(options: Common & { readonly path: string }): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    const receiver = new Receiver({
      ...options,
      onEvent,
      onReady: () => {
        liveAtMs.push(nowMs());
        resolve();
        onLive();
      },
      onLost: (reason) => {
        if (receiver.isReady) {
          total.lost += 1;
          return;
        }
        receivers.delete(receiver);
        reject(new Error(`A client could not connect to port ${options.port}: ${reason}`));
      },
    });
    receivers.add(receiver);
  });
}

serveParent(async (task: Task) => {
  switch (task.do) {
    case 'connect': {
      const { groups, ...common } = task;
      await connectAll(groups, common);
      return null;
    }
    case 'await':
      firstAtMs = Infinity;
      if (total.events < task.events) {
        await new Promise<void>((reached) => {
          awaited = { events: task.events, reached };
        });
      }
      return { firstAtMs, lastAtMs: nowMs() } satisfies Arrival;
    case 'await-live':
      liveAtMs = [];
      await new Promise<void>((resolve) => {
        onLive = () => {
          if (liveAtMs.length >= receivers.size) resolve();
        };
        if (receivers.size === 0) resolve();
      });
      return liveAtMs;
    case 'drop':
      for (const receiver of receivers) receiver.drop();
      return null;
    case 'count':
      return total;
    case 'disconnect':
      awaited = null;
      for (const receiver of receivers) receiver.close();
      receivers = new Set();
      return total;
  }
});
