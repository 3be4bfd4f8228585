/**
 * A server of the chaos run, in a process that can be killed: the product with short periods, so that
 * faults are noticed soon, and with a clock that can be set wrong. It tells its parent what it reads and
 * whom it lets in.
 */
import { createServer } from 'node:http';
import { Socket } from 'node:net';
import v8 from 'node:v8';
import { answerParent } from '../bench/child.js';

/** @import { AddressInfo } from 'node:net' */

/**
 * `start` is answered with the port that it listens on, `drain` when all have left, `figures` with the
 * ServerFigures after a collection of garbage.
 *
 * @typedef {{ do: 'start', databaseUrl: string, secret: string, port: number }
 *   | { do: 'clock', offsetMs: number }
 *   | { do: 'figures' }
 *   | { do: 'drain' }} ServerTask
 */

/**
 * `sockets`, `timers`: how many there are in memory, also those that keep no process alive.
 *
 * @typedef {{ residentBytes: number, heapBytes: number, connections: number, sockets: number, timers: number }} ServerFigures
 */

/**
 * What happened in the server, for timelines: when, by the clock that no fault sets wrong, and what.
 *
 * @typedef {readonly [atMs: number, what: string]} ServerNote
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
// Only now, so that no part keeps the clock that is right.
const [{ createFlagcast }, { createLogger, logLifecycle }] = await Promise.all([
  import('../packages/server/dist/index.js'),
  import('../packages/server/dist/log.js'),
]);

/** @param {string} what */
function note(what) {
  // A parent that is gone needs no notes.
  process.send?.({ note: [trueNow(), what] }, () => undefined);
}

/** @type {{ flagcast: ReturnType<typeof createFlagcast>, http: ReturnType<typeof createServer> } | null} */
let running = null;
let connections = 0;

/** @param {Extract<ServerTask, { do: 'start' }>} task */
async function start({ databaseUrl, secret, port }) {
  const flagcast = createFlagcast({
    databaseUrl,
    auth: { secret },
    // So that the console shows its switches.
    writes: true,
    // Soon full, so that memory has found its size after the warm-up, and the database is asked more often.
    ringEvents: 300,
    maxConnectionsPerUser: 10_000,
    maxConnectionsPerAddress: 10_000,
    timing: {
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
  lifecycle.on('reader:recovered', () => note('reads again'));
  lifecycle.on('reader:history-lost', ({ reason }) => note(`history lost: ${reason}`));
  lifecycle.on('channel:resync', ({ channel, reason }) =>
    note(`told channel ${channel} to resync: ${reason}`),
  );
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
  flagcast.start();
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
  // Each of the two collects the garbage before it counts.
  const sockets = v8.queryObjects(Socket, { format: 'count' });
  const timers = v8.queryObjects(Timer, { format: 'count' });
  globalThis.gc?.();
  const { rss, heapUsed } = process.memoryUsage();
  return { residentBytes: rss, heapBytes: heapUsed, connections, sockets, timers };
}

answerParent(async (/** @type {ServerTask} */ task) => {
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
