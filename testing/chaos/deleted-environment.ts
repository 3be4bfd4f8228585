import { randomUUID } from 'node:crypto';
import type { TestChannel } from '../testkit/channel.ts';
import type { RecordingClient } from '../testkit/clients/recording-client.ts';
import { pollUntil } from '../testkit/poll.ts';
import { openOneOfEach } from './client-mix.ts';
import type { ChaosSystem } from './fault.ts';
import { changeHost } from './host-changes.ts';

/** Time limits for the clients to connect and for their channels to close, in milliseconds. A fault may stop the server meanwhile. */
const connectLimitMs = 60_000;
const endLimitMs = 45_000;
/** Matches the log entry of a client whose channel was closed, or whose new request was refused. */
const channelClosed = /environment_deleted|unknown_environment|4504|404/;

/**
 * Creates an environment, connects a client of each kind, deletes the environment, and waits until the server has
 * closed each channel. Throws an Error if it does not.
 */
export async function deleteEnvironment(system: ChaosSystem): Promise<string> {
  const { servers, viewers, signal } = system;
  const channel = await createEnvironment(system);
  const [viewer = system.root] = viewers;
  const clients = openOneOfEach(
    {
      baseUrl: servers[0].url,
      userId: viewer.id,
      getToken: async () => await system.tokens.issue(viewer),
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
    const names = waiting.map(({ name, lastEntry }) => `${name} (${lastEntry})`);
    throw new Error(`did not ${action} within ${limitMs} ms: ${names.join(', ')}`);
  };
  try {
    await until(connectLimitMs, 'connect', ({ segments }) => segments.length > 0);
    await changeHost(system, async (client) => {
      await client.query('DELETE FROM environments WHERE id = $1', [channel.environmentId]);
    });
    const deletedAtMs = Date.now();
    await until(endLimitMs, 'end', ({ log }) =>
      log.some(([atMs, text]) => atMs >= deletedAtMs - 1_000 && channelClosed.test(text)),
    );
    return `${channel.env}, its channels were closed within ${Date.now() - deletedAtMs} ms`;
  } finally {
    for (const client of clients) client.close();
  }
}

async function createEnvironment(system: ChaosSystem): Promise<TestChannel> {
  const created: TestChannel[] = [];
  await changeHost(system, async (client) => {
    const { rows } = await client.query<TestChannel>(
      `INSERT INTO environments (project_id, key, name) VALUES ($1, $2, $2)
       RETURNING project_id AS "projectId", id::text AS "environmentId", key AS env`,
      [system.channels[0]?.projectId, `gone-${randomUUID().slice(0, 8)}`],
    );
    created.push(...rows);
  });
  const channel = created.at(-1);
  if (channel === undefined) throw new Error('The environment was not created');
  return channel;
}
