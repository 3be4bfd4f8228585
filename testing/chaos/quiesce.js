import { randomUUID } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import { withClient } from './seed-database.js';
import { readContents } from './history.js';
import { plainKey } from './segment.js';
import { isoUtc } from '../../packages/server/dist/host/sql-expressions.js';

/** @import pg from 'pg' */
/** @import { MixMember } from './client-mix.js' */
/** @import { ChaosChannel } from './writers.js' */
/** @import { ChannelContents } from './history.js' */

/** Time limit for the clients to catch up after the last fault, in milliseconds: their backoff goes up to 30 s. */
const catchUpLimitMs = 90_000;
/** Time limit for a client's state to reflect its last event, in milliseconds. */
const stateLimitMs = 10_000;
const pollIntervalMs = 100;
/** Interval of the sentinel events, in milliseconds: a plain client misses those written while it was disconnected. */
const sentinelIntervalMs = 3_000;

/** @typedef {{ readonly member: MixMember, readonly channel: ChaosChannel }} ClientChannel */

/**
 * Writes a sentinel event into each channel, and waits until every client has received it. Returns the clients that did
 * not receive it in time.
 *
 * @param {string} databaseUrl
 * @param {readonly ChaosChannel[]} channels
 * @param {readonly MixMember[]} members
 * @returns {Promise<ClientChannel[]>}
 */
export async function awaitSentinels(databaseUrl, channels, members) {
  /** @type {Keys} */
  const keys = new Map();
  const endMs = performance.now() + catchUpLimitMs;
  let waiting = members.flatMap((member) => member.client.channels.map((channel) => ({ member, channel })));
  let nextSentinelAtMs = -Infinity;
  for (;;) {
    if (performance.now() >= nextSentinelAtMs) {
      const missing = channels.filter((channel) => waiting.some((one) => one.channel === channel));
      await withClient(databaseUrl, async (client) => await writeSentinels(client, missing, keys));
      nextSentinelAtMs = performance.now() + sentinelIntervalMs;
    }
    waiting = waiting.filter(({ member, channel }) => !hasReceived(member, channel, keys.get(channel) ?? []));
    if (waiting.length === 0 || performance.now() > endMs) return waiting;
    await delay(pollIntervalMs);
  }
}

/**
 * @param {MixMember} member
 * @param {ChaosChannel} channel
 * @param {readonly string[]} keys
 */
function hasReceived({ client }, channel, keys) {
  return client.segments.some(
    (segment) =>
      segment.untilMs === null && segment.channel === channel && keys.some((key) => segment.keys.has(key)),
  );
}

/** @typedef {Map<ChaosChannel, string[]>} Keys the sentinels of each channel, by id and by plainKey */

/**
 * @param {pg.Client} client
 * @param {readonly ChaosChannel[]} channels
 * @param {Keys} keys receives the keys of the new sentinels
 */
async function writeSentinels(client, channels, keys) {
  for (const channel of channels) {
    const entity = randomUUID();
    await client.query(
      `INSERT INTO audit_log (project_id, environment_id, feature_id, entity, entity_id, actor, username, action)
       VALUES ($1, $2, $3, 'feature', $3, 'user', 'last', 'update')`,
      [channel.projectId, channel.environmentId, entity],
    );
    /** @type {pg.QueryResult<{ id: string, timestamp: string }>} */
    const { rows } = await client.query(
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

/**
 * Describes each client whose state of a channel differs from the database.
 *
 * @param {string} databaseUrl
 * @param {readonly ChaosChannel[]} channels
 * @param {readonly MixMember[]} members
 * @returns {Promise<string[]>}
 */
export async function findStateDifferences(databaseUrl, channels, members) {
  const expected = await withClient(databaseUrl, async (client) => {
    /** @type {Map<ChaosChannel, ChannelContents>} */
    const contents = new Map();
    for (const channel of channels) contents.set(channel, await readContents(client, channel));
    return contents;
  });
  const endMs = performance.now() + stateLimitMs;
  for (;;) {
    const different = members.flatMap(({ client }) =>
      client.channels.flatMap((channel) => {
        if (client.contents === undefined) return [];
        const difference = describeDifference(client.contents(channel), expected.get(channel) ?? null);
        return difference === null
          ? []
          : [`${client.name} in ${channel.env} of ${channel.projectId}: ${difference}`];
      }),
    );
    if (different.length === 0 || performance.now() > endMs) return different;
    await delay(pollIntervalMs);
  }
}

/**
 * Describes briefly how a client's state differs from the database; null if it does not.
 *
 * @param {ChannelContents | null} actual
 * @param {ChannelContents | null} expected
 */
function describeDifference(actual, expected) {
  if (JSON.stringify(actual) === JSON.stringify(expected)) return null;
  if (actual === null || expected === null) {
    return actual === null ? 'it has no state' : 'the channel is unknown';
  }
  /** @param {ChannelContents} contents */
  const linesOf = ({ features, pending }) => [
    ...features.map((feature) => JSON.stringify(feature)),
    ...pending.map((id) => `request ${id}`),
  ];
  const [actualLines, expectedLines] = [linesOf(actual), linesOf(expected)];
  const extra = actualLines.filter((line) => !expectedLines.includes(line));
  const missing = expectedLines.filter((line) => !actualLines.includes(line));
  /** @param {readonly string[]} lines */
  const short = (lines) =>
    `${lines.slice(0, 3).join(' ')}${lines.length > 3 ? ` and ${lines.length - 3} others` : ''}`;
  return `extra: ${short(extra) || 'nothing'}; missing: ${short(missing) || 'nothing'}`;
}

/**
 * Reads what the console must show of a channel: whether each flag is on, by the label of its switch.
 *
 * @param {string} databaseUrl
 * @param {ChaosChannel} channel
 * @returns {Promise<Record<string, boolean>>}
 */
export async function readSwitches(databaseUrl, channel) {
  return await withClient(databaseUrl, async (client) => {
    /** @type {pg.QueryResult<{ name: string, enabled: boolean }>} */
    const { rows } = await client.query(
      `SELECT 'Enable ' || f.name AS name, p.enabled FROM features f
       JOIN feature_params p ON p.feature_id = f.id AND p.environment_id = $2 WHERE f.project_id = $1`,
      [channel.projectId, channel.environmentId],
    );
    return Object.fromEntries(
      rows
        .map(({ name, enabled }) => /** @type {const} */ ([name, enabled]))
        .sort(([one], [other]) => (one < other ? -1 : 1)),
    );
  });
}
