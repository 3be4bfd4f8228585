import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { setTimeout as delay } from 'node:timers/promises';
import { createFlagcast, type LifecycleEvents } from 'flagcast';
import { type BenchDatabase, createDatabase } from '../../testkit/postgres.ts';
import { atMost } from '../../testkit/report.ts';
import { insertAudit } from '../../testkit/writers.ts';
import { type Bench, benchmark } from '../benchmark.ts';
import { percentile, ratio, spread } from '../rounds.ts';

const readsPerRound = 100;
/** Not measured: code is compiled and plans are made at first use. */
const warmUpReads = 100;
/** Pause after a read, in milliseconds: two reads in a row would be held apart. */
const pauseMs = 20;
/** Rows of the event log and decided requests in the large database, for each audit row. */
const logShare = 0.2;
const decidedShare = 0.02;
/** Limit of a read with large tables relative to empty ones. */
const boundToEmpty = 1.2;

export const reader = benchmark({
  summary: 'a read of new events with empty tables and with large ones (6 minutes)',
  options: { rounds: 5, rows: 10_000_000 },
  measure: async (bench, { rounds, rows }) => {
    const empty = await createDatabase(bench.run, bench.postgres, 'bench_empty');
    const large = await createDatabase(bench.run, bench.postgres, 'bench_large');
    bench.step(`loading ${rows} rows`);
    await load(large, rows);
    const tables = [];
    const bounds = [];
    for (const phase of ['freshly loaded', 'after ANALYZE']) {
      if (phase === 'after ANALYZE') for (const { client } of [empty, large]) await client.query('ANALYZE');
      bench.step(phase);
      const [ofEmpty = [], ofLarge = []] = await measurePhase(bench, rounds, [empty, large]);
      const over = ratio(ofLarge, ofEmpty, (ms) => ms);
      tables.push({
        caption: `One read, ${phase}`,
        rows: [{ 'empty, ms': spread(ofEmpty), 'large, ms': spread(ofLarge), 'large over empty': over }],
      });
      bounds.push(atMost(`a read with ${rows} audit rows over empty, ${phase}`, over.median, boundToEmpty));
    }
    const title = `One read with ${rows} audit rows and with empty tables: median of ${rounds} rounds of ${readsPerRound} reads in turns (lowest-highest round)`;
    return { title, tables, bounds };
  },
});

/** Commits and reads in the databases in turns. Returns the reads of each. */
async function measurePhase({ run: { signal } }: Bench, rounds: number, databases: readonly BenchDatabase[]) {
  // New sessions, because a session keeps its plans.
  const readers = await Promise.all(databases.map(async (database) => await startReader(signal, database)));
  /** In turns, so that other load on the machine affects all. Returns the median of each. */
  const readMs = async (reads: number): Promise<number[]> => {
    const samples = readers.map((): number[] => []);
    while (samples.some(({ length }) => length < reads)) {
      for (const [index, reader] of readers.entries())
        samples[index]?.push(...(await reader.commitAndRead()));
      await delay(pauseMs, undefined, { signal });
    }
    return samples.map((each) => percentile(each, 0.5));
  };
  await readMs(warmUpReads);
  const measured: number[][] = [];
  for (let round = 0; round < rounds; round += 1) measured.push(await readMs(readsPerRound));
  for (const reader of readers) await reader.stop();
  return readers.map((_reader, index) => measured.map((each) => each[index] ?? NaN));
}

/** A server without connections, in this process. */
async function startReader(signal: AbortSignal, database: BenchDatabase) {
  const { client, url, channels } = database;
  const flagcast = createFlagcast({ database: { url }, auth: { secret: randomUUID() } });
  const { lifecycle } = flagcast;
  const listening = once(lifecycle, 'listener:listening', { signal });
  await flagcast.ready();
  await listening;
  return {
    stop: async () => await flagcast.close(),
    /** Commits an audit row. Returns the milliseconds of the read that returned it; nothing if a poll read it. */
    commitAndRead: async (): Promise<readonly number[]> => {
      const rowRead = new Promise<readonly number[]>((resolve) => {
        const onRead = ({ trigger, fresh, durationMs }: LifecycleEvents['reader:read'][0]) => {
          if (fresh === 0) return;
          lifecycle.off('reader:read', onRead);
          resolve(trigger === 'poll' ? [] : [durationMs]);
        };
        lifecycle.on('reader:read', onRead);
      });
      await insertAudit(client, channels[0]);
      return await rowRead;
    },
  };
}

/**
 * Fills the tables with rows of the last 90 days, and the event log with rows over all transaction ids so far. Disables
 * autovacuum, so that only the run analyzes the tables. Without triggers, foreign keys are not checked, and the event log
 * gets no rows.
 */
async function load(
  { client, channels: [{ projectId, environmentId, featureId }] }: BenchDatabase,
  rows: number,
): Promise<void> {
  const tables = ['audit_log', 'pending_changes', 'pending_change_entities'];
  for (const table of [...tables, 'flagcast.event_log']) {
    await client.query(`ALTER TABLE ${table} SET (autovacuum_enabled = false)`);
  }
  await client.query(
    `INSERT INTO flagcast.event_log
      (xid, source, row_id, project_id, environment_id, entity, entity_id, action, created_at, feature_id)
    SELECT 3 + n % (pg_current_xact_id()::text::bigint - 3), 'audit', n, $1, $2, 'feature', $3, 'updated', now(), $3
    FROM generate_series(1, $4::bigint) AS n`,
    [projectId, environmentId, featureId, Math.ceil(rows * logShare)],
  );
  await client.query('SET session_replication_role = replica');
  for (const table of tables) await client.query(`ALTER TABLE ${table} DISABLE TRIGGER flagcast_log`);
  await client.query(
    `INSERT INTO audit_log
      (feature_id, entity, entity_id, actor, username, action, old_value, new_value, request_id, project_id, environment_id, created_at)
    SELECT md5((n % 500)::text)::uuid, 'feature_params', md5((n % 500)::text)::uuid, 'user', 'bench', 'update',
      '{"enabled": false}', '{"enabled": true}', gen_random_uuid(), $1, $2, now() - n * interval '90 days' / $3::bigint
    FROM generate_series(1, $3::bigint) AS n`,
    [projectId, environmentId, rows],
  );
  const decided = Math.ceil(rows * decidedShare);
  await client.query(
    `INSERT INTO pending_changes (id, project_id, environment_id, requested_by, change, status, created_at)
    SELECT md5('request ' || n)::uuid, $1, $2, 'bench', '{"entities": [], "meta": {"reason": "decided"}}', 'cancelled',
      now() - n * interval '90 days' / $3::bigint
    FROM generate_series(1, $3::bigint) AS n`,
    [projectId, environmentId, decided],
  );
  await client.query(`INSERT INTO pending_change_entities (pending_change_id, entity, entity_id, created_at)
    SELECT id, 'feature', md5(id::text)::uuid, created_at FROM pending_changes`);
  for (const table of tables) await client.query(`ALTER TABLE ${table} ENABLE ALWAYS TRIGGER flagcast_log`);
  await client.query('RESET session_replication_role');
}
