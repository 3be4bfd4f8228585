import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { setTimeout as delay } from 'node:timers/promises';
import { WebSocket } from 'ws';
import { connect } from '../../testkit/postgres.ts';

/** @import { BoundedRun } from '../../testkit/bounded-run.ts' */
/** @import { PreparedFlagcast } from '../targets/flagcast.js' */

/**
 * `measure`: commits events one after the other, with random pauses of up to `pauseLimitMs`, and returns the latency to each
 * client, in milliseconds.
 *
 * @typedef {{ readonly measure: (events: number, pauseLimitMs: number) => Promise<number[]> }} SmallChannel
 */

/** Time-out of a message, in milliseconds. */
const messageTimeoutMs = 30_000;

/**
 * Opens clients in this process, which also commits their events, so that all times come from one clock.
 *
 * @param {BoundedRun} run
 * @param {PreparedFlagcast} prepared
 * @param {{ port: number, channel: number, clients: number }} options
 * @returns {Promise<SmallChannel>}
 */
export async function openSmallChannel(run, { database, channelIds, headers, address }, options) {
  const { port, channel, clients } = options;
  const ids = channelIds[channel];
  if (ids === undefined) throw new Error(`There is no channel ${channel}`);
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
    const allReceived = new Promise((resolve) => {
      complete = resolve;
    });
    const limit = setTimeout(() => {
      run.fail(
        new Error(`An event did not reach all ${clients} clients within ${messageTimeoutMs / 1_000} s`),
      );
    }, messageTimeoutMs);
    const sentAtMs = performance.now();
    await writer.query({
      name: 'bench_small_channel',
      text: `INSERT INTO audit_log (feature_id, entity, entity_id, actor, username, action, project_id, environment_id)
        VALUES ($1, 'feature_params', $2, 'user', 'bench', 'update', $3, $4)`,
      values: [ids.featureId, entityId, ids.projectId, ids.environmentId],
    });
    await allReceived;
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
