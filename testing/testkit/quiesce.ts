import { randomUUID } from 'node:crypto';
import type pg from 'pg';
import { isFeed, type TestChannel } from './channel.ts';
import type { RecordingClient } from './clients/recording-client.ts';
import { type ChannelContents, readContents } from './contents.ts';
import { isoUtc, readHistory } from './history.ts';
import { pollUntil } from './poll.ts';
import { withClient } from './postgres.ts';
import { checkSegment } from './segment-checker.ts';
import { plainKey } from './segment.ts';
import { insertAudit, insertRequest } from './writers.ts';

/** Time limit for the clients to catch up after the last fault, in milliseconds: their backoff goes up to 30 s. */
const catchUpLimitMs = 90_000;
/** Time limit for a client's state to reflect its last event, in milliseconds. */
const stateLimitMs = 10_000;
/** Interval of the sentinel events, in milliseconds: a plain client misses those written while it was disconnected. */
const sentinelIntervalMs = 3_000;
/** The number of differences of a client that are described. */
const maxListed = 3;

export interface ClientChannel {
  readonly client: RecordingClient;
  readonly channel: TestChannel;
}

function channelsOf(clients: readonly RecordingClient[]): ClientChannel[] {
  return clients.flatMap((client) => client.channels.map((channel) => ({ client, channel })));
}

/**
 * Writes a sentinel event into each channel and feed of the clients, and waits until every client has received it. Returns
 * the clients that did not receive it in time.
 */
export async function awaitSentinels(
  databaseUrl: string,
  clients: readonly RecordingClient[],
): Promise<ClientChannel[]> {
  /** The sentinels of each channel, by id and by plainKey. */
  const keys = new Map<TestChannel, string[]>();
  let waiting = channelsOf(clients);
  let nextSentinelAtMs = -Infinity;
  await pollUntil(catchUpLimitMs, async () => {
    if (performance.now() >= nextSentinelAtMs) {
      const missing = new Set(waiting.map(({ channel }) => channel));
      await withClient(databaseUrl, async (session) => {
        for (const channel of missing) {
          keys.set(channel, [...(keys.get(channel) ?? []), ...(await writeSentinel(session, channel))]);
        }
      });
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

/** Returns the keys of the sentinel. */
async function writeSentinel(session: pg.Client, channel: TestChannel): Promise<string[]> {
  const entity = randomUUID();
  if (isFeed(channel)) await insertRequest(session, channel, entity);
  else await insertAudit(session, { ...channel, featureId: entity }, { username: 'last' });
  const { rows } = await session.query<{ id: string; timestamp: string }>(
    `SELECT seq::text AS id, ${isoUtc('created_at')} AS timestamp FROM flagcast.event_log WHERE entity_id = $1`,
    [entity],
  );
  return rows.flatMap(({ id, timestamp }) => [
    id,
    plainKey({ entity_id: entity, action: 'updated', timestamp }),
  ]);
}

/** Describes each client whose state of a channel, or whose requests in the approvals feed, differ from the database. */
export async function findStateDifferences(
  databaseUrl: string,
  clients: readonly RecordingClient[],
): Promise<string[]> {
  const withState = channelsOf(clients).filter(({ client }) => client.contents !== undefined);
  const expected = new Map<TestChannel, ChannelContents>();
  await withClient(databaseUrl, async (session) => {
    for (const channel of new Set(withState.map((one) => one.channel))) {
      expected.set(channel, await readContents(session, channel));
    }
  });
  let different: string[] = [];
  await pollUntil(stateLimitMs, () => {
    different = withState.flatMap(({ client, channel }) => {
      const actual = client.contents?.(channel) ?? null;
      const difference = describeDifference(channel, actual, expected.get(channel) ?? new Map());
      return difference === null
        ? []
        : [`${client.name} in ${channel.env} of ${channel.projectId}: ${difference}`];
    });
    return different.length === 0;
  });
  return different;
}

/** Null without a difference. Of a feed, every open request has to be there; a client need not keep the others. */
function describeDifference(
  channel: TestChannel,
  actual: ChannelContents | null,
  expected: ChannelContents,
): string | null {
  if (actual === null) return 'it has no state';
  const isRequired = (contents: string): boolean => !isFeed(channel) || contents.startsWith('pending');
  const extra = [...actual].filter(([id, contents]) => expected.get(id) !== contents);
  const missing = [...expected].filter(
    ([id, contents]) => (actual.has(id) || isRequired(contents)) && actual.get(id) !== contents,
  );
  if (extra.length + missing.length === 0) return null;
  const short = (entries: readonly (readonly [string, string])[]): string =>
    `${entries.length} (${entries
      .slice(0, maxListed)
      .map((entry) => entry.join(' '))
      .join(', ')})`;
  return `wrong: ${short(extra)}; missing: ${short(missing)}`;
}

/**
 * Waits until the clients have received everything, and describes each that has not, each wrong event, and each state that
 * differs from the database.
 */
export async function findDifferences(
  databaseUrl: string,
  clients: readonly RecordingClient[],
): Promise<string[]> {
  const stuck = await awaitSentinels(databaseUrl, clients);
  const states = await findStateDifferences(databaseUrl, clients);
  const history = await withClient(databaseUrl, readHistory);
  const segments = clients.flatMap((client) => client.segments);
  const anomalies = segments.flatMap((segment) => checkSegment(segment, history, []));
  return [
    ...stuck.map(({ client, channel }) => `${client.name} did not receive the last event of ${channel.env}`),
    ...anomalies.map(({ kind, key, segment }) => `${segment.client}: ${kind} ${key}`),
    ...clients.flatMap((client) => client.violations.map((violation) => `${client.name}: ${violation}`)),
    ...states,
  ];
}
