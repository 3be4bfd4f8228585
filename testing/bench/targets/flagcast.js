import { randomUUID } from 'node:crypto';
import { fileURLToPath } from 'node:url';
import { freePort } from '../../../packages/demo/dist/embedded/embedded-process.js';
import { signToken } from '../../../packages/server/dist/auth/sign-token.js';
import { startServer } from '../../testkit/child.ts';
import { startInstalled } from './installed.js';
import { createDatabase } from '../../testkit/postgres.ts';

/** @import { Child } from '../../testkit/child.ts' */
/** @import { BenchDatabase } from '../../testkit/postgres.ts' */
/** @import { Target, RunningTarget, TargetOptions } from './target.js' */

/** Every project has this many environments, and so channels. */
const environmentsPerProject = 3;
const tokenTtlMs = 10_800_000;
const command = fileURLToPath(new URL('../../../packages/server/bin/flagcast.js', import.meta.url));

/**
 * Flagcast with clients of one of its dialects.
 *
 * @param {'flagcast' | 'flagcast.v1'} kind
 * @returns {Target}
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
 * A prepared database and the functions to start servers. `channelIds`: the ids of each channel. `serve`: starts a server,
 * by default on a free port. `serveWith`: runs `flagcast serve --workers` and returns its processes, the primary first.
 *
 * @typedef {{
 *   readonly database: BenchDatabase,
 *   readonly channelIds: readonly ChannelIds[],
 *   readonly headers: Readonly<Record<string, string>>,
 *   readonly address: (channel: number) => { path: string, topic: string },
 *   readonly serve: (port?: number) => Promise<Child & { readonly port: number }>,
 *   readonly serveWith: (workers: number) => Promise<{
 *     readonly port: number, readonly pids: readonly number[], readonly end: () => Promise<void>,
 *   }>,
 * }} PreparedFlagcast
 */

/**
 * Creates the database with its channels, and a token for the clients.
 *
 * @param {TargetOptions} setting
 * @returns {Promise<PreparedFlagcast>}
 */
export async function prepareFlagcast({ run, postgres, channels, maxConnections }) {
  const database = await createDatabase(run, postgres, `bench_${randomUUID().replaceAll('-', '')}`);
  const channelIds = await createChannels(database, channels);
  const secret = randomUUID();
  const { url: databaseUrl, userId, username } = database;
  const token = await signToken({ secret, userId, username, ttlMs: tokenTtlMs });
  return {
    database,
    channelIds,
    headers: { Authorization: `Bearer ${token}` },
    address: (channel) => {
      const { projectId, environmentId } = channelIdsOf(channelIds, channel);
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
 * @param {TargetOptions} setting
 * @param {'text' | 'flagcast.v1'} dialect
 * @returns {Promise<RunningTarget>}
 */
async function startFlagcast(setting, dialect) {
  const { database, channelIds, headers, address, serve } = await prepareFlagcast(setting);
  const server = await serve();
  return {
    port: server.port,
    dialect,
    headers,
    address,
    publish: async (channels) => await insertEvents(database, channelIds, channels),
    cpuPids: [server.pid],
    memoryPid: server.pid,
    end: server.end,
  };
}

/** @typedef {{ readonly projectId: string, readonly environmentId: string, readonly featureId: string }} ChannelIds */

/**
 * @param {BenchDatabase} database
 * @param {number} channels
 * @returns {Promise<readonly ChannelIds[]>}
 */
async function createChannels({ client }, channels) {
  await client.query({
    text: "INSERT INTO projects (name) SELECT 'bench ' || number FROM generate_series(2, $1::integer) AS number",
    values: [Math.ceil(channels / environmentsPerProject)],
  });
  await client.query(`INSERT INTO features (project_id, key, name, kind)
    SELECT id, 'bench', 'bench', 'simple' FROM projects p
    WHERE NOT EXISTS (SELECT FROM features WHERE project_id = p.id)`);
  /** @type {import('pg').QueryResult<ChannelIds>} */
  const { rows } = await client.query(`
    SELECT e.project_id AS "projectId", e.id::text AS "environmentId", f.id AS "featureId"
    FROM environments e JOIN features f ON f.project_id = e.project_id ORDER BY e.id`);
  return rows;
}

/**
 * @param {readonly ChannelIds[]} channelIds
 * @param {number} channel
 * @returns {ChannelIds}
 */
function channelIdsOf(channelIds, channel) {
  const ids = channelIds[channel];
  if (ids === undefined) throw new Error(`There is no channel ${channel}`);
  return ids;
}

/**
 * Commits one audit row for each listed channel, in one transaction.
 *
 * @param {Pick<BenchDatabase, 'client'>} database
 * @param {readonly ChannelIds[]} channelIds
 * @param {readonly number[]} channels
 */
export async function insertEvents({ client }, channelIds, channels) {
  const published = channels.map((channel) => channelIdsOf(channelIds, channel));
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
