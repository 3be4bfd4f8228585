import { randomUUID } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import { withClient } from './company.js';
import { readContents } from './ledger.js';
import { plainKey } from './segment.js';
import { isoUtc } from '../packages/server/dist/host/time-text.js';

/** @import pg from 'pg' */
/** @import { Member } from './population.js' */
/** @import { ChaosChannel } from './writers.js' */
/** @import { ChannelContents } from './ledger.js' */

/** How long clients may take to be where the database is once all faults are over, in milliseconds: their backoff goes up to 30 s. */
const settleLimitMs = 90_000;
/** How long a state may take to be shown once its last event has come, in milliseconds. */
const stateLimitMs = 10_000;
const pollIntervalMs = 100;
/** A plain client that was away when a mark was written is told of the next one. In milliseconds. */
const markIntervalMs = 3_000;

/** @typedef {{ readonly member: Member, readonly channel: ChaosChannel }} Watch */

/**
 * Writes a last event into each channel, and waits until every client has been told of it; answers with those
 * that were not.
 *
 * @param {string} databaseUrl
 * @param {readonly ChaosChannel[]} channels
 * @param {readonly Member[]} members
 * @returns {Promise<Watch[]>}
 */
export async function tellAll(databaseUrl, channels, members) {
  /** @type {Keys} */
  const keys = new Map();
  const endMs = performance.now() + settleLimitMs;
  let waiting = members.flatMap((member) => member.client.channels.map((channel) => ({ member, channel })));
  let markAtMs = -Infinity;
  for (;;) {
    if (performance.now() >= markAtMs) {
      const watched = channels.filter((channel) => waiting.some((one) => one.channel === channel));
      await withClient(databaseUrl, async (client) => await writeMarks(client, watched, keys));
      markAtMs = performance.now() + markIntervalMs;
    }
    waiting = waiting.filter(({ member, channel }) => !hasBeenTold(member, channel, keys.get(channel) ?? []));
    if (waiting.length === 0 || performance.now() > endMs) return waiting;
    await delay(pollIntervalMs);
  }
}

/**
 * @param {Member} member
 * @param {ChaosChannel} channel
 * @param {readonly string[]} keys
 */
function hasBeenTold({ client }, channel, keys) {
  return client.segments.some(
    (segment) =>
      segment.untilMs === null && segment.channel === channel && keys.some((key) => segment.keys.has(key)),
  );
}

/** @typedef {Map<ChaosChannel, string[]>} Keys the marks of each channel, by what either dialect tells of them */

/**
 * @param {pg.Client} client
 * @param {readonly ChaosChannel[]} channels
 * @param {Keys} keys gets the new ones
 */
async function writeMarks(client, channels, keys) {
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
 * The clients whose state of a channel is not the database's, each with both.
 *
 * @param {string} databaseUrl
 * @param {readonly ChaosChannel[]} channels
 * @param {readonly Member[]} members
 * @returns {Promise<string[]>}
 */
export async function whoDiffers(databaseUrl, channels, members) {
  const wanted = await withClient(databaseUrl, async (client) => {
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
        const difference = differenceOf(client.contents(channel), wanted.get(channel) ?? null);
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
 * How a client's state differs from the database's, in short; null where it does not.
 *
 * @param {ChannelContents | null} has
 * @param {ChannelContents | null} wanted
 */
function differenceOf(has, wanted) {
  if (JSON.stringify(has) === JSON.stringify(wanted)) return null;
  if (has === null || wanted === null) return has === null ? 'it has no state' : 'the channel is not known';
  /** @param {ChannelContents} contents */
  const linesOf = ({ features, pending }) => [
    ...features.map((feature) => JSON.stringify(feature)),
    ...pending.map((id) => `request ${id}`),
  ];
  const [mine, theirs] = [linesOf(has), linesOf(wanted)];
  const extra = mine.filter((line) => !theirs.includes(line));
  const missing = theirs.filter((line) => !mine.includes(line));
  /** @param {readonly string[]} lines */
  const short = (lines) =>
    `${lines.slice(0, 3).join(' ')}${lines.length > 3 ? ` and ${lines.length - 3} others` : ''}`;
  return `it has ${short(extra) || 'nothing else'}; it lacks ${short(missing) || 'nothing'}`;
}

/**
 * What the console shows of a channel: whether each flag is on, by the name on its switch.
 *
 * @param {string} databaseUrl
 * @param {ChaosChannel} channel
 * @returns {Promise<Record<string, boolean>>}
 */
export async function switchesOf(databaseUrl, channel) {
  return await withClient(databaseUrl, async (client) => {
    /** @type {pg.QueryResult<{ name: string, enabled: boolean }>} */
    const { rows } = await client.query(
      `SELECT f.name || ' is on' AS name, p.enabled FROM features f
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
