import { Lifecycle } from '../../server/src/lifecycle.js';
import { natsRelay } from '../src/index.js';
import type { TestDatabase } from '../../server/test/database.js';
import {
  nextEvent,
  startTestServer,
  type TestServer,
  type TestServerOptions,
} from '../../server/test/server.js';

export interface FleetMember {
  readonly server: TestServer;
  readonly lifecycle: Lifecycle;
  /** Whether it reads for all. */
  readonly leads: boolean;
}

/** A server that shares its reader by way of NATS, whether or not it has come so far. */
export async function startRelayed(
  database: Pick<TestDatabase, 'url'>,
  relayUrl: string,
  options: TestServerOptions = {},
): Promise<TestServer> {
  // Hints need sessions that notify, and the pools of tests are older than the setting.
  return await startTestServer(database.url, {
    relay: natsRelay({ url: relayUrl }),
    timeouts: { heartbeatIntervalMs: 200 },
    ...options,
    database: { pollIntervalMs: 100, ...options.database },
  });
}

/** Ready when it is settled who reads. */
export async function startMember(
  database: Pick<TestDatabase, 'url'>,
  relayUrl: string,
  lifecycle = new Lifecycle(),
): Promise<FleetMember> {
  const settled = Promise.race([
    nextEvent(lifecycle, 'relay:elected').then(() => true),
    nextEvent(lifecycle, 'relay:following').then(() => false),
  ]);
  const server = await startRelayed(database, relayUrl, { lifecycle });
  return { server, lifecycle, leads: await settled };
}
