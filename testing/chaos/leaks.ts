import { pollUntil } from '../testkit/poll.ts';
import type { ServerProcess } from './server-process.ts';
import type { ServerFigures } from './server-program.ts';

/** Time limit for a server to release everything of its closed clients, in milliseconds. */
const releaseLimitMs = 60_000;
/** The server does nothing else while it counts its objects, which takes seconds on a busy machine. */
const figuresIntervalMs = 3_000;
/** Tolerance: database connections that are still idle, with one or two timers each. */
const tolerance = { sockets: 5, timers: 12 };

export interface Leaks {
  readonly sockets: number;
  readonly timers: number;
  readonly connections: number;
}

/**
 * Counts the connections, sockets and timers that a server still holds after all clients have closed, compared with the
 * figures from before they connected.
 */
export async function findLeaks(server: ServerProcess, before: ServerFigures): Promise<Leaks> {
  let leaks: Leaks = { connections: 0, sockets: 0, timers: 0 };
  await pollUntil(
    releaseLimitMs,
    async () => {
      const now = await server.figures();
      leaks = {
        connections: now.connections,
        sockets: Math.max(0, now.sockets - before.sockets - tolerance.sockets),
        timers: Math.max(0, now.timers - before.timers - tolerance.timers),
      };
      return leaks.connections + leaks.sockets + leaks.timers === 0;
    },
    { intervalMs: figuresIntervalMs },
  );
  return leaks;
}
