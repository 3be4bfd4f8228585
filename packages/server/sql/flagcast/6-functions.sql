-- The functions of the event log, its view, and the triggers on Flagcast's own tables. Install creates the triggers on
-- the host's tables. Every upgrade and repair drops the trigger functions with their triggers and runs this file again.
-- The view and the other functions are replaced, because DROP would lose the privileges that were granted on them.
--
-- The trigger functions run inside the host's writes and must not make them fail. Access to a column of NEW
-- fails after the host has renamed or dropped it and, in a session that compiled the function before an
-- ALTER TYPE, with datatype_mismatch. So each function reads the row inside a block that falls back to JSON. The
-- INSERT is outside of the block: a subtransaction that writes takes a transaction id of its own, and a bulk
-- insert would overflow the subtransaction cache. The functions name the host's columns only in their
-- bodies, which PostgreSQL does not track, so the host can alter and drop its columns.

-- Wakes the reader when the transaction commits. NOTIFY holds a database-wide lock until the end of the commit,
-- so only one of the writers within the same 20 ms notifies. The reader finds the commits of the other writers
-- because it reads again for a quarter of a second after each notification; otherwise its next poll finds them.
--
-- PREPARE TRANSACTION fails in a transaction that has notified. If prepared transactions are possible, the triggers
-- notify only if the setting flagcast.notify is 'on'. 'off' disables notifications everywhere.
--
-- If a session that listens never ends its transaction, the notification queue fills up and NOTIFY fails at
-- commit. So the triggers do not notify while the queue is more than half full.
--
-- flagcast.notified holds the transaction id, so a transaction takes one lock for any number of rows.
CREATE OR REPLACE FUNCTION flagcast.notify_reader(current_xid text) RETURNS void
LANGUAGE plpgsql
AS $$
BEGIN
  IF NOT (
    CASE lower(current_setting('flagcast.notify', true))
      WHEN 'on' THEN true
      WHEN 'off' THEN false
      ELSE current_setting('max_prepared_transactions') = '0'
    END
  ) THEN
    RETURN;
  END IF;
  IF pg_try_advisory_xact_lock(
    1179404104,
    (floor(date_part('epoch', clock_timestamp()) * 50)::bigint % 2147483647)::int
  ) AND pg_notification_queue_usage() < 0.5 THEN
    NOTIFY flagcast;
    PERFORM set_config('flagcast.notified', current_xid, true);
  END IF;
EXCEPTION WHEN OTHERS THEN
  RAISE LOG 'flagcast.notify_reader: %', SQLERRM;
END
$$;

-- An INSERT into audit_log is an event.
CREATE FUNCTION flagcast.log_audit() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  current_xid text := pg_current_xact_id();
  host jsonb;
  id text;
  project_id text;
  environment_id text;
  entity text;
  entity_id text;
  feature_id text;
  action text;
  actor text;
  created_at timestamptz;
BEGIN
  BEGIN
    id := NEW.id;
    project_id := NEW.project_id;
    environment_id := NEW.environment_id;
    entity := NEW.entity;
    entity_id := NEW.entity_id;
    feature_id := NEW.feature_id;
    action := NEW.action;
    actor := coalesce(nullif(NEW.username, ''), NEW.actor);
    created_at := NEW.created_at;
  EXCEPTION WHEN OTHERS THEN
    host := to_jsonb(NEW);
    id := host ->> 'id';
    project_id := host ->> 'project_id';
    environment_id := host ->> 'environment_id';
    entity := host ->> 'entity';
    entity_id := host ->> 'entity_id';
    feature_id := host ->> 'feature_id';
    action := host ->> 'action';
    actor := coalesce(nullif(host ->> 'username', ''), host ->> 'actor');
    BEGIN
      created_at := (host ->> 'created_at')::timestamptz;
    EXCEPTION WHEN OTHERS THEN
      created_at := NULL;
    END;
  END;
  INSERT INTO flagcast.event_log
    (xid, source, row_id, project_id, environment_id, entity, entity_id, action, created_at, feature_id, actor)
  VALUES (
    current_xid::bigint, 'audit', id, project_id, environment_id, entity, coalesce(entity_id, feature_id),
    CASE action WHEN 'create' THEN 'created' WHEN 'update' THEN 'updated' WHEN 'delete' THEN 'deleted' ELSE action END,
    coalesce(created_at, now()), feature_id, actor
  );
  IF current_setting('flagcast.notified', true) IS DISTINCT FROM current_xid THEN
    PERFORM flagcast.notify_reader(current_xid);
  END IF;
  RETURN NULL;
END
$$;

-- Returns the feature of an entity of a request. In this order: the entity itself if it is a feature, the feature_id in
-- the request's changes of the entity, the feature that the request lists, the feature of the entity in the audit log
-- (only if an index finds it).
CREATE OR REPLACE FUNCTION flagcast.feature_of(entity text, entity_id text, change jsonb) RETURNS text
LANGUAGE plpgsql STABLE
AS $$
DECLARE
  feature text;
BEGIN
  IF entity = 'feature' THEN
    RETURN entity_id;
  END IF;
  feature := coalesce(
    jsonb_path_query_first(
      change,
      '$.entities[*] ? (@.entity_id == $id).changes.feature_id.* ? (@ like_regex "^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$")',
      jsonb_build_object('id', entity_id),
      true
    ) #>> '{}',
    jsonb_path_query_first(change, '$.entities[*] ? (@.entity == "feature").entity_id', '{}', true) #>> '{}'
  );
  IF feature IS NULL AND EXISTS (
    SELECT FROM pg_index i
    JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
    WHERE i.indrelid = to_regclass('public.audit_log') AND a.attname = 'entity_id' AND i.indisvalid AND i.indpred IS NULL
  ) THEN
    WITH known AS MATERIALIZED (
      SELECT a.feature_id::text AS feature_id FROM public.audit_log a WHERE a.entity_id = feature_of.entity_id::uuid
    )
    SELECT known.feature_id INTO feature FROM known LIMIT 1;
  END IF;
  RETURN feature;
EXCEPTION WHEN OTHERS THEN
  RETURN NULL;
END
$$;

-- Returns the reason that a request has in its JSON; empty if it has none.
CREATE OR REPLACE FUNCTION flagcast.reason_of(request jsonb) RETURNS text
LANGUAGE plpgsql IMMUTABLE
AS $$
BEGIN
  RETURN coalesce(
    jsonb_path_query_first(request -> 'change', '$.meta.reason ? (@.type() == "string")', '{}', true) #>> '{}', ''
  );
EXCEPTION WHEN OTHERS THEN
  RETURN '';
END
$$;

-- Keeps a step of a request with its reason. A step is one row, however many entities the request has.
CREATE OR REPLACE FUNCTION flagcast.keep_step(
  current_xid text, request_id text, step text, step_at timestamptz, step_actor text, step_reason text
) RETURNS void
LANGUAGE plpgsql
AS $$
BEGIN
  INSERT INTO flagcast.request_steps AS s (pending_change_id, xid, action, created_at, actor, reason)
  SELECT request_id, current_xid::bigint, step, step_at, step_actor, step_reason
  -- An index row holds 2,700 bytes at most.
  WHERE octet_length(request_id) + octet_length(step) <= 2000
  ON CONFLICT (pending_change_id, xid, action) DO UPDATE SET reason = excluded.reason
  WHERE excluded.reason <> '' AND s.reason IS DISTINCT FROM excluded.reason;
END
$$;

-- A step of a request could not be read, e.g. because the owner of the functions lacks a right: cursors from before it
-- expire, as if its row had been deleted, so that clients take a new snapshot.
CREATE OR REPLACE FUNCTION flagcast.expire_cursors(current_xid text) RETURNS void
LANGUAGE plpgsql
AS $$
BEGIN
  UPDATE flagcast.log_state s SET deleted_xid = current_xid::bigint WHERE s.deleted_xid < current_xid::bigint;
EXCEPTION WHEN OTHERS THEN
  RAISE LOG 'flagcast.expire_cursors: %', SQLERRM;
END
$$;

-- An INSERT into pending_change_entities is a `pending` event: a change of this entity was requested.
CREATE FUNCTION flagcast.log_request() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  current_xid text := pg_current_xact_id();
  item jsonb;
  request jsonb;
  feature_id text;
  created_at timestamptz := now();
BEGIN
  BEGIN
    item := to_jsonb(NEW);
    BEGIN
      SELECT to_jsonb(c) INTO request FROM public.pending_changes c WHERE c.id = NEW.pending_change_id;
    EXCEPTION WHEN OTHERS THEN
      EXECUTE format('SELECT to_jsonb(c) FROM public.pending_changes c WHERE c.id = %L', item ->> 'pending_change_id')
      INTO request;
    END;
    feature_id := flagcast.feature_of(item ->> 'entity', item ->> 'entity_id', request -> 'change');
    created_at := coalesce((item ->> 'created_at')::timestamptz, created_at);
  EXCEPTION WHEN OTHERS THEN
    RAISE LOG 'flagcast.log_request: %', SQLERRM;
    PERFORM flagcast.expire_cursors(current_xid);
  END;
  IF request IS NULL THEN
    RETURN NULL;
  END IF;
  INSERT INTO flagcast.event_log
    (xid, source, row_id, project_id, environment_id, entity, entity_id, action, created_at, feature_id,
      pending_change_id, actor)
  VALUES (
    current_xid::bigint, 'pending', request ->> 'id', request ->> 'project_id', request ->> 'environment_id',
    item ->> 'entity', item ->> 'entity_id', 'pending', created_at, feature_id, request ->> 'id',
    request ->> 'requested_by'
  );
  PERFORM flagcast.keep_step(
    current_xid, request ->> 'id', 'pending', created_at, request ->> 'requested_by', flagcast.reason_of(request)
  );
  IF current_setting('flagcast.notified', true) IS DISTINCT FROM current_xid THEN
    PERFORM flagcast.notify_reader(current_xid);
  END IF;
  RETURN NULL;
END
$$;

-- An UPDATE or DELETE of a pending_changes row is an event for each entity of the request: its new status
-- (approved, rejected, cancelled, or pending if it was reopened), `updated` if the content of an open request changed,
-- `cancelled` if an open request was deleted. An open request that was moved to another environment or project is an
-- event in both: `updated`, or its new status. The time is the database's: hosts take the time of a decision from the
-- clock of another machine, and do not record the time of a cancellation. Nor do they record who cancelled a request:
-- Flagcast's API sets flagcast.actor in its transaction.
CREATE FUNCTION flagcast.log_decision() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  current_xid text;
  before jsonb;
  request jsonb;
  step text;
  step_at timestamptz := clock_timestamp();
  step_actor text;
  reason text;
  entities jsonb;
  is_moved boolean := false;
  place jsonb;
BEGIN
  BEGIN
    before := to_jsonb(OLD);
    request := CASE WHEN TG_OP = 'DELETE' THEN before ELSE to_jsonb(NEW) END;
    is_moved := before ->> 'status' = 'pending'
      AND (request -> 'project_id' IS DISTINCT FROM before -> 'project_id'
        OR request -> 'environment_id' IS DISTINCT FROM before -> 'environment_id');
    step := CASE
      WHEN TG_OP = 'DELETE' THEN CASE WHEN before ->> 'status' = 'pending' THEN 'cancelled' END
      WHEN request -> 'status' IS DISTINCT FROM before -> 'status' THEN request ->> 'status'
      WHEN request ->> 'status' = 'pending'
        AND (is_moved OR request -> 'change' IS DISTINCT FROM before -> 'change'
          OR request -> 'requested_by' IS DISTINCT FROM before -> 'requested_by') THEN 'updated'
    END;
    step_actor := CASE step WHEN 'approved' THEN request ->> 'approved_by' WHEN 'rejected' THEN request ->> 'rejected_by'
      ELSE nullif(current_setting('flagcast.actor', true), '') END;
    -- That of the request belongs to the step that has written it.
    reason := CASE
      WHEN step = 'rejected' THEN coalesce(request ->> 'rejection_reason', '')
      WHEN step IN ('pending', 'updated') AND flagcast.reason_of(request) <> flagcast.reason_of(before)
        THEN flagcast.reason_of(request)
      ELSE ''
    END;
  EXCEPTION WHEN OTHERS THEN
    RAISE LOG 'flagcast.log_decision: %', SQLERRM;
  END;
  IF step IS NULL THEN
    RETURN NULL;
  END IF;
  BEGIN
    SELECT jsonb_agg(jsonb_build_object('entity', p.entity, 'entity_id', p.entity_id) ORDER BY p.entity, p.entity_id)
    INTO entities
    FROM public.pending_change_entities p
    WHERE p.pending_change_id = OLD.id;
  EXCEPTION WHEN OTHERS THEN
    BEGIN
      EXECUTE format(
        'SELECT jsonb_agg(to_jsonb(p)) FROM public.pending_change_entities p WHERE p.pending_change_id = %L',
        before ->> 'id'
      ) INTO entities;
    EXCEPTION WHEN OTHERS THEN
      RAISE LOG 'flagcast.log_decision: %', SQLERRM;
    END;
  END;
  -- A cascade deletes the entities before this trigger fires. The request also lists them.
  entities := coalesce(entities, request #> '{change,entities}');
  IF jsonb_typeof(entities) IS DISTINCT FROM 'array' THEN
    RETURN NULL;
  END IF;
  current_xid := pg_current_xact_id();
  -- The place that the request has left comes first: the feed of both then ends with the request.
  FOREACH place IN ARRAY CASE WHEN is_moved THEN ARRAY[before, request] ELSE ARRAY[request] END LOOP
    INSERT INTO flagcast.event_log
      (xid, source, row_id, project_id, environment_id, entity, entity_id, action, created_at, feature_id,
        pending_change_id, actor)
    SELECT
      current_xid::bigint, 'pending', request ->> 'id', place ->> 'project_id', place ->> 'environment_id',
      item ->> 'entity', item ->> 'entity_id', step, step_at,
      flagcast.feature_of(item ->> 'entity', item ->> 'entity_id', request -> 'change'), request ->> 'id', step_actor
    FROM jsonb_array_elements(entities) AS item;
  END LOOP;
  PERFORM flagcast.keep_step(current_xid, request ->> 'id', step, step_at, step_actor, reason);
  IF current_setting('flagcast.notified', true) IS DISTINCT FROM current_xid THEN
    PERFORM flagcast.notify_reader(current_xid);
  END IF;
  RETURN NULL;
END
$$;

-- Logs a control entry for a renamed or deleted environment and an archived or deleted project. Servers then rename
-- or end the channels. A restored project is a change of permissions: it ends no channel, but users may view it again.
CREATE FUNCTION flagcast.log_channel() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  current_xid text;
  before jsonb;
  after jsonb;
  is_environment boolean;
  change text;
BEGIN
  BEGIN
    before := to_jsonb(OLD);
    after := CASE WHEN TG_OP = 'UPDATE' THEN to_jsonb(NEW) END;
    is_environment := before ? 'project_id';
    change := CASE
      WHEN after IS NULL THEN 'deleted'
      WHEN is_environment AND after -> 'project_id' IS DISTINCT FROM before -> 'project_id' THEN 'deleted'
      WHEN is_environment AND after -> 'key' IS DISTINCT FROM before -> 'key' THEN 'renamed'
      WHEN is_environment THEN NULL
      WHEN before ->> 'archived_at' IS NULL AND after ->> 'archived_at' IS NOT NULL THEN 'archived'
      WHEN before ->> 'archived_at' IS NOT NULL AND after ->> 'archived_at' IS NULL THEN 'restored'
    END;
  EXCEPTION WHEN OTHERS THEN
    RAISE LOG 'flagcast.log_channel: %', SQLERRM;
  END;
  IF change IS NULL THEN
    RETURN NULL;
  END IF;
  current_xid := pg_current_xact_id();
  IF change = 'restored' THEN
    INSERT INTO flagcast.event_log (xid, source, entity, action, created_at)
    VALUES (current_xid::bigint, 'control', 'rights', 'updated', now());
  ELSE
    INSERT INTO flagcast.event_log
      (xid, source, row_id, project_id, environment_id, environment_key, entity, entity_id, action, created_at)
    VALUES (
      current_xid::bigint, 'control', before ->> 'id',
      CASE WHEN is_environment THEN before ->> 'project_id' ELSE before ->> 'id' END,
      CASE WHEN is_environment THEN before ->> 'id' END,
      coalesce(after, before) ->> 'key',
      CASE WHEN is_environment THEN 'environment' ELSE 'project' END, before ->> 'id', change, now()
    );
  END IF;
  IF current_setting('flagcast.notified', true) IS DISTINCT FROM current_xid THEN
    PERFORM flagcast.notify_reader(current_xid);
  END IF;
  RETURN NULL;
END
$$;

-- Logs one control entry for each transaction that changes permissions. Servers then recheck the permissions of all
-- connections. Only two columns of a user decide about access; hosts update users at every sign-in.
CREATE FUNCTION flagcast.log_rights() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  current_xid text;
  before jsonb;
  after jsonb;
BEGIN
  IF TG_TABLE_NAME = 'users' AND TG_OP = 'UPDATE' THEN
    BEGIN
      before := to_jsonb(OLD);
      after := to_jsonb(NEW);
    EXCEPTION WHEN OTHERS THEN
      RAISE LOG 'flagcast.log_rights: %', SQLERRM;
    END;
    IF after -> 'is_active' IS NOT DISTINCT FROM before -> 'is_active'
      AND after -> 'is_superuser' IS NOT DISTINCT FROM before -> 'is_superuser' THEN
      RETURN NULL;
    END IF;
  END IF;
  current_xid := pg_current_xact_id();
  IF current_setting('flagcast.rights_logged', true) = current_xid THEN
    RETURN NULL;
  END IF;
  INSERT INTO flagcast.event_log (xid, source, entity, action, created_at)
  VALUES (current_xid::bigint, 'control', 'rights', 'updated', now());
  PERFORM set_config('flagcast.rights_logged', current_xid, true);
  IF current_setting('flagcast.notified', true) IS DISTINCT FROM current_xid THEN
    PERFORM flagcast.notify_reader(current_xid);
  END IF;
  RETURN NULL;
END
$$;

-- Logs an event of a host with other tables. The host calls it in the transaction of the change, e.g. from a trigger.
-- The guarantee is the same as with Togglr's tables. Needs USAGE on schema flagcast and EXECUTE on this function.
--
-- source is 'audit' or 'pending'. row_id is the id of the host's row. project_id, environment_id and
-- environment_key name the channel. created_at is the timestamp of the event.
CREATE OR REPLACE FUNCTION flagcast.record_event(
  source text,
  row_id text,
  project_id text,
  environment_id text,
  environment_key text,
  entity text,
  entity_id text,
  action text,
  created_at timestamptz DEFAULT now(),
  feature_id text DEFAULT NULL,
  pending_change_id text DEFAULT NULL,
  actor text DEFAULT NULL
) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  current_xid text := pg_current_xact_id();
BEGIN
  IF source IS NULL OR source NOT IN ('audit', 'pending') THEN
    RAISE EXCEPTION 'flagcast.record_event: source is %, give ''audit'' or ''pending''', quote_nullable(source);
  END IF;
  IF coalesce(project_id, '') = '' OR coalesce(environment_id, '') = '' OR coalesce(environment_key, '') = '' THEN
    RAISE EXCEPTION 'flagcast.record_event: project_id, environment_id and environment_key name the channel, give all three';
  END IF;
  -- An index row holds 2,700 bytes at most.
  IF octet_length(environment_id) > 1000 THEN
    RAISE EXCEPTION 'flagcast.record_event: environment_id has % bytes, 1000 are allowed', octet_length(environment_id);
  END IF;
  PERFORM set_config('flagcast.writes_log', 'on', true);
  INSERT INTO flagcast.event_log
    (xid, source, row_id, project_id, environment_id, environment_key, entity, entity_id, action, created_at,
      feature_id, pending_change_id, actor)
  VALUES (
    current_xid::bigint, source, row_id, project_id, environment_id, environment_key, entity, entity_id, action,
    coalesce(created_at, now()),
    coalesce(feature_id, CASE WHEN entity = 'feature' THEN entity_id END),
    coalesce(pending_change_id, CASE WHEN source = 'pending' THEN row_id END),
    actor
  );
  PERFORM set_config('flagcast.writes_log', 'off', true);
  IF current_setting('flagcast.notified', true) IS DISTINCT FROM current_xid THEN
    PERFORM flagcast.notify_reader(current_xid);
  END IF;
END
$$;
REVOKE ALL ON FUNCTION flagcast.record_event FROM PUBLIC;

-- Returns the key of an environment of Togglr's tables, or null. PostgreSQL refuses to alter columns that a view reads,
-- so the view calls this function. SECURITY DEFINER, so that a role with SELECT on the view needs no other privilege.
CREATE OR REPLACE FUNCTION flagcast.environment_key(environment_id text) RETURNS text
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  key text;
BEGIN
  SELECT e.key INTO key FROM public.environments e WHERE e.id = environment_key.environment_id::bigint;
  RETURN key;
EXCEPTION WHEN OTHERS THEN
  RETURN NULL;
END
$$;

GRANT EXECUTE ON FUNCTION flagcast.environment_key TO PUBLIC;

-- The nine columns of the specification, then Flagcast's. event_id is unique.
CREATE OR REPLACE VIEW flagcast.v_realtime_events AS
SELECT
  l.source,
  l.seq::text AS event_id,
  l.project_id,
  l.environment_id,
  coalesce(l.environment_key, flagcast.environment_key(l.environment_id)) AS environment_key,
  l.entity,
  l.entity_id,
  l.action,
  l.created_at,
  l.xid,
  l.row_id,
  l.feature_id,
  l.pending_change_id,
  l.actor
FROM flagcast.event_log l
WHERE l.source <> 'control';

-- Records the highest transaction id of the deleted rows: older cursors are expired. The triggers also fire for a
-- manual DELETE or TRUNCATE; otherwise clients with older cursors would miss events without an error.
CREATE FUNCTION flagcast.record_deletion() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  IF TG_OP = 'TRUNCATE' THEN
    UPDATE flagcast.log_state s SET deleted_xid = greatest(s.deleted_xid, pg_current_xact_id()::text::bigint);
  ELSE
    UPDATE flagcast.log_state s SET deleted_xid = greatest(s.deleted_xid, newest.xid)
    FROM (SELECT max(gone.xid) AS xid FROM gone) AS newest
    WHERE newest.xid > s.deleted_xid;
  END IF;
  RETURN NULL;
END
$$;

-- Deletes at most `batch_rows` rows, the oldest first, that are older than `keep`, and keeps the steps of requests. Rows
-- that a clock far ahead has dated would otherwise stay until then, and newer ones behind them.
-- Returns their number, or null while another server deletes rows.
CREATE OR REPLACE FUNCTION flagcast.prune_event_log(keep interval, batch_rows int DEFAULT 5000) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  deleted bigint;
BEGIN
  IF NOT pg_try_advisory_xact_lock(1179404103, 2) THEN
    RETURN NULL;
  END IF;
  PERFORM set_config('flagcast.writes_log', 'on', true);
  WITH oldest AS MATERIALIZED (
    SELECT l.xid, l.seq, l.logged_at FROM flagcast.event_log l ORDER BY l.xid, l.seq LIMIT batch_rows
  ), gone AS (
    DELETE FROM flagcast.event_log l USING oldest o
    WHERE l.xid = o.xid AND l.seq = o.seq AND o.logged_at NOT BETWEEN now() - keep AND now() + keep
    RETURNING l.*
  ), kept AS (
    INSERT INTO flagcast.request_steps (pending_change_id, xid, action, created_at, actor)
    SELECT g.pending_change_id, g.xid, g.action, min(g.created_at), min(g.actor)
    FROM gone g
    WHERE g.source = 'pending' AND g.pending_change_id IS NOT NULL AND g.action IS NOT NULL
    GROUP BY g.pending_change_id, g.xid, g.action
    ON CONFLICT DO NOTHING
  )
  SELECT count(*) INTO deleted FROM gone;
  UPDATE flagcast.log_state SET pruned_at = now();
  PERFORM set_config('flagcast.writes_log', 'off', true);
  RETURN deleted;
END
$$;
REVOKE ALL ON FUNCTION flagcast.prune_event_log FROM PUBLIC;

-- Starts a new log if the rows were written in another cluster (restored dump, pg_upgrade, subscriber of logical
-- replication), whose transaction ids are not valid here, and keeps the steps of requests. Rows that are not committed yet were written in this cluster
-- and stay. Returns whether it started a new log. If log_state has no row (a copy of the schema without data),
-- host_triggers is derived from the existing triggers.
CREATE OR REPLACE FUNCTION flagcast.adopt_event_log() RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  cluster text;
BEGIN
  PERFORM pg_advisory_xact_lock(1179404103, 3);
  SELECT c.system_identifier::text INTO cluster FROM pg_control_system() c;
  IF EXISTS (SELECT FROM flagcast.log_state s WHERE s.system_identifier = cluster) THEN
    RETURN false;
  END IF;
  PERFORM set_config('flagcast.writes_log', 'on', true);
  INSERT INTO flagcast.request_steps (pending_change_id, xid, action, created_at, actor)
  SELECT l.pending_change_id, l.xid, l.action, min(l.created_at), min(l.actor)
  FROM flagcast.event_log l
  WHERE l.source = 'pending' AND l.pending_change_id IS NOT NULL AND l.action IS NOT NULL
  GROUP BY l.pending_change_id, l.xid, l.action
  ON CONFLICT DO NOTHING;
  DELETE FROM flagcast.event_log;
  INSERT INTO flagcast.log_state AS s (system_identifier, host_triggers)
  SELECT cluster, EXISTS (SELECT FROM pg_trigger t WHERE t.tgname = 'flagcast_log')
  ON CONFLICT (singleton) DO UPDATE SET system_identifier = excluded.system_identifier, deleted_xid = 0;
  PERFORM set_config('flagcast.writes_log', 'off', true);
  RETURN true;
END
$$;
REVOKE ALL ON FUNCTION flagcast.adopt_event_log FROM PUBLIC;
SELECT flagcast.adopt_event_log();

-- The steps that earlier builds have logged.
INSERT INTO flagcast.request_steps (pending_change_id, xid, action, created_at, actor)
SELECT l.pending_change_id, l.xid, l.action, min(l.created_at), min(l.actor)
FROM flagcast.event_log l
WHERE l.source = 'pending' AND l.pending_change_id IS NOT NULL AND l.action IS NOT NULL
GROUP BY l.pending_change_id, l.xid, l.action
ON CONFLICT DO NOTHING;

-- A publication FOR ALL TABLES copies the log to the subscriber, where the publisher's transaction ids are not valid
-- and the triggers on the host's tables write the log. So on tables that describe one database or cluster, a trigger
-- drops the rows that replication itself writes (trigger depth 1). It must not affect the functions of the log, which a
-- session with session_replication_role = replica may call (flagcast.writes_log is on meanwhile), nor, after
-- ALTER TABLE ... ENABLE TRIGGER ALL, other sessions.
CREATE FUNCTION flagcast.skip_replicated() RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  IF pg_trigger_depth() = 1 AND current_setting('session_replication_role') = 'replica'
    AND current_setting('flagcast.writes_log', true) IS DISTINCT FROM 'on' THEN
    RETURN NULL;
  END IF;
  RETURN coalesce(NEW, OLD);
END
$$;

CREATE TRIGGER flagcast_skip_replicated BEFORE INSERT OR UPDATE OR DELETE ON flagcast.event_log
  FOR EACH ROW EXECUTE FUNCTION flagcast.skip_replicated();
CREATE TRIGGER flagcast_skip_replicated BEFORE INSERT OR UPDATE OR DELETE ON flagcast.log_state
  FOR EACH ROW EXECUTE FUNCTION flagcast.skip_replicated();
CREATE TRIGGER flagcast_skip_replicated BEFORE INSERT OR UPDATE OR DELETE ON flagcast.granted_roles
  FOR EACH ROW EXECUTE FUNCTION flagcast.skip_replicated();
CREATE TRIGGER flagcast_skip_replicated BEFORE INSERT OR UPDATE OR DELETE ON flagcast.schema_version
  FOR EACH ROW EXECUTE FUNCTION flagcast.skip_replicated();
CREATE TRIGGER flagcast_skip_replicated BEFORE INSERT OR UPDATE OR DELETE ON flagcast.request_steps
  FOR EACH ROW EXECUTE FUNCTION flagcast.skip_replicated();
ALTER TABLE flagcast.event_log ENABLE REPLICA TRIGGER flagcast_skip_replicated;
ALTER TABLE flagcast.request_steps ENABLE REPLICA TRIGGER flagcast_skip_replicated;
ALTER TABLE flagcast.log_state ENABLE REPLICA TRIGGER flagcast_skip_replicated;
ALTER TABLE flagcast.granted_roles ENABLE REPLICA TRIGGER flagcast_skip_replicated;
ALTER TABLE flagcast.schema_version ENABLE REPLICA TRIGGER flagcast_skip_replicated;

CREATE TRIGGER flagcast_record_delete AFTER DELETE ON flagcast.event_log
  REFERENCING OLD TABLE AS gone FOR EACH STATEMENT EXECUTE FUNCTION flagcast.record_deletion();
CREATE TRIGGER flagcast_record_truncate AFTER TRUNCATE ON flagcast.event_log
  FOR EACH STATEMENT EXECUTE FUNCTION flagcast.record_deletion();
-- Also for rows that a session with session_replication_role = replica deletes, and for a TRUNCATE of replication.
ALTER TABLE flagcast.event_log ENABLE ALWAYS TRIGGER flagcast_record_delete;
ALTER TABLE flagcast.event_log ENABLE ALWAYS TRIGGER flagcast_record_truncate;
