import { randomUUID } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import { LibraryClient } from './clients/library-client.js';
import { PlainClient } from './clients/plain-client.js';
import { StreamClient } from './clients/stream-client.js';

/** @import pg from 'pg' */
/** @import { World } from './faults.js' */
/** @import { ChaosClient } from './clients/client.js' */
/** @import { ChaosChannel } from './writers.js' */

/** How long clients may take to connect, and their channels to end, in milliseconds: servers may be stopped meanwhile. */
const connectLimitMs = 60_000;
const endLimitMs = 45_000;
const pollIntervalMs = 100;
/** The reason that the server gives, or its answer to a new request. */
const ends = /environment_deleted|unknown_environment|4504|404/;

/**
 * Makes an environment, connects a client of each kind to it, deletes it, and waits until each channel has ended.
 * Throws an Error where one does not end.
 *
 * @param {World} world
 * @param {(work: (client: pg.Client) => Promise<void>) => Promise<void>} change a transaction of the host
 */
export async function deleteEnvironment(world, change) {
  const { servers, tokens, viewers, channels, signal } = world;
  const [server] = servers;
  const [viewer] = viewers;
  const [first] = channels;
  if (server === undefined || viewer === undefined || first === undefined) return 'nothing';
  const env = `gone-${randomUUID().slice(0, 8)}`;
  /** @type {ChaosChannel[]} */
  const made = [];
  await change(async (client) => {
    /** @type {pg.QueryResult<ChaosChannel>} */
    const { rows } = await client.query(
      `INSERT INTO environments (project_id, key, name) VALUES ($1, $2, $2)
       RETURNING project_id AS "projectId", id::text AS "environmentId", key AS env`,
      [first.projectId, env],
    );
    made.push(...rows);
  });
  const channel = made.at(-1);
  if (channel === undefined) throw new Error('the environment was not made');
  const options = (/** @type {string} */ name) => ({
    name,
    baseUrl: server.url,
    userId: viewer.id,
    getToken: async () => await tokens.issue(viewer),
    chance: () => 0.5,
  });
  /** @type {ChaosClient[]} */
  const clients = [
    new LibraryClient(options(`library of ${env} 1`), [channel], false),
    new PlainClient(options(`plain of ${env} 2`), channel, 'steady'),
    new StreamClient(options(`server-sent events of ${env} 3`), channel, 'steady'),
  ];
  try {
    await until('connect', connectLimitMs, signal, clients, ({ segments }) => segments.length > 0);
    await change(async (client) => {
      await client.query('DELETE FROM environments WHERE id = $1', [channel.environmentId]);
    });
    const deletedAtMs = Date.now();
    await until('end', endLimitMs, signal, clients, ({ history }) =>
      history.some(([atMs, what]) => atMs >= deletedAtMs - 1_000 && ends.test(what)),
    );
    return `${env}, its channels ended within ${Date.now() - deletedAtMs} ms`;
  } finally {
    for (const client of clients) client.leave();
  }
}

/**
 * @param {string} what
 * @param {number} limitMs
 * @param {AbortSignal} signal
 * @param {readonly ChaosClient[]} clients
 * @param {(client: ChaosClient) => boolean} holds
 */
async function until(what, limitMs, signal, clients, holds) {
  const endMs = performance.now() + limitMs;
  for (;;) {
    const waiting = clients.filter((client) => !holds(client));
    if (waiting.length === 0) return;
    if (performance.now() > endMs) {
      const names = waiting.map(({ name, history }) => `${name} (${history.at(-1)?.[1] ?? 'no history'})`);
      throw new Error(`did not ${what} within ${limitMs} ms: ${names.join(', ')}`);
    }
    await delay(pollIntervalMs, undefined, { signal });
  }
}
