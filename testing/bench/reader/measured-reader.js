import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { Lifecycle } from '../../../packages/server/dist/lifecycle.js';
import { sessionOpener } from '../../../packages/server/dist/postgres/session.js';
import { EventReader } from '../../../packages/server/dist/reader/reader.js';

/** @import pg from 'pg' */
/** @import { BoundedRun } from '../../testkit/bounded-run.ts' */
/** @import { BenchDatabase } from '../../testkit/postgres.ts' */

/**
 * Flagcast's reader of a database. `commitAndRead`: commits an audit row, wakes the reader, and returns the duration of the
 * read that returned the row, in milliseconds; null if a poll read it. `cpuMs`: processor time of the reader's PostgreSQL
 * backend, in milliseconds; null where the system does not report it.
 *
 * @typedef {{
 *   readonly commitAndRead: () => Promise<number | null>,
 *   readonly cpuMs: () => Promise<number | null>,
 *   readonly stop: () => Promise<void>,
 * }} MeasuredReader
 */

/**
 * @param {BoundedRun} run
 * @param {BenchDatabase} database
 * @returns {Promise<MeasuredReader>}
 */
export async function startMeasuredReader(run, { url, client, projectId, environmentId, featureId }) {
  const lifecycle = new Lifecycle();
  const reader = new EventReader({
    openSession: sessionOpener({ url }),
    lifecycle,
    onBatch: () => undefined,
  });
  run.defer(async () => await reader.stop());
  lifecycle.on('reader:failed', ({ error }) => run.fail(error));
  const started = once(lifecycle, 'reader:started', { signal: run.signal });
  reader.start();
  await started;
  /** @type {pg.QueryResult<{ pid: number }>} */
  const { rows } = await client.query(
    "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'flagcast reader'",
  );
  const pid = rows[0]?.pid ?? 0;

  return {
    commitAndRead: async () => {
      /** @type {Promise<number | null>} */
      const rowRead = new Promise((resolve) => {
        /** @param {{ trigger: 'poll' | 'wake' | 'follow_up', fresh: number, durationMs: number }} read */
        const onRead = ({ trigger, fresh, durationMs }) => {
          if (fresh === 0) return;
          lifecycle.off('reader:read', onRead);
          resolve(trigger === 'poll' ? null : durationMs);
        };
        lifecycle.on('reader:read', onRead);
      });
      await client.query({
        name: 'bench_insert',
        text: `INSERT INTO audit_log (feature_id, entity, entity_id, actor, username, action, project_id, environment_id)
          VALUES ($1, 'feature_params', gen_random_uuid(), 'user', 'bench', 'update', $2, $3)`,
        values: [featureId, projectId, environmentId],
      });
      reader.requestBatch();
      return await rowRead;
    },
    cpuMs: async () => {
      try {
        // The first field is the time on a processor, in nanoseconds.
        return Number((await readFile(`/proc/${pid}/schedstat`, 'utf8')).split(' ', 1)[0]) / 1e6;
      } catch {
        // Not Linux, or a kernel without scheduler statistics.
        return null;
      }
    },
    stop: async () => await reader.stop(),
  };
}
