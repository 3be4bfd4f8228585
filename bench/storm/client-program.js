import { serveParent } from '../child.js';
import { StormClient } from './storm-client.js';

/** @import { StormClientOptions } from './storm-client.js' */

/**
 * `connect` is answered when all are live. `await` is asked before what it waits for can happen: it is
 * answered when all have become live anew and each has got `events` more, with the moments at which
 * they became live, by the clock of `process.hrtime`, in milliseconds.
 *
 * @typedef {{ do: 'connect', clients: number } & Omit<StormClientOptions, 'onLive' | 'onEvent'>
 *   | { do: 'await', live: boolean, events: number }
 *   | { do: 'disconnect' }} StormTask
 */

/** Newcomers under way at the same time, at the beginning. */
const parallelHandshakes = 100;

/** @type {StormClient[]} */
let clients = [];
/** @type {number[]} */
let liveAtMs = [];
let events = 0;
/** What is called after each thing that happens. */
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
      for (const client of clients) client.leave();
      clients = [];
      liveAtMs = [];
      return null;
  }
});
