-- What flagcast install --role reader of version 0.1 ran, without the tables of --tables: printed by its --dry-run.
-- section: schema
CREATE SCHEMA flagcast;
-- section: flagcast
CREATE TABLE flagcast.schema_version (version bigint PRIMARY KEY, name text, md5 text, run_at timestamptz);
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

INSERT INTO flagcast.schema_version (version, name, md5, run_at) VALUES (1, 'view', 'e3d8d502d3940f216eaed86853d567e6', now());
-- The wake: a hint without content that there may be something new. The reader polls anyway, so
-- nothing depends on it but the delay. It must never be what makes a host's write fail:
--
-- * PREPARE TRANSACTION is refused in a transaction that has executed NOTIFY. Whether a
--   transaction will be prepared cannot be known while it writes, so where prepared transactions
--   are possible at all (max_prepared_transactions > 0) nothing is notified unless somebody who
--   knows the writers says that they do not prepare theirs. The setting flagcast.notify decides:
--     'on'   notify
--     'off'  never notify
--     unset  notify only if max_prepared_transactions = 0
--   For all sessions (superuser): ALTER DATABASE name SET flagcast.notify = 'on';
--   for one's own session: SET flagcast.notify = 'on';
-- * Where a session keeps listening inside a transaction that never ends, the server's queue fills
--   up and every NOTIFY fails, at commit, where no handler can catch it. Past half of the queue we
--   fall silent.
-- * The handler catches whatever else there may be, such as a privilege on a built-in function that
--   somebody revoked; NOTIFY itself needs none.
--
-- One statement is one wake, however many rows it wrote; PostgreSQL folds the equal wakes of
-- one transaction into one.
CREATE FUNCTION flagcast.wake() RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  IF (
    CASE lower(current_setting('flagcast.notify', true))
      WHEN 'on' THEN true
      WHEN 'off' THEN false
      ELSE current_setting('max_prepared_transactions') = '0'
    END
  ) AND pg_notification_queue_usage() < 0.5 THEN
    NOTIFY flagcast;
  END IF;
  RETURN NULL;
EXCEPTION WHEN OTHERS THEN
  RAISE LOG 'flagcast.wake: %', SQLERRM;
  RETURN NULL;
END
$$;

CREATE TRIGGER flagcast_wake AFTER INSERT ON public.audit_log
  FOR EACH STATEMENT EXECUTE FUNCTION flagcast.wake();

CREATE TRIGGER flagcast_wake AFTER INSERT OR UPDATE ON public.pending_changes
  FOR EACH STATEMENT EXECUTE FUNCTION flagcast.wake();

CREATE TRIGGER flagcast_wake AFTER INSERT ON public.pending_change_entities
  FOR EACH STATEMENT EXECUTE FUNCTION flagcast.wake();

INSERT INTO flagcast.schema_version (version, name, md5, run_at) VALUES (2, 'wake', '30aa077687a05c1080c07e2415360992', now());
-- Environments in which nobody changes a flag alone: there a change waits until somebody else has
-- approved it. Only Flagcast's own API asks this table; what a host writes past it is its own affair.
--
-- No foreign key: it would need the right REFERENCES on the host's table, and put triggers on it. A
-- row whose environment is gone guards nothing.
--
-- IF NOT EXISTS because a repair of the view and the triggers runs all of this folder again, and
-- must not take the guards away.
CREATE TABLE IF NOT EXISTS flagcast.guarded_environments (
  environment_id bigint PRIMARY KEY,
  guarded_by varchar(255) NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now()
);

-- Whoever may use the schema may know what is guarded: the server's role need not be the installer's.
GRANT SELECT ON flagcast.guarded_environments TO PUBLIC;

INSERT INTO flagcast.schema_version (version, name, md5, run_at) VALUES (3, 'guards', '8643e78a32cf3a2165f91574a58a2e41', now());
-- The roles that install --role gave rights to, and which, so that uninstall takes back exactly those:
-- a right that a role had before, or was given by somebody else, is not ours to take.
--
-- grants holds the names of install-role.ts, never SQL: what is run is made from the names that it knows.
--
-- IF NOT EXISTS because a repair of the view and the triggers runs all of this folder again.
CREATE TABLE IF NOT EXISTS flagcast.granted_roles (
  role_name name PRIMARY KEY,
  made boolean NOT NULL,
  grants text[] NOT NULL
);

INSERT INTO flagcast.schema_version (version, name, md5, run_at) VALUES (4, 'roles', 'b21675a994dad49ecaac30df4aed3a6f', now());
-- section: public
CREATE TABLE flagcast.public_version (version bigint PRIMARY KEY, name text, md5 text, run_at timestamptz);
-- The events under the specification's name, with its nine columns, for whoever reads by created_at.
-- A decision whose time is not recorded (a cancellation) carries the time of the read in Flagcast's
-- own view, where xid tells that it is old; here it would come again at every read, so it is left out.
CREATE VIEW public.v_realtime_events AS
SELECT
  source,
  event_id,
  project_id,
  environment_id,
  environment_key,
  entity,
  entity_id,
  action,
  created_at
FROM flagcast.v_realtime_events
WHERE source = 'audit' OR action = 'pending' OR created_at <> statement_timestamp();

INSERT INTO flagcast.public_version (version, name, md5, run_at) VALUES (1, 'view', '7c73e4897c5540f03f48d9293896b24c', now());
-- section: role
CREATE ROLE $reader LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS;
GRANT USAGE ON SCHEMA flagcast TO $reader;
GRANT SELECT ON TABLE flagcast.v_realtime_events TO $reader;
GRANT SELECT ON TABLE flagcast.schema_version TO $reader;
GRANT SELECT ON TABLE public.projects TO $reader;
GRANT SELECT ON TABLE public.environments TO $reader;
GRANT SELECT ON TABLE public.features TO $reader;
GRANT SELECT ON TABLE public.feature_params TO $reader;
GRANT SELECT ON TABLE public.pending_changes TO $reader;
GRANT SELECT ON TABLE public.audit_log TO $reader;
GRANT SELECT ON TABLE public.memberships TO $reader;
GRANT SELECT ON TABLE public.role_permissions TO $reader;
GRANT SELECT ON TABLE public.permissions TO $reader;
GRANT SELECT (id, username, is_active, is_superuser, password_hash) ON TABLE public.users TO $reader;
GRANT SELECT ON TABLE public.rules TO $reader;
GRANT SELECT ON TABLE public.feature_schedules TO $reader;
GRANT pg_read_all_stats TO $reader;
INSERT INTO flagcast.granted_roles (role_name, made, grants)
VALUES ('$reader', true, ARRAY['columns public.users', 'role pg_read_all_stats', 'schema flagcast', 'table flagcast.schema_version', 'table flagcast.v_realtime_events', 'table public.audit_log', 'table public.environments', 'table public.feature_params', 'table public.feature_schedules', 'table public.features', 'table public.memberships', 'table public.pending_changes', 'table public.permissions', 'table public.projects', 'table public.role_permissions', 'table public.rules'])
ON CONFLICT (role_name) DO UPDATE SET made = excluded.made, grants = excluded.grants;
