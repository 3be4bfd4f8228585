import { randomUUID } from 'node:crypto';
import { fileURLToPath } from 'node:url';
import { freePort } from '../../packages/demo/dist/embedded/embedded-process.js';
import { signToken } from '../../packages/server/dist/access/sign.js';
import { startServer } from '../child.js';
import { startInstalled } from './installed.js';
import { createDatabase } from '../temporary-postgres.js';

/** @import { Child } from '../child.js' */
/** @import { BenchDatabase } from '../temporary-postgres.js' */
/** @import { Contender, RunningContender, Setting } from './contender.js' */

/** Projects come with this many environments, hence channels. */
const environmentsPerProject = 3;
const tokenTtlMs = 10_800_000;
const command = fileURLToPath(new URL('../../packages/server/bin/flagcast.js', import.meta.url));

/**
 * The product, in one of its dialects.
 *
 * @param {'flagcast' | 'flagcast.v1'} kind
 * @returns {Contender}
 */
export function flagcast(kind) {
  const dialect = kind === 'flagcast' ? 'text' : 'flagcast.v1';
  return {
    kind,
    name: kind === 'flagcast' ? 'Flagcast, plain dialect' : 'Flagcast, flagcast.v1',
    start: async (setting) => await startFlagcast(setting, dialect),
  };
}

/**
 * The product with all that a measurement needs to go on with: its database, where the channels are in
 * it, and `serve`, which starts a server (again): on a free port where none is given. `serveWith` starts the
 * command `flagcast serve --workers`, and tells its processes, the first one first.
 *
 * @typedef {{
 *   readonly database: BenchDatabase,
 *   readonly places: readonly Place[],
 *   readonly headers: Readonly<Record<string, string>>,
 *   readonly address: (channel: number) => { path: string, topic: string },
 *   readonly serve: (port?: number) => Promise<Child & { readonly port: number }>,
 *   readonly serveWith: (workers: number) => Promise<{
 *     readonly port: number, readonly pids: readonly number[], readonly end: () => Promise<void>,
 *   }>,
 * }} PreparedFlagcast
 */

/**
 * Makes the database with its channels, and a token for the clients.
 *
 * @param {Setting} setting
 * @returns {Promise<PreparedFlagcast>}
 */
export async function prepareFlagcast({ run, postgres, channels, maxConnections }) {
  const database = await createDatabase(run, postgres, `bench_${randomUUID().replaceAll('-', '')}`);
  const places = await makeChannels(database, channels);
  const secret = randomUUID();
  const { url: databaseUrl, userId, username } = database;
  const token = await signToken({ secret, userId, username, ttlMs: tokenTtlMs });
  return {
    database,
    places,
    headers: { Authorization: `Bearer ${token}` },
    address: (channel) => {
      const { projectId, environmentId } = placeOf(places, channel);
      const query = new URLSearchParams({ project_id: projectId, env_id: environmentId });
      return { path: `/api/ws?${query.toString()}`, topic: '' };
    },
    serve: async (port = 0) => {
      const program = new URL('../flagcast-server.js', import.meta.url);
      return await startServer(run, program, { databaseUrl, secret, maxConnections, port });
    },
    serveWith: async (workers) => {
      const port = await freePort();
      const { pids, end } = await startInstalled(run, {
        command: process.execPath,
        args: [command, 'serve', '--port', String(port), '--workers', String(workers)],
        port,
        workers: workers === 1 ? 0 : workers,
        env: {
          DATABASE_URL: databaseUrl,
          FLAGCAST_JWT_SECRET: secret,
          FLAGCAST_MAX_CONNECTIONS_PER_USER: String(maxConnections),
          FLAGCAST_MAX_CONNECTIONS_PER_ADDRESS: String(maxConnections),
        },
      });
      return { port, pids, end };
    },
  };
}

/**
 * @param {Setting} setting
 * @param {'text' | 'flagcast.v1'} dialect
 * @returns {Promise<RunningContender>}
 */
async function startFlagcast(setting, dialect) {
  const { database, places, headers, address, serve } = await prepareFlagcast(setting);
  const server = await serve();
  return {
    port: server.port,
    dialect,
    headers,
    address,
    publish: async (channels) => await insertEvents(database, places, channels),
    cpuPids: [server.pid],
    memoryPid: server.pid,
    end: server.end,
  };
}

/** @typedef {{ readonly projectId: string, readonly environmentId: string, readonly featureId: string }} Place */

/**
 * @param {BenchDatabase} database
 * @param {number} channels
 * @returns {Promise<readonly Place[]>}
 */
async function makeChannels({ client }, channels) {
  await client.query({
    text: "INSERT INTO projects (name) SELECT 'bench ' || number FROM generate_series(2, $1::integer) AS number",
    values: [Math.ceil(channels / environmentsPerProject)],
  });
  await client.query(`INSERT INTO features (project_id, key, name, kind)
    SELECT id, 'bench', 'bench', 'simple' FROM projects p
    WHERE NOT EXISTS (SELECT FROM features WHERE project_id = p.id)`);
  /** @type {import('pg').QueryResult<Place>} */
  const { rows } = await client.query(`
    SELECT e.project_id AS "projectId", e.id::text AS "environmentId", f.id AS "featureId"
    FROM environments e JOIN features f ON f.project_id = e.project_id ORDER BY e.id`);
  return rows;
}

/**
 * @param {readonly Place[]} places
 * @param {number} channel
 * @returns {Place}
 */
function placeOf(places, channel) {
  const place = places[channel];
  if (place === undefined) throw new Error(`There is no channel ${channel}`);
  return place;
}

/**
 * Commits one audit row for each channel named, in one transaction.
 *
 * @param {Pick<BenchDatabase, 'client'>} database
 * @param {readonly Place[]} places
 * @param {readonly number[]} channels
 */
export async function insertEvents({ client }, places, channels) {
  const published = channels.map((channel) => placeOf(places, channel));
  await client.query({
    name: 'bench_publish',
    text: `INSERT INTO audit_log (feature_id, entity, entity_id, actor, username, action, project_id, environment_id)
      SELECT feature_id, 'feature_params', gen_random_uuid(), 'user', 'bench', 'update', project_id, environment_id
      FROM unnest($1::uuid[], $2::uuid[], $3::bigint[]) AS event (feature_id, project_id, environment_id)`,
    values: [
      published.map(({ featureId }) => featureId),
      published.map(({ projectId }) => projectId),
      published.map(({ environmentId }) => environmentId),
    ],
  });
}
