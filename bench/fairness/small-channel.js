import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { setTimeout as delay } from 'node:timers/promises';
import { WebSocket } from 'ws';
import { connect } from '../temporary-postgres.js';

/** @import { BoundedRun } from '../bounded-run.js' */
/** @import { PreparedFlagcast } from '../contenders/flagcast.js' */

/**
 * `measure` commits one event after the other, with a pause of a random length up to `pauseLimitMs` in
 * between, and answers how long each took to each client, in milliseconds.
 *
 * @typedef {{ readonly measure: (events: number, pauseLimitMs: number) => Promise<number[]> }} SmallChannel
 */

/** How long a message may take, in milliseconds. */
const messageLimitMs = 30_000;

/**
 * A few clients in this process, which commits their events too, so that one clock serves.
 *
 * @param {BoundedRun} run
 * @param {PreparedFlagcast} prepared
 * @param {{ port: number, channel: number, clients: number }} options
 * @returns {Promise<SmallChannel>}
 */
export async function openSmallChannel(run, { database, places, headers, address }, options) {
  const { port, channel, clients } = options;
  const place = places[channel];
  if (place === undefined) throw new Error(`There is no channel ${channel}`);
  const writer = await connect(run, database.url, 'bench small channel');
  let entityId = '';
  /** @type {number[]} */
  let received = [];
  /** @type {() => void} */
  let complete = () => undefined;
  for (let client = 0; client < clients; client += 1) {
    const socket = new WebSocket(`ws://127.0.0.1:${port}${address(channel).path}`, { headers });
    run.defer(async () => {
      socket.terminate();
      await Promise.resolve();
    });
    await once(socket, 'open', { signal: run.signal });
    socket.on('error', () => undefined);
    socket.on('message', (data) => {
      const atMs = performance.now();
      if (!Buffer.isBuffer(data) || !data.includes(entityId)) return;
      received.push(atMs);
      if (received.length === clients) complete();
    });
  }

  const commitOne = async () => {
    entityId = randomUUID();
    received = [];
    /** @type {Promise<void>} */
    const everywhere = new Promise((resolve) => {
      complete = resolve;
    });
    const limit = setTimeout(() => {
      run.fail(new Error(`An event did not reach all ${clients} clients within ${messageLimitMs / 1_000} s`));
    }, messageLimitMs);
    const sentAtMs = performance.now();
    await writer.query({
      name: 'bench_small_channel',
      text: `INSERT INTO audit_log (feature_id, entity, entity_id, actor, username, action, project_id, environment_id)
        VALUES ($1, 'feature_params', $2, 'user', 'bench', 'update', $3, $4)`,
      values: [place.featureId, entityId, place.projectId, place.environmentId],
    });
    await everywhere;
    clearTimeout(limit);
    return received.map((atMs) => atMs - sentAtMs);
  };

  return {
    measure: async (events, pauseLimitMs) => {
      const latenciesMs = [];
      for (let event = 0; event < events; event += 1) {
        await delay(Math.random() * pauseLimitMs, undefined, { signal: run.signal });
        latenciesMs.push(...(await commitOne()));
      }
      return latenciesMs;
    },
  };
}
