import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { setTimeout as delay } from 'node:timers/promises';
import { WebSocket } from 'ws';
import { signToken } from '../../packages/server/dist/access/sign.js';
import { startServer } from '../child.js';
import { createDatabase } from '../temporary-postgres.js';
import { floorSchemas } from './floor-schema.js';

/** @import { BoundedRun } from '../bounded-run.js' */
/** @import { EmbeddedPostgres } from '../../packages/demo/dist/embedded/embedded.js' */

/** How long a message may take, in milliseconds: many times what polling needs. */
const messageLimitMs = 15_000;

/**
 * The delays of one round in milliseconds, in the order of the commits: from just before COMMIT
 * was sent, and from when PostgreSQL had answered it. The second can be negative, because the
 * message and the answer come by different ways.
 *
 * @typedef {{ fromCommitSent: number[], fromCommitAnswered: number[] }} Delays
 */

/**
 * One way from a commit to a client. `measure` commits one row after the other; the next one
 * begins when the message has arrived and a random pause of up to `pauseLimitMs` is over.
 *
 * @typedef {{
 *   readonly name: string,
 *   readonly measure: (commits: number, pauseLimitMs: number, onCommit: (done: number) => void) => Promise<Delays>,
 * }} Contender
 */

/**
 * Starts a contender: a database, a server process and one client of its own.
 * `flagcast` is the product, `polling` the product with its triggers silent, `payload` and
 * `select` the floors.
 *
 * @param {BoundedRun} run
 * @param {EmbeddedPostgres} postgres
 * @param {{ name: string, kind: 'flagcast' | 'polling' | 'payload' | 'select' }} contender
 * @returns {Promise<Contender>}
 */
export async function startContender(run, postgres, { name, kind }) {
  const database = await createDatabase(run, postgres, `bench_${kind}`);
  const { client: writer, projectId, environmentId, environmentKey, featureId } = database;
  /** @type {WebSocket} */
  let socket;
  if (kind === 'payload' || kind === 'select') {
    await writer.query(floorSchemas[kind]);
    const program = new URL('./floor-server.js', import.meta.url);
    const { port } = await startServer(run, program, { databaseUrl: database.url, kind });
    socket = new WebSocket(`ws://127.0.0.1:${port}`);
  } else {
    // The trigger runs in the writer's session, whose setting decides.
    if (kind === 'polling') await writer.query("SET flagcast.notify = 'off'");
    const secret = randomUUID();
    const program = new URL('../flagcast-server.js', import.meta.url);
    const { port } = await startServer(run, program, { databaseUrl: database.url, secret });
    const { userId, username } = database;
    const token = await signToken({ secret, userId, username, ttlMs: 3_600_000 });
    const query = new URLSearchParams({ project_id: projectId, env: environmentKey });
    socket = new WebSocket(`ws://127.0.0.1:${port}/api/ws?${query.toString()}`, {
      headers: { Authorization: `Bearer ${token}` },
    });
  }
  // Before it is open the wait for that tells; later the close that follows.
  socket.on('error', () => undefined);
  const closed = new Promise((resolve) => socket.once('close', resolve));
  run.defer(async () => {
    socket.terminate();
    await closed;
  });
  await once(socket, 'open', { signal: run.signal });
  void closed.then(() => run.fail(new Error(`The connection of the contender "${name}" was closed`)));

  /** @type {{ entityId: string, resolve: (receivedAtMs: number) => void } | null} */
  let awaited = null;
  socket.on('message', (data) => {
    const receivedAtMs = performance.now();
    if (!Buffer.isBuffer(data)) return;
    /** @type {unknown} */
    const message = JSON.parse(data.toString('utf8'));
    if (typeof message !== 'object' || message === null || !('entity_id' in message)) return;
    if (awaited !== null && message.entity_id === awaited.entityId) awaited.resolve(receivedAtMs);
  });

  const commitOne = async () => {
    const entityId = randomUUID();
    await writer.query('BEGIN');
    await writer.query({
      name: 'bench_insert',
      text: `INSERT INTO audit_log
          (feature_id, entity, entity_id, actor, username, action, old_value, new_value, request_id, project_id, environment_id)
        VALUES ($1, 'feature_params', $2, 'user', 'bench', 'update', '{"enabled": false}', '{"enabled": true}', $2, $3, $4)`,
      values: [featureId, entityId, projectId, environmentId],
    });
    /** @type {Promise<number>} */
    const received = new Promise((resolve) => {
      awaited = { entityId, resolve };
    });
    const limit = setTimeout(() => {
      run.fail(
        new Error(`The contender "${name}" did not bring a message within ${messageLimitMs / 1_000} s`),
      );
    }, messageLimitMs);
    const sentAtMs = performance.now();
    await writer.query('COMMIT');
    const answeredAtMs = performance.now();
    const receivedAtMs = await received;
    clearTimeout(limit);
    return { fromCommitSent: receivedAtMs - sentAtMs, fromCommitAnswered: receivedAtMs - answeredAtMs };
  };

  return {
    name,
    measure: async (commits, pauseLimitMs, onCommit) => {
      /** @type {Delays} */
      const delays = { fromCommitSent: [], fromCommitAnswered: [] };
      for (let done = 0; done < commits; done += 1) {
        await delay(Math.random() * pauseLimitMs, undefined, { signal: run.signal });
        const { fromCommitSent, fromCommitAnswered } = await commitOne();
        delays.fromCommitSent.push(fromCommitSent);
        delays.fromCommitAnswered.push(fromCommitAnswered);
        onCommit(done + 1);
      }
      return delays;
    },
  };
}
