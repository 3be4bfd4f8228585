-- The single definition of an event: one audit row is one event, and every step of a
-- pending change is one event for each entity that it touches.
--
-- xid is the row's xmin widened to 64 bits. xmin keeps the low 32 bits of the writing
-- (sub)transaction's id; every row that another session wrote and that is visible was written
-- below the snapshot's xmax, which is known in 64 bits, so the row's id is that number less the
-- distance between the two, modulo 2^32. A transaction that reads its own rows may have been given
-- later ids, those of its savepoints; it counts from its own id and a million more.
-- A frozen row keeps its xmin and may be further back than 2^32; it then looks younger than it
-- is, which created_at rules out for whoever reads by both.
--
-- The feature of a rule or a schedule is named by the change itself where it creates or deletes
-- it, else by the entity's audit rows. Whatever the jsonb holds, reading it raises no error: the
-- path is evaluated silently, and only what has the form of a uuid gets as far as the cast.
-- The audit rows are looked up in a materialized subquery because a plain LIMIT 1 lets the planner
-- read the table from its start in the hope of an early hit, and a new rule has none.
--
-- The scalar sub-selects on the snapshot are evaluated once a statement, not once a row.
CREATE VIEW flagcast.v_realtime_events AS
SELECT
  'audit'::text AS source,
  a.id::text AS event_id,
  a.project_id,
  a.environment_id,
  e.key::text AS environment_key,
  a.entity::text AS entity,
  coalesce(a.entity_id, a.feature_id) AS entity_id,
  CASE a.action
    WHEN 'create' THEN 'created'
    WHEN 'update' THEN 'updated'
    WHEN 'delete' THEN 'deleted'
    ELSE a.action::text
  END AS action,
  a.created_at,
  (SELECT greatest(pg_snapshot_xmax(pg_current_snapshot())::text::bigint, pg_current_xact_id_if_assigned()::text::bigint + 1048576))
    - (((SELECT greatest(pg_snapshot_xmax(pg_current_snapshot())::text::bigint, pg_current_xact_id_if_assigned()::text::bigint + 1048576))
        - a.xmin::text::bigint) & 4294967295) AS xid,
  a.feature_id,
  NULL::uuid AS pending_change_id,
  coalesce(nullif(a.username, ''), a.actor)::text AS actor
FROM public.audit_log a
LEFT JOIN public.environments e ON e.id = a.environment_id

UNION ALL

-- The request itself. Its xid is that of the entity's row, which nothing rewrites later,
-- while a decision rewrites the change's row.
SELECT
  'pending',
  c.id::text,
  c.project_id,
  c.environment_id,
  e.key::text,
  p.entity::text,
  p.entity_id,
  'pending',
  p.created_at,
  (SELECT greatest(pg_snapshot_xmax(pg_current_snapshot())::text::bigint, pg_current_xact_id_if_assigned()::text::bigint + 1048576))
    - (((SELECT greatest(pg_snapshot_xmax(pg_current_snapshot())::text::bigint, pg_current_xact_id_if_assigned()::text::bigint + 1048576))
        - p.xmin::text::bigint) & 4294967295),
  CASE
    WHEN p.entity = 'feature' THEN p.entity_id
    ELSE coalesce(
      (
        jsonb_path_query_first(
          c.change,
          '$.entities[*] ? (@.entity_id == $id).changes.feature_id.* ? (@ like_regex "^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$")',
          jsonb_build_object('id', p.entity_id),
          true
        ) #>> '{}'
      )::uuid,
      (
        WITH known AS MATERIALIZED (SELECT a.feature_id FROM public.audit_log a WHERE a.entity_id = p.entity_id)
        SELECT known.feature_id FROM known LIMIT 1
      )
    )
  END,
  c.id,
  c.requested_by::text
FROM public.pending_change_entities p
JOIN public.pending_changes c ON c.id = p.pending_change_id
LEFT JOIN public.environments e ON e.id = c.environment_id

UNION ALL

-- The decision: approved, rejected or cancelled. Where the table keeps no time for it
-- (a cancellation), the time of the read.
SELECT
  'pending',
  c.id::text,
  c.project_id,
  c.environment_id,
  e.key::text,
  p.entity::text,
  p.entity_id,
  c.status::text,
  -- Never before the request: a transaction that began first may decide on what another one has
  -- asked for meanwhile.
  greatest(
    CASE c.status
      WHEN 'approved' THEN coalesce(c.approved_at, statement_timestamp())
      WHEN 'rejected' THEN coalesce(c.rejected_at, statement_timestamp())
      ELSE statement_timestamp()
    END,
    p.created_at
  ),
  (SELECT greatest(pg_snapshot_xmax(pg_current_snapshot())::text::bigint, pg_current_xact_id_if_assigned()::text::bigint + 1048576))
    - (((SELECT greatest(pg_snapshot_xmax(pg_current_snapshot())::text::bigint, pg_current_xact_id_if_assigned()::text::bigint + 1048576))
        - c.xmin::text::bigint) & 4294967295),
  CASE
    WHEN p.entity = 'feature' THEN p.entity_id
    ELSE coalesce(
      (
        jsonb_path_query_first(
          c.change,
          '$.entities[*] ? (@.entity_id == $id).changes.feature_id.* ? (@ like_regex "^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$")',
          jsonb_build_object('id', p.entity_id),
          true
        ) #>> '{}'
      )::uuid,
      (
        WITH known AS MATERIALIZED (SELECT a.feature_id FROM public.audit_log a WHERE a.entity_id = p.entity_id)
        SELECT known.feature_id FROM known LIMIT 1
      )
    )
  END,
  c.id,
  CASE c.status WHEN 'approved' THEN c.approved_by WHEN 'rejected' THEN c.rejected_by END::text
FROM public.pending_changes c
JOIN public.pending_change_entities p ON p.pending_change_id = c.id
LEFT JOIN public.environments e ON e.id = c.environment_id
WHERE c.status <> 'pending';
