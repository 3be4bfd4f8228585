/** @import pg from 'pg' */

/**
 * Fills audit_log with rows of the last 90 days, and the event log with `logRows` rows over all transaction ids so far.
 * Disables autovacuum, so that only the run analyzes the tables.
 *
 * @param {pg.Client} client
 * @param {{ projectId: string, environmentId: string, featureId: string }} channel
 * @param {number} rows
 * @param {number} logRows
 */
export async function loadAudit(client, { projectId, environmentId, featureId }, rows, logRows) {
  await client.query(`
    ALTER TABLE audit_log SET (autovacuum_enabled = false);
    ALTER TABLE pending_changes SET (autovacuum_enabled = false);
    ALTER TABLE pending_change_entities SET (autovacuum_enabled = false);
    ALTER TABLE flagcast.event_log SET (autovacuum_enabled = false)`);
  await client.query(
    `INSERT INTO flagcast.event_log
      (xid, source, row_id, project_id, environment_id, entity, entity_id, action, created_at, feature_id)
    SELECT 3 + n % (pg_current_xact_id()::text::bigint - 3), 'audit', n, $1, $2, 'feature', $3, 'updated', now(), $3
    FROM generate_series(1, $4::bigint) AS n`,
    [projectId, environmentId, featureId, logRows],
  );
  await withoutTriggers(client, async () => {
    await client.query(
      `INSERT INTO audit_log
        (feature_id, entity, entity_id, actor, username, action, old_value, new_value, request_id, project_id, environment_id, created_at)
      SELECT md5((n % 500)::text)::uuid, 'feature_params', md5((n % 500)::text)::uuid, 'user', 'bench', 'update',
        '{"enabled": false}', '{"enabled": true}', gen_random_uuid(), $1, $2,
        now() - interval '1 hour' - (($3::bigint - n) * interval '90 days' / $3::bigint)
      FROM generate_series(1, $3::bigint) AS n`,
      [projectId, environmentId, rows],
    );
  });
}

/**
 * Adds approved, rejected and cancelled change requests of the same period, with one entity each.
 *
 * @param {pg.Client} client
 * @param {{ projectId: string, environmentId: string }} channel
 * @param {number} changes
 */
export async function loadDecidedChanges(client, { projectId, environmentId }, changes) {
  await withoutTriggers(client, async () => {
    await client.query(
      `WITH change AS (
        SELECT gen_random_uuid() AS id, md5((n % 500)::text)::uuid AS entity_id,
          (ARRAY['approved', 'rejected', 'cancelled'])[1 + n % 3] AS status,
          now() - interval '1 hour' - (($3::bigint - n) * interval '90 days' / $3::bigint) AS created_at
        FROM generate_series(1, $3::bigint) AS n
      ), inserted AS (
        INSERT INTO pending_changes
          (id, project_id, environment_id, requested_by, change, status, created_at, approved_by, approved_at, rejected_by, rejected_at)
        SELECT id, $1, $2, 'bench',
          jsonb_build_object('entities', jsonb_build_array(jsonb_build_object(
            'entity', 'feature', 'entity_id', entity_id, 'action', 'update',
            'changes', jsonb_build_object('enabled', jsonb_build_object('old', false, 'new', true))))),
          status, created_at,
          CASE status WHEN 'approved' THEN 'bench' END, CASE status WHEN 'approved' THEN created_at END,
          CASE status WHEN 'rejected' THEN 'bench' END, CASE status WHEN 'rejected' THEN created_at END
        FROM change
      )
      INSERT INTO pending_change_entities (pending_change_id, entity, entity_id, created_at)
      SELECT id, 'feature', entity_id, created_at FROM change`,
      [projectId, environmentId, changes],
    );
  });
}

/**
 * Loads without triggers: foreign keys are not checked, and the event log gets no rows.
 *
 * @param {pg.Client} client
 * @param {() => Promise<void>} load
 */
async function withoutTriggers(client, load) {
  const tables = ['audit_log', 'pending_changes', 'pending_change_entities'];
  await client.query('SET session_replication_role = replica');
  for (const table of tables) await client.query(`ALTER TABLE ${table} DISABLE TRIGGER flagcast_log`);
  await load();
  for (const table of tables) await client.query(`ALTER TABLE ${table} ENABLE ALWAYS TRIGGER flagcast_log`);
  await client.query('RESET session_replication_role');
}
