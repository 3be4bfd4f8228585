import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { WebSocket } from 'ws';

/** @import pg from 'pg' */
/** @import { BoundedRun } from '../../bench/bounded-run.js' */
/** @import { BenchDatabase } from '../../bench/temporary-postgres.js' */

/**
 * What the bystanders came to. `slowestMs`: from a commit to the arrival at the later of the two clients.
 * `missing`: of the channel's events in the database, those that a client was not given; `repeated`: those
 * that it was given twice; `unknown`: what it was given and the database does not have.
 *
 * @typedef {{ written: number, events: number, slowestMs: number, missing: number, repeated: number, unknown: number, closed: string[] }} BystanderFigures
 */

const writeIntervalMs = 250;
const settleLimitMs = 15_000;

/** The eight keys of the specification name an event well enough to tell it from the others of a run. */
const eventKeys = /** @type {const} */ (['source', 'timestamp', 'entity', 'entity_id', 'action']);

/**
 * Two clients that behave, one of each dialect, and somebody who changes a flag now and then. What happens
 * beside them is not to reach them.
 *
 * @param {BoundedRun} run
 * @param {{ port: number, token: string, database: BenchDatabase }} options
 */
export async function startBystanders(run, { port, token, database }) {
  const { client, projectId, environmentId, environmentKey } = database;
  /** When each change was committed, by its entity_id. @type {Map<string, number>} */
  const committedAtMs = new Map();
  /** By client: how often each event came. @type {Map<string, number>[]} */
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
    let upToDate = () => undefined;
    /** @type {Promise<null>} */
    const live = new Promise((resolve) => {
      upToDate = resolve;
    });
    socket.on('message', (/** @type {Buffer} */ data) => {
      const parsed = /** @type {unknown} */ (JSON.parse(data.toString('utf8')));
      const message = /** @type {Record<string, unknown>} */ (parsed);
      if (message['type'] === 'caught_up') upToDate(null);
      if (!('source' in message)) return;
      const name = nameOf(message);
      events.set(name, (events.get(name) ?? 0) + 1);
      const since = committedAtMs.get(String(message['entity_id']));
      if (since !== undefined) slowestMs = Math.max(slowestMs, performance.now() - since);
    });
    socket.on('error', (error) => closed.push(`${dialect}: ${error.message}`));
    await once(socket, 'open');
    socket.on('close', (code, reason) => closed.push(`${dialect}: ${code} ${reason.toString()}`));
    // A plain client is live as soon as it is let in.
    if (dialect !== 'plain') await live;
  }

  const write = async () => {
    const entityId = randomUUID();
    // Taken before, so that a client that is quick cannot be told before the clock runs.
    committedAtMs.set(entityId, performance.now());
    await client.query(
      `INSERT INTO audit_log (project_id, environment_id, feature_id, entity, entity_id, actor, username, action, new_value)
       VALUES ($1, $2, $3, 'feature', $4, 'user', 'bystander', 'update', '{"enabled": true}')`,
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
    /** How much has been written so far, and the longest that a change took. */
    soFar: () => ({ written, slowestMs, closed: [...closed] }),
    /**
     * Writes no more, and compares what the clients were given with the database.
     *
     * @returns {Promise<BystanderFigures>}
     */
    finish: async () => {
      clearInterval(timer);
      await writing;
      const expected = await eventsOf(client, projectId, environmentId);
      const giveUpAtMs = performance.now() + settleLimitMs;
      const isComplete = () => received.every((events) => expected.every((name) => events.has(name)));
      while (!isComplete() && performance.now() < giveUpAtMs) {
        await new Promise((resolve) => setTimeout(resolve, 20));
      }
      const known = new Set(expected);
      let [missing, repeated, unknown] = [0, 0, 0];
      for (const events of received) {
        missing += expected.filter((name) => !events.has(name)).length;
        repeated += [...events.values()].filter((times) => times > 1).length;
        unknown += [...events.keys()].filter((name) => !known.has(name)).length;
      }
      return { written, events: expected.length, slowestMs, missing, repeated, unknown, closed };
    },
  };
}

/** @param {Record<string, unknown>} message */
function nameOf(message) {
  return eventKeys.map((key) => String(message[key])).join('|');
}

/**
 * What has happened in the channel, as the specification's view has it.
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
  return rows.map(nameOf);
}
