import { setTimeout as delay } from 'node:timers/promises';
import { withClient } from './company.js';
import { eventId, readContents } from './ledger.js';
import { plainKey } from './segment.js';
import { isoUtc } from '../packages/server/dist/reader/statements.js';

/** @import pg from 'pg' */
/** @import { Member } from './population.js' */
/** @import { ChaosChannel } from './writers.js' */

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
    /** @type {pg.QueryResult<{ id: string, entity_id: string, timestamp: string }>} */
    const { rows } = await client.query(
      `INSERT INTO audit_log (project_id, environment_id, feature_id, entity, entity_id, actor, username, action)
       SELECT $1, $2, id, 'feature', id, 'user', 'last', 'update' FROM (SELECT gen_random_uuid() AS id) made
       RETURNING id::text AS id, entity_id, ${isoUtc('created_at')} AS timestamp`,
      [channel.projectId, channel.environmentId],
    );
    for (const { id, entity_id, timestamp } of rows) {
      const action = 'updated';
      keys.set(channel, [
        ...(keys.get(channel) ?? []),
        eventId('audit', id, 'feature', entity_id, action),
        plainKey({ entity_id, action, timestamp }),
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
    /** @type {Map<ChaosChannel, string>} */
    const contents = new Map();
    for (const channel of channels)
      contents.set(channel, JSON.stringify(await readContents(client, channel)));
    return contents;
  });
  const endMs = performance.now() + stateLimitMs;
  for (;;) {
    const different = members.flatMap(({ client }) =>
      client.channels.flatMap((channel) => {
        if (client.contents === undefined) return [];
        const has = JSON.stringify(client.contents(channel));
        return has === wanted.get(channel)
          ? []
          : [`${client.name} has in ${channel.env} ${has}, the database ${wanted.get(channel) ?? ''}`];
      }),
    );
    if (different.length === 0 || performance.now() > endMs) return different;
    await delay(pollIntervalMs);
  }
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
