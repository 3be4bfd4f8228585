import { serveParent } from '../../testkit/child.ts';
import { StormClient } from './storm-client.js';

/** @import { StormClientOptions } from './storm-client.js' */

/**
 * `connect`: returns when all clients are live. `await`: send it before the events; returns when each client has received
 * `events` more and, with `live`, is live again. Its result are the times at which the clients became live, by
 * `process.hrtime`, in milliseconds.
 *
 * @typedef {{ do: 'connect', clients: number } & Omit<StormClientOptions, 'onLive' | 'onEvent'>
 *   | { do: 'await', live: boolean, events: number }
 *   | { do: 'disconnect' }} StormTask
 */

/** Number of concurrent handshakes of the first connect. */
const parallelHandshakes = 100;

/** @type {StormClient[]} */
let clients = [];
/** @type {number[]} */
let liveAtMs = [];
let events = 0;
/** Called after each change. */
let onProgress = () => undefined;

const nowMs = () => Number(process.hrtime.bigint()) / 1e6;

/** @param {() => boolean} reached */
async function until(reached) {
  await new Promise((/** @type {(value: void) => void} */ resolve) => {
    onProgress = () => {
      if (reached()) resolve();
      return undefined;
    };
    onProgress();
  });
}

serveParent(async (/** @type {StormTask} */ task) => {
  switch (task.do) {
    case 'connect': {
      const { clients: count, ...options } = task;
      let wanted = 0;
      while (clients.length < count) {
        wanted += Math.min(parallelHandshakes, count - clients.length);
        while (clients.length < wanted) {
          clients.push(
            new StormClient({
              ...options,
              onLive: () => {
                liveAtMs.push(nowMs());
                onProgress();
              },
              onEvent: () => {
                events += 1;
                onProgress();
              },
            }),
          );
        }
        await until(() => liveAtMs.length >= wanted);
      }
      return clients.length;
    }
    case 'await':
      liveAtMs = [];
      events = 0;
      await until(
        () => (!task.live || liveAtMs.length >= clients.length) && events >= task.events * clients.length,
      );
      return liveAtMs;
    case 'disconnect':
      for (const client of clients) client.close();
      clients = [];
      liveAtMs = [];
      return null;
  }
});
