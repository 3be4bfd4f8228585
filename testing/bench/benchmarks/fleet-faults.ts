import { setTimeout as delay } from 'node:timers/promises';
import type { ServeProcess } from '../../testkit/serve-process.ts';
import type { Nats } from './nats.ts';

/** Pause before each fault, in milliseconds, so that the fleet recovers from the previous one. */
const pauseMs = 4_000;
/** Durations of the outages of NATS, of which one is long, in milliseconds. */
const longOutageMs = 60_000;
const shortOutageMs = 500;
const stopMs = 5_000;

interface FaultOptions {
  /** A restarted server replaces the old one. */
  readonly servers: ServeProcess[];
  readonly restart: (port: number) => Promise<ServeProcess>;
  readonly nats: Nats;
  readonly durationMs: number;
  readonly signal: AbortSignal;
  /** Resolves with the time when a client of another server receives an event that was committed after `afterMs`. */
  readonly nextDelivery: (except: string, afterMs: number) => Promise<number>;
}

/** Injects faults one after the other. Returns how often, and for each kill of the leader the seconds of the takeover. */
export async function injectFaults({
  servers,
  restart,
  nats,
  durationMs,
  signal,
  nextDelivery,
}: FaultOptions) {
  const takeovers: number[] = [];
  const counts: Record<string, number> = {};
  const breakNats = async (ms: number) => {
    await nats.kill();
    await delay(ms, undefined, { signal });
    await nats.start();
  };
  const endMs = performance.now() + durationMs;
  let longOutages = 0;
  for (let number = 0; performance.now() < endMs; number += 1) {
    await delay(pauseMs, undefined, { signal });
    const roles = await Promise.all(servers.map(roleOf));
    const leader = roles.indexOf('leading');
    const server = servers[leader];
    let fault = 'no leader';
    if (number % 6 === 2) {
      fault = 'NATS restarted';
      await breakNats(shortOutageMs);
    } else if (longOutages === 0 && performance.now() > endMs - durationMs / 2) {
      fault = 'NATS unavailable for a minute';
      longOutages += 1;
      await breakNats(longOutageMs);
    } else if (number % 6 === 4 && server !== undefined) {
      fault = 'leader stopped and continued';
      server.program.signal('SIGSTOP');
      await delay(stopMs, undefined, { signal });
      server.program.signal('SIGCONT');
    } else if (server !== undefined) {
      fault = 'leader killed';
      const killedAtMs = Date.now();
      await server.kill();
      const delivered = nextDelivery(server.url, Date.now());
      servers[leader] = await restart(server.port);
      takeovers.push(((await delivered) - killedAtMs) / 1_000);
    }
    counts[fault] = (counts[fault] ?? 0) + 1;
  }
  // The fleet recovers from the last fault before its clients are checked.
  await delay(2 * pauseMs, undefined, { signal });
  return { counts, takeovers };
}

/** The role of a server in the relay; null without a relay, and while it does not answer. */
export async function roleOf({ url }: ServeProcess): Promise<string | null> {
  try {
    const response = await fetch(`${url}/metrics`, { headers: { Connection: 'close' } });
    return /^flagcast_relay_role\{role="(\w+)"\} 1$/m.exec(await response.text())?.[1] ?? null;
  } catch {
    return null;
  }
}
