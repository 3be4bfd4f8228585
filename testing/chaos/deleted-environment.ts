import { randomUUID } from 'node:crypto';
import type pg from 'pg';
import type { TestChannel } from '../testkit/channel.ts';
import type { RecordingClient } from '../testkit/clients/recording-client.ts';
import { openOneOfEach } from './client-mix.ts';
import type { NemesisContext } from './fault.ts';
import { pollUntil } from '../testkit/poll.ts';

/** Time limits for the clients to connect and for their channels to close, in milliseconds. A fault may stop the server meanwhile. */
const connectLimitMs = 60_000;
const endLimitMs = 45_000;
/** Matches the log entry of a client whose channel was closed, or whose new request was refused. */
const channelClosed = /environment_deleted|unknown_environment|4504|404/;

/**
 * Creates an environment, connects a client of each kind, deletes the environment, and waits until the server has
 * closed each channel. Throws an Error if it does not. `change`: runs a transaction of the host.
 */
export async function deleteEnvironment(
  { servers, tokens, viewers, channels, signal }: NemesisContext,
  change: (work: (client: pg.Client) => Promise<void>) => Promise<void>,
): Promise<string> {
  const [server] = servers;
  const [viewer] = viewers;
  const [first] = channels;
  if (server === undefined || viewer === undefined || first === undefined) return 'nothing';
  const env = `gone-${randomUUID().slice(0, 8)}`;
  const created: TestChannel[] = [];
  await change(async (client) => {
    const { rows } = await client.query<TestChannel>(
      `INSERT INTO environments (project_id, key, name) VALUES ($1, $2, $2)
       RETURNING project_id AS "projectId", id::text AS "environmentId", key AS env`,
      [first.projectId, env],
    );
    created.push(...rows);
  });
  const channel = created.at(-1);
  if (channel === undefined) throw new Error('The environment was not created');
  const clients = openOneOfEach(
    {
      baseUrl: server.url,
      userId: viewer.id,
      getToken: async () => await tokens.issue(viewer),
      chance: () => 0.5,
    },
    channel,
  );
  const until = async (
    limitMs: number,
    action: string,
    holds: (client: RecordingClient) => boolean,
  ): Promise<void> => {
    if (await pollUntil(limitMs, () => clients.every(holds), { signal })) return;
    const waiting = clients.filter((client) => !holds(client));
    const names = waiting.map(({ name, log }) => `${name} (${log.at(-1)?.[1] ?? 'empty log'})`);
    throw new Error(`did not ${action} within ${limitMs} ms: ${names.join(', ')}`);
  };
  try {
    await until(connectLimitMs, 'connect', ({ segments }) => segments.length > 0);
    await change(async (client) => {
      await client.query('DELETE FROM environments WHERE id = $1', [channel.environmentId]);
    });
    const deletedAtMs = Date.now();
    await until(endLimitMs, 'end', ({ log }) =>
      log.some(([atMs, text]) => atMs >= deletedAtMs - 1_000 && channelClosed.test(text)),
    );
    return `${env}, its channels were closed within ${Date.now() - deletedAtMs} ms`;
  } finally {
    for (const client of clients) client.close();
  }
}
