import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { setTimeout as delay } from 'node:timers/promises';
import { createFlagcast, type LifecycleEvents } from 'flagcast';
import { type BenchDatabase, createDatabase } from '../../testkit/postgres.ts';
import { cpuMsOf } from '../../testkit/process-figures.ts';
import { atMost } from '../../testkit/report.ts';
import { type Bench, benchmark } from '../benchmark.ts';
import { insertRow } from '../load/probe.ts';
import { percentile, ratio, spreads } from '../rounds.ts';

const readsPerRound = 100;
/** Interval of the commits and reads in each database, in milliseconds. */
const tickMs = 20;
/** Not measured, in milliseconds: code is compiled and plans are made at first use. */
const warmUpMs = 3_000;
/** Rows of the event log and decided requests in the large database, for each audit row. */
const logShare = 0.2;
const decidedShare = 0.02;
/** Limit of a read with large tables relative to empty ones. */
const boundToEmpty = 1.2;

interface Read {
  readonly ms: number;
  /** Of the PostgreSQL backend. */
  readonly cpuMs: number;
}

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
      const over = ratio(ofLarge, ofEmpty, ({ ms }) => ms);
      const cpuOver = ratio(ofLarge, ofEmpty, ({ cpuMs }) => cpuMs);
      tables.push({
        caption: `One read, ${phase}`,
        rows: [
          { tables: 'empty', ...spreads(ofEmpty) },
          { tables: `${rows} audit rows`, ...spreads(ofLarge) },
          { tables: 'ratio', ms: over, cpuMs: cpuOver },
        ],
      });
      bounds.push(atMost(`a read with ${rows} audit rows over empty, ${phase}`, over.median, boundToEmpty));
    }
    const title = `One read: median of ${rounds} rounds of ${readsPerRound} reads in turns (lowest-highest round); cpuMs: of the PostgreSQL backend`;
    return { title, tables, bounds };
  },
});

/** Reads in the databases in turns, so that other load on the machine affects all of them. */
async function measurePhase({ run: { signal } }: Bench, rounds: number, databases: readonly BenchDatabase[]) {
  // New sessions, because a session keeps its plans.
  const readers = await Promise.all(databases.map(async (database) => await startReader(signal, database)));
  const sides = readers.map((each) => ({ ...each, samples: [] as number[], rounds: [] as Read[] }));
  const tick = async () => {
    const startedAtMs = performance.now();
    for (const { commitAndRead, samples } of sides) samples.push(...(await commitAndRead()));
    await delay(Math.max(0, tickMs - (performance.now() - startedAtMs)), undefined, { signal });
  };
  const warmUntilMs = performance.now() + warmUpMs;
  while (performance.now() < warmUntilMs) await tick();
  for (let round = 0; round < rounds; round += 1) {
    for (const { samples } of sides) samples.length = 0;
    const before = await Promise.all(sides.map(async ({ cpuMs }) => await cpuMs()));
    let ticks = 0;
    for (; sides.some(({ samples }) => samples.length < readsPerRound); ticks += 1) await tick();
    for (const [index, side] of sides.entries()) {
      const cpuMs = ((await side.cpuMs()) - (before[index] ?? NaN)) / ticks;
      side.rounds.push({ ms: percentile(side.samples, 0.5), cpuMs });
    }
  }
  for (const { stop } of sides) await stop();
  return sides.map((side) => side.rounds);
}

/** A server without connections, in this process. */
async function startReader(signal: AbortSignal, database: BenchDatabase) {
  const { client, url } = database;
  const flagcast = createFlagcast({ database: { url }, auth: { secret: randomUUID() } });
  const { lifecycle } = flagcast;
  const listening = once(lifecycle, 'listener:listening', { signal });
  await flagcast.ready();
  await listening;
  const { rows } = await client.query<{ pid: number }>(
    "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'flagcast reader'",
  );
  const backendPids = rows.map(({ pid }) => pid);
  return {
    cpuMs: async () => await cpuMsOf(backendPids),
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
      await insertRow(client, database, randomUUID());
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
  { client, projectId, environmentId, featureId }: BenchDatabase,
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
