import { setTimeout as delay } from 'node:timers/promises';
import { WebSocket } from 'ws';
import { signToken } from '../../../packages/server/dist/auth/sign-token.js';
import { startServer } from '../../testkit/child.ts';
import { measure } from '../measurement.js';
import { memoryOf } from '../../testkit/process-figures.ts';
import {
  bound,
  clearProgress,
  figure,
  machineLine,
  markdownTable,
  saveResult,
  showProgress,
} from '../results.js';
import { percentile } from '../statistics.js';
import { createDatabase } from '../../testkit/postgres.ts';

/** @import { BenchDatabase } from '../../testkit/postgres.ts' */
/** @import { Options } from '../options.js' */
/** @import { Bound } from '../results.js' */

const limitMs = 20 * 60_000;
const rows = 1_000_000;
const searches = 60;
const otherUsers = 5;
const quietMs = 10_000;
const defaultSeconds = 30;
const p95LimitMs = 500;
const secret = 'a secret of the benchmark, long enough';

/** @typedef {{ readonly username: string, readonly token: string }} User */
/** @typedef {{ readonly me: readonly number[], readonly connects: readonly number[], readonly refused: number }} Service */

/**
 * One user searches a million audit rows for something rare, 60 requests at a time, while other users connect and load
 * `/api/auth/me`.
 *
 * @param {Options} options
 * @returns {Promise<readonly Bound[]>}
 */
export async function runSearch(options) {
  const searchMs = (options.seconds ?? defaultSeconds) * 1_000;
  return await measure({ name: 'search', limitMs }, async ({ run, postgres, machine }) => {
    const database = await createDatabase(run, postgres, 'bench_search');
    showProgress(`search: writing ${rows} rows`);
    const query = await fillAuditLog(database);
    const [viewer, ...others] = await createUsers(database, 1 + otherUsers);
    if (viewer === undefined) throw new Error('No user was created');
    const program = new URL('../flagcast-server.js', import.meta.url);
    const server = await startServer(run, program, { databaseUrl: database.url, secret });
    const origin = `127.0.0.1:${server.port}`;

    showProgress('search: without searches');
    const quiet = await serveOthers(origin, others, quietMs);
    const before = await memoryOf([server.pid]);
    showProgress(`search: ${searches} searches at a time`);
    const end = new AbortController();
    const searching = Promise.all(
      Array.from({ length: searches }, async () => await searchUntil(end.signal, origin, viewer, query)),
    );
    const busy = await serveOthers(origin, others, searchMs);
    end.abort();
    const answers = (await searching).flat();
    const after = await memoryOf([server.pid]);
    clearProgress();

    const count = (/** @type {number} */ status) => answers.filter((each) => each.status === status).length;
    const answeredMs = answers.filter(({ status }) => status === 200).map(({ ms }) => ms);
    const statuses = [...new Set(answers.map(({ status }) => status))].map((status) => [
      status,
      count(status),
    ]);
    const growthMb = (after.residentBytes - before.residentBytes) / 2 ** 20;
    const bounds = [
      bound('p95 of /api/auth/me of other users', percentile(busy.me, 0.95), p95LimitMs, ' ms'),
      bound('p95 of WebSocket connects of other users', percentile(busy.connects, 0.95), p95LimitMs, ' ms'),
      bound('requests of other users that were refused', quiet.refused + busy.refused, 0, ''),
    ];
    const file = await saveResult(
      'search',
      {
        machine,
        bounds,
        rows,
        searches,
        searchMs,
        statuses,
        answeredMs: percentile(answeredMs, 0.5),
        growthMb,
        quiet: summary(quiet),
        busy: summary(busy),
      },
      options.output,
    );
    console.log(
      `${rows} audit rows, ${searches} searches of one user at a time for ${searchMs / 1_000} s, ${otherUsers} other users`,
    );
    console.log(machineLine(machine));
    const line = (/** @type {string} */ name, /** @type {readonly number[]} */ samples) => [
      name,
      String(samples.length),
      ...[0.5, 0.95, 1].map((fraction) => figure(percentile(samples, fraction))),
    ];
    const table = markdownTable(
      ['', 'requests', 'p50 ms', 'p95 ms', 'max ms'],
      [
        line('/api/auth/me, without searches', quiet.me),
        line('/api/auth/me, with searches', busy.me),
        line('WebSocket connect, without searches', quiet.connects),
        line('WebSocket connect, with searches', busy.connects),
        line('searches that were answered', answeredMs),
      ],
    );
    const answered = statuses.map(([status, number]) => `${number} with ${status}`).join(', ');
    console.log(
      `\n${table}\n\nSearches answered: ${answered}. Memory ${figure(growthMb)} MB more.\n\nWritten to ${file}`,
    );
    return bounds;
  });
}

/** @param {Service} service */
function summary({ me, connects, refused }) {
  const fractions = [0.5, 0.95, 1];
  return {
    me: fractions.map((fraction) => percentile(me, fraction)),
    connects: fractions.map((fraction) => percentile(connects, fraction)),
    refused,
  };
}

/**
 * @param {BenchDatabase} database
 * @returns {Promise<string>} the query of a search for something that is not there
 */
async function fillAuditLog({ client }) {
  /** @type {import('pg').QueryResult<{ projectId: string, environmentId: string }>} */
  const { rows: channels } = await client.query(
    `SELECT e.project_id AS "projectId", e.id::text AS "environmentId" FROM environments e ORDER BY e.id LIMIT 1`,
  );
  const [channel] = channels;
  if (channel === undefined) throw new Error('There is no environment to write into');
  await client.query(
    `INSERT INTO audit_log (project_id, environment_id, feature_id, entity, entity_id, actor, username, action, old_value, new_value, created_at)
     SELECT $1, $2, gen_random_uuid(), 'feature', gen_random_uuid(), 'user', 'user ' || number % 100, 'update',
       '{"enabled": false}', '{"enabled": true}', now() - number * interval '1 s'
     FROM generate_series(1, $3::int) AS number`,
    [channel.projectId, channel.environmentId, rows],
  );
  await client.query('ANALYZE audit_log');
  return new URLSearchParams({
    project_id: channel.projectId,
    env_id: channel.environmentId,
    username: 'nobody',
  }).toString();
}

/**
 * Creates users who may view everything.
 *
 * @param {BenchDatabase} database
 * @param {number} count
 * @returns {Promise<User[]>}
 */
async function createUsers({ client }, count) {
  /** @type {import('pg').QueryResult<{ id: string, username: string }>} */
  const { rows: users } = await client.query(
    `WITH made AS (
       INSERT INTO users (username, email, password_hash)
       SELECT 'viewer ' || number, 'viewer' || number || '@example.com', '' FROM generate_series(1, $1::int) AS number
       RETURNING id, username
     ), members AS (
       INSERT INTO memberships (project_id, user_id, role_id)
       SELECT p.id, made.id, r.id FROM made, projects p, roles r WHERE r.key = 'project_viewer'
     )
     SELECT id::text AS id, username FROM made`,
    [count],
  );
  return await Promise.all(
    users.map(async ({ id, username }) => ({
      username,
      token: await signToken({ secret, userId: id, username, ttlMs: 3_600_000 }),
    })),
  );
}

/**
 * One search after another, each a page further, from the start again at the end.
 *
 * @param {AbortSignal} ended
 * @param {string} origin
 * @param {User} user
 * @param {string} query
 */
async function searchUntil(ended, origin, { token }, query) {
  /** @type {{ status: number, ms: number }[]} */
  const answers = [];
  let before = '';
  while (!ended.aborted) {
    const startedAtMs = performance.now();
    const response = await fetch(`http://${origin}/api/audit?${query}${before}`, {
      headers: { Authorization: `Bearer ${token}` },
    });
    const { next } = /** @type {{ next?: string | null }} */ (await response.json());
    if (response.ok) before = typeof next === 'string' ? `&before=${next}` : '';
    answers.push({ status: response.status, ms: performance.now() - startedAtMs });
  }
  return answers;
}

/**
 * Each user loads `/api/auth/me` and connects, a few times a second.
 *
 * @param {string} origin
 * @param {readonly User[]} users
 * @param {number} durationMs
 * @returns {Promise<Service>}
 */
async function serveOthers(origin, users, durationMs) {
  /** @type {{ me: number[], connects: number[], refused: number }} */
  const service = { me: [], connects: [], refused: 0 };
  const endAtMs = performance.now() + durationMs;
  await Promise.all(
    users.map(async ({ token }) => {
      while (performance.now() < endAtMs) {
        const startedAtMs = performance.now();
        const response = await fetch(`http://${origin}/api/auth/me`, {
          headers: { Authorization: `Bearer ${token}` },
        });
        await response.arrayBuffer();
        service.me.push(performance.now() - startedAtMs);
        if (!response.ok) service.refused += 1;
        const connectedMs = await connectOnce(origin, token);
        if (connectedMs === null) service.refused += 1;
        else service.connects.push(connectedMs);
        await delay(100 + Math.random() * 100);
      }
    }),
  );
  return service;
}

/**
 * @param {string} origin
 * @param {string} token
 * @returns {Promise<number | null>} milliseconds until the first message; null when the connection was refused
 */
async function connectOnce(origin, token) {
  const startedAtMs = performance.now();
  const socket = new WebSocket(`ws://${origin}/api/ws`, ['flagcast.v1', `bearer.${token}`]);
  /** @type {number | null} */
  const connectedMs = await new Promise((resolve) => {
    socket.once('message', () => resolve(performance.now() - startedAtMs));
    socket.once('close', () => resolve(null));
    socket.once('error', () => resolve(null));
  });
  socket.terminate();
  return connectedMs;
}
