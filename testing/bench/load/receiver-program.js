import { serveParent } from '../../testkit/child.ts';
import { dialects } from './dialects.js';
import { Receiver } from './receiver.js';

/** @import { DialectName } from './dialects.js' */

/**
 * Clients with the same subscription. `topic`: for protocols that subscribe by message.
 *
 * @typedef {{ path: string, topic: string, clients: number }} Group
 */

/**
 * @typedef {{
 *   do: 'connect',
 *   port: number,
 *   localAddress: string,
 *   headers: Readonly<Record<string, string>>,
 *   dialect: DialectName,
 *   groups: readonly Group[],
 * }} Connect
 */

/**
 * Totals since the connect. `fewest`: events of the receiver with the fewest. `lost`: closed connections.
 *
 * @typedef {{ events: number, bytes: number, fewest: number, lost: number }} Count
 */

/**
 * `await`: returns when this number of events has arrived since the connect. `disconnect`: returns a last count.
 *
 * @typedef {Connect | { do: 'await', events: number } | { do: 'count' } | { do: 'disconnect' }} Task
 */

/** Number of concurrent handshakes. */
const parallelHandshakes = 100;

const chunk = Buffer.allocUnsafe(65_536);
/** @type {Receiver[]} */
let receivers = [];
let events = 0;
let bytes = 0;
let lost = 0;
/** @type {{ events: number, reached: () => void } | null} */
let awaited = null;

/** @param {number} size */
function onEvent(size) {
  events += 1;
  bytes += size;
  if (awaited !== null && events >= awaited.events) {
    const { reached } = awaited;
    awaited = null;
    reached();
  }
}

/** @param {Connect} connect */
async function connectAll({ groups, dialect, ...common }) {
  events = 0;
  bytes = 0;
  lost = 0;
  const wanted = groups.flatMap(({ path, topic, clients }) => {
    const protocol = dialects[dialect](topic);
    return Array.from({ length: clients }, () => ({ path, dialect: protocol }));
  });
  let next = 0;
  const connectNext = async () => {
    for (let each = wanted[next++]; each !== undefined; each = wanted[next++]) {
      const options = { ...common, ...each, chunk, onEvent };
      await new Promise((/** @type {(value: void) => void} */ resolve, reject) => {
        /** @type {Receiver} */
        const receiver = new Receiver({
          ...options,
          onReady: () => resolve(),
          onLost: (reason) => {
            if (receiver.ready) lost += 1;
            else reject(new Error(`A client could not connect to port ${options.port}: ${reason}`));
          },
        });
        receivers.push(receiver);
      });
    }
  };
  await Promise.all(Array.from({ length: parallelHandshakes }, connectNext));
}

/** @returns {Count} */
function count() {
  const fewest = receivers.reduce((least, receiver) => Math.min(least, receiver.events), Infinity);
  return { events, bytes, fewest: receivers.length === 0 ? 0 : fewest, lost };
}

serveParent(async (/** @type {Task} */ task) => {
  switch (task.do) {
    case 'connect':
      await connectAll(task);
      return receivers.length;
    case 'await':
      if (events < task.events) {
        await new Promise((/** @type {(value: void) => void} */ resolve) => {
          awaited = { events: task.events, reached: resolve };
        });
      }
      return null;
    case 'count':
      return count();
    case 'disconnect': {
      const last = count();
      awaited = null;
      for (const receiver of receivers) receiver.close();
      receivers = [];
      return last;
    }
  }
});
