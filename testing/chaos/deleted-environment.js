import { randomUUID } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import { LibraryClient } from './clients/library-client.js';
import { PlainClient } from './clients/plain-client.js';
import { StreamClient } from './clients/stream-client.js';

/** @import pg from 'pg' */
/** @import { NemesisContext } from './nemesis.js' */
/** @import { ChaosClient } from './clients/base-client.js' */
/** @import { ChaosChannel } from './writers.js' */

/** Time limits for the clients to connect and for their channels to close, in milliseconds. A fault may stop the server meanwhile. */
const connectLimitMs = 60_000;
const endLimitMs = 45_000;
const pollIntervalMs = 100;
/** Matches the log entry of a client whose channel was closed, or whose new request was refused. */
const channelClosed = /environment_deleted|unknown_environment|4504|404/;

/**
 * Creates an environment, connects a client of each kind, deletes the environment, and waits until the server has
 * closed each channel. Throws an Error if it does not.
 *
 * @param {NemesisContext} context
 * @param {(work: (client: pg.Client) => Promise<void>) => Promise<void>} change a transaction of the host
 */
export async function deleteEnvironment(context, change) {
  const { servers, tokens, viewers, channels, signal } = context;
  const [server] = servers;
  const [viewer] = viewers;
  const [first] = channels;
  if (server === undefined || viewer === undefined || first === undefined) return 'nothing';
  const env = `gone-${randomUUID().slice(0, 8)}`;
  /** @type {ChaosChannel[]} */
  const created = [];
  await change(async (client) => {
    /** @type {pg.QueryResult<ChaosChannel>} */
    const { rows } = await client.query(
      `INSERT INTO environments (project_id, key, name) VALUES ($1, $2, $2)
       RETURNING project_id AS "projectId", id::text AS "environmentId", key AS env`,
      [first.projectId, env],
    );
    created.push(...rows);
  });
  const channel = created.at(-1);
  if (channel === undefined) throw new Error('The environment was not created');
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
    await until('end', endLimitMs, signal, clients, ({ log }) =>
      log.some(([atMs, text]) => atMs >= deletedAtMs - 1_000 && channelClosed.test(text)),
    );
    return `${env}, its channels were closed within ${Date.now() - deletedAtMs} ms`;
  } finally {
    for (const client of clients) client.close();
  }
}

/**
 * @param {string} action for the error message
 * @param {number} limitMs
 * @param {AbortSignal} signal
 * @param {readonly ChaosClient[]} clients
 * @param {(client: ChaosClient) => boolean} holds
 */
async function until(action, limitMs, signal, clients, holds) {
  const endMs = performance.now() + limitMs;
  for (;;) {
    const waiting = clients.filter((client) => !holds(client));
    if (waiting.length === 0) return;
    if (performance.now() > endMs) {
      const names = waiting.map(({ name, log }) => `${name} (${log.at(-1)?.[1] ?? 'empty log'})`);
      throw new Error(`did not ${action} within ${limitMs} ms: ${names.join(', ')}`);
    }
    await delay(pollIntervalMs, undefined, { signal });
  }
}
