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
  /** Whether it leads. */
  readonly leads: boolean;
}

/** A server with a relay. Its role may not be known yet. */
export async function startRelayed(
  database: Pick<TestDatabase, 'url'>,
  relayUrl: string,
  options: TestServerOptions = {},
): Promise<TestServer> {
  // The pools of tests do not send NOTIFY: their sessions are older than the setting.
  return await startTestServer(database.url, {
    relay: natsRelay({ url: relayUrl }),
    timeouts: { heartbeatIntervalMs: 200 },
    ...options,
    database: { pollIntervalMs: 100, ...options.database },
  });
}

/** A server that leads or follows. */
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
