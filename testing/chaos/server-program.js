/**
 * A server of the chaos run, in a process of its own: the product with short intervals, so that it detects faults early,
 * and with an adjustable clock. It sends notes about its reads and connections to its parent.
 */
import { createServer } from 'node:http';
import { Socket } from 'node:net';
import v8 from 'node:v8';
import { serveParent } from '../testkit/child.ts';
import { ioUring } from '@flagcast/io-uring';

/** @import { AddressInfo } from 'node:net' */

/**
 * `start` returns the port that the server listens on, `figures` its ServerFigures after a garbage collection; `drain`
 * returns when all clients have left.
 *
 * @typedef {{ do: 'start', databaseUrl: string, secret: string, port: number }
 *   | { do: 'clock', offsetMs: number }
 *   | { do: 'figures' }
 *   | { do: 'drain' }} ServerTask
 */

/**
 * `sockets`, `timers`: number of objects on the heap, including unreferenced handles.
 *
 * @typedef {{ residentBytes: number, heapBytes: number, connections: number, sockets: number, timers: number }} ServerFigures
 */

/**
 * A note for timelines. `atMs`: by the clock that no fault adjusts.
 *
 * @typedef {readonly [atMs: number, text: string]} ServerNote
 */

let clockOffsetMs = 0;
const trueNow = Date.now.bind(Date);
Date.now = () => trueNow() + clockOffsetMs;
globalThis.Date = new Proxy(Date, {
  construct(target, /** @type {unknown[]} */ args, newTarget) {
    const constructed = /** @type {unknown} */ (
      Reflect.construct(target, args.length === 0 ? [Date.now()] : args, newTarget)
    );
    return /** @type {Date} */ (constructed);
  },
});
// Imported after the clock is replaced, so that no module captures the original one.
const [{ createFlagcast }, { createLogger, logLifecycle }] = await Promise.all([
  import('flagcast'),
  import('../../packages/server/dist/operations/log.js'),
]);

/** @param {string} text */
function note(text) {
  // The callback suppresses the error after the parent has exited.
  process.send?.({ note: [trueNow(), text] }, () => undefined);
}

/** @type {{ flagcast: ReturnType<typeof createFlagcast>, http: ReturnType<typeof createServer> } | null} */
let running = null;
let connections = 0;

/** @param {Extract<ServerTask, { do: 'start' }>} task */
async function start({ databaseUrl, secret, port }) {
  const flagcast = createFlagcast({
    database: { url: databaseUrl },
    auth: { secret },
    socketWriter: ioUring,
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
  logLifecycle(createLogger({ human: false }), lifecycle);
  lifecycle.on('reader:read', ({ trigger, fresh, xmin, snapshotXmax, isComplete }) => {
    if (fresh > 0) {
      note(`read ${fresh} new (${trigger}), ${xmin}-${snapshotXmax}${isComplete ? '' : ', more to come'}`);
    }
  });
  lifecycle.on('reader:page-failed', ({ error, rows, readsState }) =>
    note(`page failed: ${error.message}; next ${rows} rows, ${readsState ? 'with' : 'without'} states`),
  );
  lifecycle.on('freshness:changed', (change) =>
    note(change.state === 'fresh' ? 'fresh' : `stale: ${change.reason}: ${change.problem}`),
  );
  lifecycle.on('batch:broadcast', ({ events, deliveries }) => {
    if (events > 0) note(`sent ${events} events, ${deliveries} deliveries`);
  });
  lifecycle.on('reader:failed', ({ error }) => note(`read failed: ${error.message}`));
  lifecycle.on('reader:recovered', () => note('reads recovered'));
  lifecycle.on('reader:history-lost', ({ reason }) => note(`history lost: ${reason}`));
  lifecycle.on('channel:resync', ({ channel, reason }) => note(`resync of channel ${channel}: ${reason}`));
  lifecycle.on('connection:opened', ({ connectionId, userId, dialect }) => {
    connections += 1;
    note(`connection ${connectionId} opened by user ${userId} (${dialect})`);
  });
  lifecycle.on('connection:closed', ({ connectionId, userId, code, reason }) => {
    connections -= 1;
    note(`connection ${connectionId} of user ${userId} closed: ${code} ${reason}`);
  });
  const http = createServer(flagcast.requestListener);
  flagcast.attach(http);
  running = { flagcast, http };
  void flagcast.ready();
  await new Promise((resolve, reject) => {
    http.once('error', reject);
    http.listen(port, '127.0.0.1', () => resolve(undefined));
  });
  return /** @type {AddressInfo} */ (http.address()).port;
}

/** @returns {ServerFigures} */
function figures() {
  const timer = setTimeout(() => undefined, 0);
  clearTimeout(timer);
  const Timer = /** @type {new () => unknown} */ (timer.constructor);
  // queryObjects collects garbage first.
  const sockets = v8.queryObjects(Socket, { format: 'count' });
  const timers = v8.queryObjects(Timer, { format: 'count' });
  globalThis.gc?.();
  const { rss, heapUsed } = process.memoryUsage();
  return { residentBytes: rss, heapBytes: heapUsed, connections, sockets, timers };
}

serveParent(async (/** @type {ServerTask} */ task) => {
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
