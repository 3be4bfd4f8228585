import { insertAudit, seedProject, type TestDatabase } from './database.js';
import { PlainClient } from './plain-client.js';
import { createUser, type TestServer } from './server.js';

export interface WatchedChannel {
  readonly projectId: string;
  readonly environmentId: string;
}

/** Six channels, each watched by a client that was written to the specification. */
export async function watch(
  database: TestDatabase,
  server: TestServer,
): Promise<Map<WatchedChannel, PlainClient>> {
  const [clients = new Map<WatchedChannel, PlainClient>()] = await watchAll(database, [server]);
  return clients;
}

/** Six channels, each with a client on each server. */
export async function watchAll(
  database: TestDatabase,
  servers: readonly TestServer[],
): Promise<Map<WatchedChannel, PlainClient>[]> {
  const { token } = await createUser(database.pool, 'root', { superuser: true, ttlMs: 600_000 });
  const watched = servers.map(() => new Map<WatchedChannel, PlainClient>());
  for (let project = 0; project < 2; project += 1) {
    const { projectId, environments } = await seedProject(database.pool);
    for (const environmentId of Object.values(environments)) {
      const query = { project_id: projectId, env_id: environmentId };
      for (const [index, { wsUrl }] of servers.entries()) {
        watched[index]?.set({ projectId, environmentId }, await PlainClient.connect(wsUrl, query, { token }));
      }
    }
  }
  return watched;
}

/**
 * Compares every client with the commits of the database: each event is identified by its
 * entity_id. After the last event of each channel, all earlier events must have arrived.
 */
export async function compare(
  database: TestDatabase,
  clients: Map<WatchedChannel, PlainClient>,
): Promise<{ committed: number; lost: number; repeated: number; foreign: number }> {
  const result = { committed: 0, lost: 0, repeated: 0, foreign: 0 };
  for (const [channel, client] of clients) {
    const last = await insertAudit(database.pool, channel);
    await client.received((message) => message.entity_id === last.entityId);
    const { rows } = await database.pool.query<{ entity_id: string }>(
      'SELECT entity_id FROM audit_log WHERE project_id = $1 AND environment_id = $2',
      [channel.projectId, channel.environmentId],
    );
    const committed = new Set(rows.map((row) => row.entity_id));
    const received = new Set(client.messages.map((message) => message.entity_id));
    result.committed += committed.size;
    result.repeated += client.messages.length - received.size;
    for (const entityId of committed) if (!received.has(entityId)) result.lost += 1;
    for (const entityId of received) if (!committed.has(entityId)) result.foreign += 1;
  }
  return result;
}
