import { startChild } from '../../testkit/child.ts';

/** @import { BoundedRun } from '../../testkit/bounded-run.ts' */
/** @import { Connect, Count, Group } from './receiver-program.js' */

/** Clients of a process: limited by its open files (20,000) and by one core. */
const clientsPerProcess = 8_000;
/** Time limit for all handshakes, in milliseconds. */
const connectLimitMs = 120_000;

/**
 * Clients in child processes. `connect`: opens the clients of each group; a group is a channel. `expect`: call it before
 * publishing, with the channels (indexes in `groups`) of the events; resolves with true when all have arrived, or with false
 * after `limitMs`. `count` and `disconnect` return the totals since the connect.
 *
 * @typedef {{
 *   readonly connect: (options: Omit<Connect, 'do' | 'localAddress' | 'groups'>, groups: readonly Group[]) => Promise<void>,
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
  const processCount = Math.max(1, Math.ceil(mostClients / clientsPerProcess));
  const processes = Array.from({ length: processCount }, () => ({
    child: startChild(run, program),
    /** Number of its clients in each channel. */
    clients: /** @type {number[]} */ ([]),
    /** Number of events that will have arrived at it. */
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
    connect: async (options, groups) => {
      // Use a new address each time: the ports of the previous one may still be in TIME_WAIT.
      connects = (connects % 250) + 1;
      await Promise.all(
        processes.map(async (each, index) => {
          each.due = 0;
          each.clients = groups.map(
            ({ clients }) => Math.floor(clients / processCount) + (index < clients % processCount ? 1 : 0),
          );
          await each.child.request(
            {
              do: 'connect',
              ...options,
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
        // The time-out must not delay the end of the run.
        timer.unref();
      });
      const inTime = await Promise.race([arrived.then(() => true), late]);
      clearTimeout(timer);
      // Missing events are not expected again.
      if (!inTime) await counts('count');
      return inTime;
    },
    count: async () => sum(await counts('count')),
    disconnect: async () => sum(await counts('disconnect')),
  };
}
