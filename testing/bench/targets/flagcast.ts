import { randomUUID } from 'node:crypto';
import type pg from 'pg';
import type { FlagIds } from '../../testkit/channel.ts';
import { connect, createDatabase } from '../../testkit/postgres.ts';
import { type ServeOptions, startServe } from '../../testkit/serve-process.ts';
import { signToken, type TestUser } from '../../testkit/tokens.ts';
import type { Bench } from '../benchmark.ts';
import { Probe } from '../load/probe.ts';
import type { Address } from '../load/receivers.ts';
import type { Target, TargetOptions } from './target.ts';

interface FlagcastTarget extends Pick<Target, 'kind' | 'name'> {
  /** Default `text`. */
  readonly dialect?: Address['dialect'];
  /** Settings of the server. Default: none. */
  readonly env?: Readonly<Record<string, string>>;
  /** Default 1. */
  readonly workers?: number;
}

/** `flagcast serve` with clients of one of its dialects. */
export function flagcastTarget({
  kind,
  name,
  dialect = 'text',
  env = {},
  workers = 1,
}: FlagcastTarget): Target {
  return {
    kind,
    name,
    start: async (bench, options) => {
      const started = await startFlagcast(bench, { ...options, env, workers });
      return { ...started, dialect, pids: await started.pids(), end: async () => await started.end() };
    },
  };
}

/** Creates a database with channels. `serve` starts a server, by default with one process on a free port. */
export async function prepareFlagcast({ run, postgres }: Bench, { channels, clients }: TargetOptions) {
  const name = `bench_${randomUUID().replaceAll('-', '')}`;
  const database = await createDatabase(run, postgres, name, channels);
  const secret = randomUUID();
  const token = (user: TestUser) => signToken(secret, user);
  const channel = (index: number) => {
    const found = database.channels[index];
    if (found === undefined) throw new Error(`There is no channel ${index}`);
    return found;
  };
  const path = (index: number) => {
    const { projectId, environmentId } = channel(index);
    return `/api/ws?${new URLSearchParams({ project_id: projectId, env_id: environmentId }).toString()}`;
  };
  const headers = { Authorization: `Bearer ${token(database.user)}` };
  return {
    database,
    channel,
    path,
    token,
    headers,
    dialect: 'text' as const,
    /** Commits one audit row for each listed channel, in one transaction. */
    publish: async (indexes: readonly number[]) => await insertEvents(database.client, indexes.map(channel)),
    /** Opens clients of a channel in this process, and the session of their writer. */
    probe: async (port: number, index: number, count = 1) =>
      await Probe.open(run, {
        url: `ws://127.0.0.1:${port}${path(index)}`,
        headers,
        clients: count,
        writer: await connect(run, database.url, 'bench probe'),
        channel: channel(index),
      }),
    serve: async ({ env, workers = 1, ...options }: Partial<ServeOptions> = {}) =>
      await startServe(run, {
        ...options,
        workers,
        env: {
          DATABASE_URL: database.url,
          FLAGCAST_JWT_SECRET: secret,
          // Each worker needs its own sessions.
          FLAGCAST_DB_CONNECTIONS: String(10 * workers),
          // Thousands of connections come from one user and address.
          FLAGCAST_MAX_CONNECTIONS_PER_USER: String(2 * clients + 100),
          FLAGCAST_MAX_CONNECTIONS_PER_ADDRESS: String(2 * clients + 100),
          ...env,
        },
      }),
  };
}

/** Creates a database with channels and starts a server of it. */
export async function startFlagcast(bench: Bench, options: TargetOptions & Partial<ServeOptions>) {
  const { channels, clients, ...serving } = options;
  const prepared = await prepareFlagcast(bench, { channels, clients });
  return { ...prepared, ...(await prepared.serve(serving)) };
}

async function insertEvents(client: pg.Client, published: readonly FlagIds[]): Promise<void> {
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
