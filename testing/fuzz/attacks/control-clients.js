import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { WebSocket } from 'ws';

/** @import pg from 'pg' */
/** @import { BoundedRun } from '../../testkit/bounded-run.ts' */
/** @import { BenchDatabase } from '../../testkit/postgres.ts' */

/**
 * The figures of the control clients. `slowestMs`: longest time from a commit to its event at the slower client. `missing`:
 * events of the channel that a client did not receive. `repeated`: events that it received twice. `unknown`: received events
 * that are not in the database. `closed`: closed connections.
 *
 * @typedef {{ written: number, events: number, slowestMs: number, missing: number, repeated: number, unknown: number, closed: string[] }} ControlClientFigures
 */

const writeIntervalMs = 250;
const catchUpLimitMs = 15_000;

/** These fields identify an event within a run, in both dialects. */
const eventKeys = /** @type {const} */ (['source', 'timestamp', 'entity', 'entity_id', 'action']);

/**
 * Opens two well-behaved clients, one of each dialect, and changes a flag regularly. Attacks must not affect these clients.
 *
 * @param {BoundedRun} run
 * @param {{ port: number, token: string, database: BenchDatabase }} options
 */
export async function startControlClients(run, { port, token, database }) {
  const { client, projectId, environmentId, environmentKey } = database;
  /** Time of each commit, by entity_id. @type {Map<string, number>} */
  const committedAtMs = new Map();
  /** For each client: how often it received each event. @type {Map<string, number>[]} */
  const received = [];
  /** @type {string[]} */
  const closed = [];
  let slowestMs = 0;
  let written = 0;
  for (const dialect of ['plain', 'flagcast.v1']) {
    const url = `ws://127.0.0.1:${port}/api/ws?project_id=${projectId}&env=${environmentKey}`;
    const socket = new WebSocket(url, dialect === 'plain' ? [] : [dialect], {
      headers: { Authorization: `Bearer ${token}` },
    });
    run.defer(async () => {
      socket.terminate();
      await Promise.resolve();
    });
    /** @type {Map<string, number>} */
    const events = new Map();
    received.push(events);
    /** @type {(value: null) => void} */
    let onLive = () => undefined;
    /** @type {Promise<null>} */
    const live = new Promise((resolve) => {
      onLive = resolve;
    });
    socket.on('message', (/** @type {Buffer} */ data) => {
      const parsed = /** @type {unknown} */ (JSON.parse(data.toString('utf8')));
      const message = /** @type {Record<string, unknown>} */ (parsed);
      if (message['type'] === 'caught_up') onLive(null);
      if (!('source' in message)) return;
      const key = keyOf(message);
      events.set(key, (events.get(key) ?? 0) + 1);
      const since = committedAtMs.get(String(message['entity_id']));
      if (since !== undefined) slowestMs = Math.max(slowestMs, performance.now() - since);
    });
    socket.on('error', (error) => closed.push(`${dialect}: ${error.message}`));
    await once(socket, 'open');
    socket.on('close', (code, reason) => closed.push(`${dialect}: ${code} ${reason.toString()}`));
    // A plain client is live as soon as it is connected.
    if (dialect !== 'plain') await live;
  }

  const write = async () => {
    const entityId = randomUUID();
    // Taken before the commit, because a client may receive the event before the query returns.
    committedAtMs.set(entityId, performance.now());
    await client.query(
      `INSERT INTO audit_log (project_id, environment_id, feature_id, entity, entity_id, actor, username, action, new_value)
       VALUES ($1, $2, $3, 'feature', $4, 'user', 'control', 'update', '{"enabled": true}')`,
      [projectId, environmentId, database.featureId, entityId],
    );
    written += 1;
  };
  let writing = Promise.resolve();
  const timer = setInterval(() => {
    writing = writing.then(write).catch((/** @type {unknown} */ error) => {
      run.fail(error instanceof Error ? error : new Error(String(error)));
    });
  }, writeIntervalMs);
  run.defer(async () => {
    clearInterval(timer);
    await Promise.resolve();
  });

  return {
    /** The figures so far. */
    soFar: () => ({ written, slowestMs, closed: [...closed] }),
    /**
     * Stops writing, and compares what the clients received with the database.
     *
     * @returns {Promise<ControlClientFigures>}
     */
    finish: async () => {
      clearInterval(timer);
      await writing;
      const expected = await eventsOf(client, projectId, environmentId);
      const giveUpAtMs = performance.now() + catchUpLimitMs;
      const isComplete = () => received.every((events) => expected.every((key) => events.has(key)));
      while (!isComplete() && performance.now() < giveUpAtMs) {
        await new Promise((resolve) => setTimeout(resolve, 20));
      }
      const known = new Set(expected);
      let [missing, repeated, unknown] = [0, 0, 0];
      for (const events of received) {
        missing += expected.filter((key) => !events.has(key)).length;
        repeated += [...events.values()].filter((times) => times > 1).length;
        unknown += [...events.keys()].filter((key) => !known.has(key)).length;
      }
      return { written, events: expected.length, slowestMs, missing, repeated, unknown, closed: [...closed] };
    },
  };
}

/** @param {Record<string, unknown>} message */
function keyOf(message) {
  return eventKeys.map((key) => String(message[key])).join('|');
}

/**
 * Returns the keys of the channel's events in the database.
 *
 * @param {pg.Client} client
 * @param {string} projectId
 * @param {string} environmentId
 */
async function eventsOf(client, projectId, environmentId) {
  /** @type {pg.QueryResult<Record<string, unknown>>} */
  const { rows } = await client.query(
    `SELECT source, entity, entity_id::text, action,
       to_char(created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') AS timestamp
     FROM flagcast.v_realtime_events WHERE project_id = $1 AND environment_id::text = $2`,
    [projectId, environmentId],
  );
  return rows.map(keyOf);
}
