import { randomUUID } from 'node:crypto';
import { connect } from '../../testkit/postgres.ts';

/** @import pg from 'pg' */
/** @import { BoundedRun } from '../../testkit/bounded-run.ts' */
/** @import { BenchDatabase } from '../../testkit/postgres.ts' */

/**
 * Sessions that write to a database. `commitFor`: `count` sessions commit audit rows one after the other for `durationMs`;
 * returns the commits per second. `onCommit` receives the entity id of the row and the time at which COMMIT was sent, by
 * performance.now(). `insertMany`: inserts the rows in one statement and returns its duration in milliseconds.
 *
 * @typedef {{
 *   readonly commitFor: (count: number, durationMs: number, onCommit?: (entityId: string, sentAtMs: number) => void) => Promise<number>,
 *   readonly insertMany: (rows: number) => Promise<number>,
 * }} Writers
 */

const insertOne = {
  name: 'bench_insert',
  text: `INSERT INTO audit_log
      (feature_id, entity, entity_id, actor, username, action, old_value, new_value, request_id, project_id, environment_id)
    VALUES ($1, 'feature', $2, 'user', 'bench', 'update', '{"enabled": false}', '{"enabled": true}', $2, $3, $4)`,
};

/**
 * @param {BoundedRun} run
 * @param {BenchDatabase} database
 * @param {number} most
 * @returns {Promise<Writers>}
 */
export async function startWriters(run, { url, projectId, environmentId, featureId }, most) {
  const clients = await Promise.all(
    Array.from({ length: most }, async () => await connect(run, url, 'bench writer')),
  );
  return {
    commitFor: async (count, durationMs, onCommit = () => undefined) => {
      const startedAtMs = performance.now();
      const endAtMs = startedAtMs + durationMs;
      let commits = 0;
      /** @param {pg.Client} client */
      const write = async (client) => {
        while (performance.now() < endAtMs && !run.signal.aborted) {
          const entityId = randomUUID();
          // Without BEGIN the statement is a transaction.
          onCommit(entityId, performance.now());
          await client.query({ ...insertOne, values: [featureId, entityId, projectId, environmentId] });
          commits += 1;
        }
      };
      await Promise.all(clients.slice(0, count).map(write));
      return commits / ((performance.now() - startedAtMs) / 1_000);
    },
    insertMany: async (rows) => {
      const [client] = clients;
      const startedAtMs = performance.now();
      await client?.query(
        `INSERT INTO audit_log (feature_id, entity, entity_id, actor, username, action, project_id, environment_id)
        SELECT $1, 'feature', gen_random_uuid(), 'user', 'bench', 'update', $2, $3 FROM generate_series(1, $4::int)`,
        [featureId, projectId, environmentId, rows],
      );
      return performance.now() - startedAtMs;
    },
  };
}
