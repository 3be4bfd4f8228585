import { once } from 'node:events';
import type { Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { ApprovalsSnapshot } from '@flagcast/protocol';
import { type ConsoleOptions, flagcastConsole, type ScryptCost } from '@flagcast/console';
import type pg from 'pg';
import { signToken } from '../src/auth/sign-token.js';
import { createFlagcast } from '../src/flagcast.js';
import type { DatabaseSettings, Flagcast, FlagcastOptions } from '../src/flagcast-options.js';
import type { Lifecycle, LifecycleEvents } from '../src/lifecycle.js';
import { insertAudits } from './database.js';
import type { TestChannel } from './v1-client.js';

export const testSecret = 'a secret for tests that is long enough';
/** An eighth of the cost of a server's hashes, which take half a second. */
export const testPasswordCost: ScryptCost = { N: 16_384, r: 8, p: 1 };

export interface TestServer {
  readonly flagcast: Flagcast;
  readonly http: Server;
  readonly httpUrl: string;
  /** `ws://127.0.0.1:port/api/ws` */
  readonly wsUrl: string;
  /** Whether it listens for notifications, or the reason why not. */
  readonly listening: LifecycleEvents['listener:listening' | 'listener:unavailable' | 'relay:following'][0];
  /** How its connections are written to. */
  readonly socketWriter: LifecycleEvents['socket-writer:chosen'][0];
  close(): Promise<void>;
}

export interface TestServerOptions extends Partial<Omit<FlagcastOptions, 'database' | 'console'>> {
  readonly database?: DatabaseSettings;
  /** Default of `passwordCost`: `testPasswordCost`; of `pagesDir`: null. Null: no console. */
  readonly console?: ConsoleOptions | null;
}

/** A server on a free port with the database of this URL or pool. It reads and, if possible, listens for notifications. */
export async function startTestServer(
  location: string | { readonly pool: pg.Pool },
  { database, console: consoleOptions = {}, ...rest }: TestServerOptions = {},
): Promise<TestServer> {
  const found = typeof location === 'string' ? { url: location } : location;
  const flagcast = createFlagcast({
    auth: { secret: testSecret },
    ...(consoleOptions !== null && {
      // Each server would read and hash the pages.
      console: flagcastConsole({ passwordCost: testPasswordCost, pagesDir: null, ...consoleOptions }),
    }),
    ...rest,
    database: { ...found, ...database },
  });
  const chosen = nextEvent(flagcast.lifecycle, 'socket-writer:chosen');
  const started = nextEvent(flagcast.lifecycle, 'reader:started');
  const listening = Promise.race([
    nextEvent(flagcast.lifecycle, 'listener:listening'),
    nextEvent(flagcast.lifecycle, 'listener:unavailable'),
    // The relay leader listens.
    nextEvent(flagcast.lifecycle, 'relay:following'),
  ]);
  const http = flagcast.createServer();
  http.listen(0, '127.0.0.1');
  await once(http, 'listening');
  void flagcast.ready();
  const [, listens] = await Promise.all([started, listening]);
  const { port } = http.address() as AddressInfo;
  return {
    flagcast,
    http,
    httpUrl: `http://127.0.0.1:${port}`,
    wsUrl: `ws://127.0.0.1:${port}/api/ws`,
    listening: listens,
    socketWriter: await chosen,
    async close() {
      await flagcast.close();
      http.closeAllConnections();
      http.close();
    },
  };
}

/** The payload of the next lifecycle event of this name that fits. */
export async function nextEvent<Name extends keyof LifecycleEvents>(
  lifecycle: Lifecycle,
  name: Name,
  fits: (payload: LifecycleEvents[Name][0]) => boolean = () => true,
): Promise<LifecycleEvents[Name][0]> {
  return await new Promise((resolve) => {
    const listener = (payload: LifecycleEvents[Name][0]): void => {
      if (!fits(payload)) return;
      lifecycle.off(name, listener as never);
      resolve(payload);
    };
    lifecycle.on(name, listener as never);
  });
}

/** Writes events in one transaction, and waits until they have been broadcast, in any number of batches. */
export async function burst(
  { flagcast }: TestServer,
  pool: pg.Pool,
  channel: TestChannel,
  events: number,
  entity?: string,
): Promise<void> {
  let left = events;
  const sent = nextEvent(flagcast.lifecycle, 'batch:broadcast', (batch) => (left -= batch.events) <= 0);
  await insertAudits(pool, channel, events, entity);
  await sent;
}

export interface TestUser {
  readonly id: string;
  readonly username: string;
  readonly token: string;
}

/** A user in the database, with a token that is good for `ttlMs` (default ten minutes). */
export async function createUser(
  pool: pg.Pool,
  username: string,
  options: { superuser?: boolean; active?: boolean; ttlMs?: number } = {},
): Promise<TestUser> {
  const { superuser = false, active = true, ttlMs = 600_000 } = options;
  const { rows } = await pool.query<{ id: number }>(
    `INSERT INTO users (username, email, password_hash, is_superuser, is_active)
     VALUES ($1::text, $1::text || '@example.com', '', $2, $3) RETURNING id`,
    [username, superuser, active],
  );
  const id = String(rows[0]?.id);
  return { id, username, token: await signToken({ secret: testSecret, userId: id, username, ttlMs }) };
}

/** Gives the user a role (`project_owner`, `project_member`, `project_viewer` ...) in the project. */
export async function addMember(
  pool: pg.Pool,
  projectId: string,
  userId: string,
  role: string,
): Promise<void> {
  await pool.query(
    'INSERT INTO memberships (project_id, user_id, role_id) SELECT $1, $2, id FROM roles WHERE key = $3',
    [projectId, userId, role],
  );
}

/** The state of the user's approvals feed. */
export async function approvalsSnapshot(
  { httpUrl }: TestServer,
  { token }: Pick<TestUser, 'token'>,
): Promise<ApprovalsSnapshot> {
  const response = await fetch(`${httpUrl}/api/snapshot?feed=approvals`, {
    headers: { Authorization: `Bearer ${token}` },
  });
  if (response.status !== 200) throw new Error(`${response.status}: ${await response.text()}`);
  return (await response.json()) as ApprovalsSnapshot;
}
