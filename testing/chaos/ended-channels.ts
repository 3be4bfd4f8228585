import { randomUUID } from 'node:crypto';
import type { TestChannel } from '../testkit/channel.ts';
import type { RecordingClient } from '../testkit/clients/recording-client.ts';
import { pollUntil } from '../testkit/poll.ts';
import { openOneOfEach } from './client-mix.ts';
import type { ChaosSystem, Faults } from './fault.ts';
import { changeHost } from './host-changes.ts';

/** Time limits for the clients to connect and for their channels to close, in milliseconds. A fault may stop the server meanwhile. */
const connectLimitMs = 60_000;
const endLimitMs = 45_000;
/** Matches the log entry of a client whose channel was closed, or whose new request was refused. */
const channelClosed = /environment_deleted|project_archived|unknown_environment|unknown_project|4504|404/;

/** Statements that create a channel and end it, with its key or name, and its environment. */
interface Kind {
  readonly create: string;
  readonly end: string;
}

const ended = {
  'environment deleted': {
    create: `INSERT INTO environments (project_id, key, name) SELECT min(id::text)::uuid, $1, $1 FROM projects WHERE archived_at IS NULL
      RETURNING project_id AS "projectId", id::text AS "environmentId", key AS env`,
    end: 'DELETE FROM environments WHERE id = $1',
  },
  'project archived': {
    // A trigger of the host creates the environments.
    create: `WITH made AS (INSERT INTO projects (name) VALUES ($1) RETURNING id)
      INSERT INTO environments (project_id, key, name) SELECT id, $1, $1 FROM made
      RETURNING project_id AS "projectId", id::text AS "environmentId", key AS env`,
    end: `UPDATE projects SET archived_at = now() WHERE id = (SELECT project_id FROM environments WHERE id = $1)`,
  },
} satisfies Record<string, Kind>;

/** Faults that end channels, which have clients of their own. */
export const channelEnds: Faults = Object.fromEntries(
  Object.entries(ended).map(([kind, of]) => [kind, async (system) => await endChannel(system, of)]),
);

/**
 * Creates a channel, connects a client of each kind, ends the channel, and waits until the server has closed it for each
 * client. Throws an Error if it does not.
 */
async function endChannel(system: ChaosSystem, kind: Kind): Promise<string> {
  const { servers, root, signal } = system;
  const channel = await createChannel(system, kind);
  const clients = openOneOfEach(
    {
      baseUrl: servers[0].url,
      userId: root.id,
      getToken: async () => await system.tokens.issue(root),
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
      await client.query(kind.end, [channel.environmentId]);
    });
    const endedAtMs = Date.now();
    await until(endLimitMs, 'end', ({ log }) =>
      log.some(([atMs, text]) => atMs >= endedAtMs - 1_000 && channelClosed.test(text)),
    );
    return `${channel.env}, its channels were closed within ${Date.now() - endedAtMs} ms`;
  } finally {
    for (const client of clients) client.close();
  }
}

async function createChannel(system: ChaosSystem, { create }: Kind): Promise<TestChannel> {
  const created: TestChannel[] = [];
  await changeHost(system, async (client) => {
    const { rows } = await client.query<TestChannel>(create, [`gone-${randomUUID().slice(0, 8)}`]);
    created.push(...rows);
  });
  const channel = created.at(-1);
  if (channel === undefined) throw new Error('The channel was not created');
  return channel;
}
