/**
 * A server of the chaos run, in a process of its own: the product with short intervals, so that it detects faults early,
 * and with an adjustable clock. It sends notes about its reads and connections to its parent.
 */
import { createServer, type Server } from 'node:http';
import { type AddressInfo, Socket } from 'node:net';
import { inspect } from 'node:util';
import v8 from 'node:v8';
import { ioUring } from '@flagcast/io-uring';
import type { Flagcast } from 'flagcast';
import { sendNote, serveParent } from '../testkit/child.ts';

export type ServerTask =
  /** Returns the port that the server listens on. */
  | {
      readonly do: 'start';
      readonly databaseUrl: string;
      readonly secret: string;
      readonly port: number;
      readonly relayUrl?: string | undefined;
    }
  | { readonly do: 'clock'; readonly offsetMs: number }
  /** Returns ServerFigures after a garbage collection. */
  | { readonly do: 'figures' }
  /** Returns when all clients have left. */
  | { readonly do: 'drain' };

/** `sockets`, `timers`: number of objects on the heap, including unreferenced handles. */
export interface ServerFigures {
  readonly residentBytes: number;
  readonly heapBytes: number;
  readonly connections: number;
  readonly sockets: number;
  readonly timers: number;
}

/** A note for timelines. `atMs`: by the clock that no fault adjusts. */
export type ServerNote = readonly [atMs: number, text: string];

let clockOffsetMs = 0;
const trueNow = Date.now.bind(Date);
Date.now = () => trueNow() + clockOffsetMs;
globalThis.Date = new Proxy(Date, {
  construct: (target, args: unknown[], newTarget) =>
    Reflect.construct(target, args.length === 0 ? [Date.now()] : args, newTarget) as Date,
});
// Imported after the clock is replaced, so that no module captures the original one.
const [{ createFlagcast }, { createLogger, logLifecycle }, { flagcastConsole }, { natsRelay }] =
  await Promise.all([
    import('flagcast'),
    import('flagcast/testing'),
    import('@flagcast/console'),
    import('@flagcast/relay-nats'),
  ]);

function note(text: string): void {
  sendNote([trueNow(), text] satisfies ServerNote);
}

let running: { readonly flagcast: Flagcast; readonly http: Server } | null = null;
let connections = 0;

async function start({
  databaseUrl,
  secret,
  port,
  relayUrl,
}: Extract<ServerTask, { do: 'start' }>): Promise<number> {
  const flagcast = createFlagcast({
    database: { url: databaseUrl },
    auth: { secret },
    socketWriter: ioUring,
    relay: relayUrl === undefined ? undefined : natsRelay({ url: relayUrl }),
    console: flagcastConsole(),
    // The console shows switches only if writes are enabled.
    writes: true,
    limits: {
      // Small, so that it is full after the warm-up, and replays read the database more often.
      replayEvents: 300,
      connectionsPerUser: 10_000,
      connectionsPerAddress: 10_000,
    },
    timeouts: {
      heartbeatIntervalMs: 1_000,
      pingIntervalMs: 5_000,
      recheckIntervalMs: 3_000,
      slowTimeoutMs: 10_000,
    },
  });
  const { lifecycle } = flagcast;
  const log = createLogger({ human: false });
  logLifecycle((event, fields, level) => {
    log(event, fields, level);
    note(`${event} ${inspect(fields, { breakLength: Infinity })}`);
  }, lifecycle);
  lifecycle.on('reader:read', ({ trigger, fresh, xmin, snapshotXmax, isComplete }) => {
    if (fresh > 0) {
      note(`read ${fresh} new (${trigger}), ${xmin}-${snapshotXmax}${isComplete ? '' : ', more to come'}`);
    }
  });
  lifecycle.on('batch:broadcast', ({ events, deliveries }) => {
    if (events > 0) note(`sent ${events} events, ${deliveries} deliveries`);
  });
  lifecycle.on('connection:opened', () => (connections += 1));
  lifecycle.on('connection:closed', () => (connections -= 1));
  const http = createServer(flagcast.requestListener);
  flagcast.attach(http);
  running = { flagcast, http };
  void flagcast.ready();
  await new Promise<void>((resolve, reject) => {
    http.once('error', reject);
    http.listen(port, '127.0.0.1', resolve);
  });
  return (http.address() as AddressInfo).port;
}

function figures(): ServerFigures {
  const timer = setTimeout(() => undefined, 0);
  clearTimeout(timer);
  const Timer = timer.constructor as new () => unknown;
  // queryObjects collects garbage first.
  const sockets = v8.queryObjects(Socket, { format: 'count' });
  const timers = v8.queryObjects(Timer, { format: 'count' });
  globalThis.gc?.();
  const { rss, heapUsed } = process.memoryUsage();
  return { residentBytes: rss, heapBytes: heapUsed, connections, sockets, timers };
}

serveParent(async (task: ServerTask) => {
  switch (task.do) {
    case 'start':
      return await start(task);
    case 'clock':
      clockOffsetMs = task.offsetMs;
      return null;
    case 'figures':
      return figures();
    case 'drain':
      await running?.flagcast.close();
      running?.http.closeAllConnections();
      running?.http.close();
      return null;
  }
});
