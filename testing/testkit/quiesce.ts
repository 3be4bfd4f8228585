import { randomUUID } from 'node:crypto';
import type pg from 'pg';
import { isFeed, type TestChannel } from './channel.ts';
import type { RecordingClient } from './clients/recording-client.ts';
import { type ChannelContents, isoUtc, readContents } from './history.ts';
import { pollUntil } from './poll.ts';
import { withClient } from './postgres.ts';
import { readRequests } from './request-contents.ts';
import { plainKey } from './segment.ts';
import { insertRequest } from './writers.ts';

/** Time limit for the clients to catch up after the last fault, in milliseconds: their backoff goes up to 30 s. */
const catchUpLimitMs = 90_000;
/** Time limit for a client's state to reflect its last event, in milliseconds. */
const stateLimitMs = 10_000;
/** Interval of the sentinel events, in milliseconds: a plain client misses those written while it was disconnected. */
const sentinelIntervalMs = 3_000;

export interface ClientChannel {
  readonly client: RecordingClient;
  readonly channel: TestChannel;
}

/**
 * Writes a sentinel event into each channel and feed, and waits until every client has received it. Returns the clients
 * that did not receive it in time.
 */
export async function awaitSentinels(
  databaseUrl: string,
  channels: readonly TestChannel[],
  clients: readonly RecordingClient[],
): Promise<ClientChannel[]> {
  const keys: Keys = new Map();
  let waiting: ClientChannel[] = clients.flatMap((client) =>
    client.channels.map((channel) => ({ client, channel })),
  );
  let nextSentinelAtMs = -Infinity;
  await pollUntil(catchUpLimitMs, async () => {
    if (performance.now() >= nextSentinelAtMs) {
      const feeds = clients.flatMap((client) => client.channels.filter(isFeed));
      const missing = [...channels, ...feeds].filter((channel) =>
        waiting.some((one) => one.channel === channel),
      );
      await withClient(databaseUrl, async (client) => await writeSentinels(client, missing, keys));
      nextSentinelAtMs = performance.now() + sentinelIntervalMs;
    }
    waiting = waiting.filter((one) => !hasReceived(one, keys.get(one.channel) ?? []));
    return waiting.length === 0;
  });
  return waiting;
}

function hasReceived({ client, channel }: ClientChannel, keys: readonly string[]): boolean {
  return client.segments.some(
    (segment) =>
      segment.untilMs === null && segment.channel === channel && keys.some((key) => segment.keys.has(key)),
  );
}

/** The sentinels of each channel, by id and by plainKey. */
type Keys = Map<TestChannel, string[]>;

/** `keys`: receives the keys of the new sentinels. */
async function writeSentinels(
  client: pg.Client,
  channels: readonly TestChannel[],
  keys: Keys,
): Promise<void> {
  for (const channel of channels) {
    const entity = randomUUID();
    if (isFeed(channel)) await insertRequest(client, channel, entity);
    else {
      await client.query(
        `INSERT INTO audit_log (project_id, environment_id, feature_id, entity, entity_id, actor, username, action)
         VALUES ($1, $2, $3, 'feature', $3, 'user', 'last', 'update')`,
        [channel.projectId, channel.environmentId, entity],
      );
    }
    const { rows } = await client.query<{ id: string; timestamp: string }>(
      `SELECT seq::text AS id, ${isoUtc('created_at')} AS timestamp FROM flagcast.event_log WHERE entity_id = $1`,
      [entity],
    );
    for (const { id, timestamp } of rows) {
      keys.set(channel, [
        ...(keys.get(channel) ?? []),
        id,
        plainKey({ entity_id: entity, action: 'updated', timestamp }),
      ]);
    }
  }
}

/** Describes each client whose state of a channel differs from the database. */
export async function findStateDifferences(
  databaseUrl: string,
  channels: readonly TestChannel[],
  clients: readonly RecordingClient[],
): Promise<string[]> {
  const expected = await withClient(databaseUrl, async (client) => {
    const contents = new Map<TestChannel, ChannelContents>();
    for (const channel of channels) contents.set(channel, await readContents(client, channel));
    return contents;
  });
  let different: string[] = [];
  await pollUntil(stateLimitMs, () => {
    different = clients.flatMap((client) =>
      client.channels.flatMap((channel) => {
        if (client.contents === undefined || isFeed(channel)) return [];
        const difference = describeDifference(client.contents(channel), expected.get(channel) ?? null);
        return difference === null
          ? []
          : [`${client.name} in ${channel.env} of ${channel.projectId}: ${difference}`];
      }),
    );
    return different.length === 0;
  });
  return different;
}

/** Describes each client whose requests in the approvals feed differ from the database. */
export async function findFeedDifferences(
  databaseUrl: string,
  clients: readonly RecordingClient[],
): Promise<string[]> {
  const feeds = clients.flatMap((client) =>
    client.channels
      .filter(isFeed)
      .flatMap((feed) => (client.requests === undefined ? [] : [{ client, feed }])),
  );
  const expected = await withClient(
    databaseUrl,
    async (session) =>
      await Promise.all(feeds.map(async ({ feed }) => await readRequests(session, feed.viewableProjectIds))),
  );
  let different: string[] = [];
  await pollUntil(stateLimitMs, () => {
    different = feeds.flatMap(({ client, feed }, index) => {
      const difference = describeRequests(client.requests?.(feed) ?? null, expected[index] ?? new Map());
      return difference === null ? [] : [`${client.name}: ${difference}`];
    });
    return different.length === 0;
  });
  return different;
}

/** Every open request has to be there, and each of the others has to be as in the database. */
function describeRequests(
  actual: ReadonlyMap<string, string> | null,
  expected: ReadonlyMap<string, string>,
): string | null {
  if (actual === null) return 'it has no requests';
  const wrong = [...actual].filter(([id, contents]) => expected.get(id) !== contents);
  const missing = [...expected].filter(([id, contents]) => contents.startsWith('pending') && !actual.has(id));
  if (wrong.length + missing.length === 0) return null;
  const short = (requests: readonly (readonly [string, string])[]): string =>
    `${requests.length} (${requests
      .slice(0, 3)
      .map((request) => request.join(' '))
      .join(', ')})`;
  return `requests that differ: ${short(wrong)}; missing: ${short(missing)}`;
}

/** Describes briefly how a client's state differs from the database; null if it does not. */
function describeDifference(actual: ChannelContents | null, expected: ChannelContents | null): string | null {
  if (JSON.stringify(actual) === JSON.stringify(expected)) return null;
  if (actual === null || expected === null) {
    return actual === null ? 'it has no state' : 'the channel is unknown';
  }
  const linesOf = ({ features, pending }: ChannelContents): string[] => [
    ...features.map((feature) => JSON.stringify(feature)),
    ...pending.map((id) => `request ${id}`),
  ];
  const [actualLines, expectedLines] = [linesOf(actual), linesOf(expected)];
  const extra = actualLines.filter((line) => !expectedLines.includes(line));
  const missing = expectedLines.filter((line) => !actualLines.includes(line));
  const short = (lines: readonly string[]): string =>
    `${lines.slice(0, 3).join(' ')}${lines.length > 3 ? ` and ${lines.length - 3} others` : ''}`;
  return `extra: ${short(extra) || 'nothing'}; missing: ${short(missing) || 'nothing'}`;
}
