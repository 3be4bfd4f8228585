import { startChild } from '../child.js';

/** @import { BoundedRun } from '../bounded-run.js' */
/** @import { Connect, Count, Group } from './receiver-program.js' */

/** How many clients one process has at the most: it may open 20,000 files, and is one core's work. */
const clientsPerProcess = 8_000;
/** How long all handshakes may take, in milliseconds. */
const connectLimitMs = 120_000;

/**
 * Clients in processes of their own. `connect` makes the clients of each group, which stands for one
 * channel. `expect` is called with the channels (places in `groups`) of the events that will be
 * published: its promise resolves with true once all of them have come, with false when `limitMs` went
 * by before. `count` and `disconnect` tell what has come since the connect.
 *
 * @typedef {{
 *   readonly connect: (how: Omit<Connect, 'do' | 'localAddress' | 'groups'>, groups: readonly Group[]) => Promise<void>,
 *   readonly expect: (channels: readonly number[], limitMs: number) => Promise<boolean>,
 *   readonly count: () => Promise<Count>,
 *   readonly disconnect: () => Promise<Count>,
 * }} Receivers
 */

/**
 * @param {BoundedRun} run
 * @param {number} mostClients
 * @returns {Receivers}
 */
export function startReceivers(run, mostClients) {
  const program = new URL('./receiver-program.js', import.meta.url);
  const wanted = Math.max(1, Math.ceil(mostClients / clientsPerProcess));
  const processes = Array.from({ length: wanted }, () => ({
    child: startChild(run, program),
    /** How many clients of each channel it has. */
    clients: /** @type {number[]} */ ([]),
    /** How many events will have come to it. */
    due: 0,
  }));
  let connects = 0;

  /** @param {'count' | 'disconnect'} task */
  const counts = async (task) =>
    await Promise.all(
      processes.map(async (each) => {
        const count = /** @type {Count} */ (await each.child.request({ do: task }));
        each.due = count.events;
        return count;
      }),
    );
  /** @param {readonly Count[]} all */
  const sum = (all) =>
    all.reduce((total, one) => ({
      events: total.events + one.events,
      bytes: total.bytes + one.bytes,
      fewest: Math.min(total.fewest, one.fewest),
      lost: total.lost + one.lost,
    }));

  return {
    connect: async (how, groups) => {
      // Another address each time: the ports of the last one may still be taken.
      connects = (connects % 250) + 1;
      await Promise.all(
        processes.map(async (each, index) => {
          each.due = 0;
          each.clients = groups.map(
            ({ clients }) => Math.floor(clients / wanted) + (index < clients % wanted ? 1 : 0),
          );
          await each.child.request(
            {
              do: 'connect',
              ...how,
              localAddress: `127.0.${connects}.${index + 1}`,
              groups: groups.map((group, channel) => ({ ...group, clients: each.clients[channel] ?? 0 })),
            },
            connectLimitMs,
          );
        }),
      );
    },
    expect: async (channels, limitMs) => {
      const arrived = Promise.all(
        processes.map(async (each) => {
          for (const channel of channels) each.due += each.clients[channel] ?? 0;
          await each.child.request({ do: 'await', events: each.due });
        }),
      );
      /** @type {NodeJS.Timeout | undefined} */
      let timer;
      /** @type {Promise<false>} */
      const late = new Promise((resolve) => {
        timer = setTimeout(() => resolve(false), limitMs);
        // A run that is over is not to wait for it.
        timer.unref();
      });
      const inTime = await Promise.race([arrived.then(() => true), late]);
      clearTimeout(timer);
      // What has not come is not waited for again.
      if (!inTime) await counts('count');
      return inTime;
    },
    count: async () => sum(await counts('count')),
    disconnect: async () => sum(await counts('disconnect')),
  };
}
