import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { setTimeout as delay } from 'node:timers/promises';
import { WebSocket } from 'ws';
import { signToken } from '../../../packages/server/dist/auth/sign-token.js';
import { startServer } from '../../testkit/child.ts';
import { createDatabase } from '../../testkit/postgres.ts';
import { baselineSchemas } from './baseline-schema.js';

/** @import { BoundedRun } from '../../testkit/bounded-run.ts' */
/** @import { EmbeddedPostgres } from '@flagcast/demo' */
/** @import { BenchDatabase } from '../../testkit/postgres.ts' */

/** Time-out of a message, in milliseconds: many times the polling interval. */
const messageTimeoutMs = 15_000;

/**
 * The latencies of a round in milliseconds, in the order of the commits: from sending COMMIT, and from its response. The
 * second one is negative if the message arrives before the response.
 *
 * @typedef {{ fromCommitSent: number[], fromCommitAnswered: number[] }} Delays
 */

/**
 * A running target. `measure`: commits rows one after the other; the next commit follows the message of the previous one,
 * after a random pause of up to `pauseLimitMs`.
 *
 * @typedef {{
 *   readonly name: string,
 *   readonly measure: (commits: number, pauseLimitMs: number, onCommit: (done: number) => void) => Promise<Delays>,
 * }} Target
 */

/** @typedef {'flagcast' | 'polling' | 'payload' | 'select'} TargetKind */

/**
 * Starts a target with its own database, server process and client. `flagcast`: Flagcast. `polling`: Flagcast without
 * NOTIFY. `payload`, `select`: the baselines.
 *
 * @param {BoundedRun} run
 * @param {EmbeddedPostgres} postgres
 * @param {{ name: string, kind: TargetKind }} target
 * @returns {Promise<Target>}
 */
export async function startTarget(run, postgres, { name, kind }) {
  const database = await createDatabase(run, postgres, `bench_${kind}`);
  const { client: writer, projectId, environmentId, featureId } = database;
  const socket = await connectClient(run, database, kind);
  // Before `open` the wait reports errors, later the close event does.
  socket.on('error', () => undefined);
  const closed = new Promise((resolve) => socket.once('close', resolve));
  run.defer(async () => {
    socket.terminate();
    await closed;
  });
  await once(socket, 'open', { signal: run.signal });
  void closed.then(() => run.fail(new Error(`The connection of the target "${name}" was closed`)));

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
    const timeout = setTimeout(() => {
      run.fail(
        new Error(`The target "${name}" did not deliver a message within ${messageTimeoutMs / 1_000} s`),
      );
    }, messageTimeoutMs);
    const sentAtMs = performance.now();
    await writer.query('COMMIT');
    const answeredAtMs = performance.now();
    const receivedAtMs = await received;
    clearTimeout(timeout);
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

/**
 * Starts the server of the target, and connects a client to it.
 *
 * @param {BoundedRun} run
 * @param {BenchDatabase} database
 * @param {TargetKind} kind
 */
async function connectClient(run, { url, client: writer, projectId, environmentKey, ...user }, kind) {
  if (kind === 'payload' || kind === 'select') {
    await writer.query(baselineSchemas[kind]);
    const program = new URL('./baseline-server.js', import.meta.url);
    const { port } = await startServer(run, program, { databaseUrl: url, kind });
    return new WebSocket(`ws://127.0.0.1:${port}`);
  }
  // The trigger runs in the writer's session and uses its setting.
  if (kind === 'polling') await writer.query("SET flagcast.notify = 'off'");
  const secret = randomUUID();
  const program = new URL('../flagcast-server.js', import.meta.url);
  const { port } = await startServer(run, program, { databaseUrl: url, secret });
  const token = await signToken({
    secret,
    userId: user.userId,
    username: user.username,
    ttlMs: 3_600_000,
  });
  const query = new URLSearchParams({ project_id: projectId, env: environmentKey });
  return new WebSocket(`ws://127.0.0.1:${port}/api/ws?${query.toString()}`, {
    headers: { Authorization: `Bearer ${token}` },
  });
}
