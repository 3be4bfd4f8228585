-- The tables of Flagcast in an attached database. Every upgrade and repair runs this file again, so each statement is
-- idempotent: to add a column, add ALTER TABLE ... ADD COLUMN IF NOT EXISTS. Versions 1 to 4 belong to Flagcast 0.1,
-- whose views are dropped before this file runs.

-- Which version of these files was installed.
CREATE TABLE IF NOT EXISTS flagcast.schema_version (
  version bigint PRIMARY KEY,
  name text,
  md5 text,
  run_at timestamptz
);

-- The event log. Triggers insert one row for each event, in the transaction of the host's own write.
--
-- xid is the id of the top-level transaction, also for rows written under a savepoint, because a snapshot shows
-- either all rows of a transaction or none. seq is the id of the event: a sequence never returns a number twice,
-- whatever happens to the host's tables.
--
-- Ids are text, because hosts with other tables log through flagcast.record_event. Columns are nullable,
-- because a constraint here must not make a host's write fail.
--
-- The reader reads by the primary key. Reconnecting clients read the events of one channel since their cursor
-- by the second index, and the steps of requests in all channels by the third.
CREATE TABLE IF NOT EXISTS flagcast.event_log (
  seq bigint GENERATED ALWAYS AS IDENTITY,
  xid bigint NOT NULL DEFAULT pg_current_xact_id()::text::bigint,
  logged_at timestamptz NOT NULL DEFAULT now(),
  -- audit or pending; control for a change of channels or rights, which is not an event.
  source text,
  -- The id of the host's row: audit_log.id or pending_changes.id.
  row_id text,
  project_id text,
  environment_id text,
  -- Null for Togglr's tables: the reader looks the key up in public.environments, because it can change.
  environment_key text,
  entity text,
  entity_id text,
  action text,
  created_at timestamptz,
  feature_id text,
  pending_change_id text,
  actor text,
  PRIMARY KEY (xid, seq)
);
CREATE INDEX IF NOT EXISTS event_log_environment_id_xid_idx ON flagcast.event_log (environment_id, xid);
CREATE INDEX IF NOT EXISTS event_log_pending_xid_seq_idx ON flagcast.event_log (xid, seq) WHERE source = 'pending';
CREATE INDEX IF NOT EXISTS event_log_pending_change_id_idx ON flagcast.event_log (pending_change_id)
  WHERE source = 'pending';

-- The steps of requests, which retention does not delete: the host's tables record neither cancellations nor earlier
-- decisions of a request that was reopened, and a later decision overwrites the reason of an earlier one. One row for
-- each step, without its entities. The triggers write it with the rows of the event log; steps of
-- flagcast.record_event are copied before retention deletes their rows.
CREATE TABLE IF NOT EXISTS flagcast.request_steps (
  pending_change_id text NOT NULL,
  xid bigint NOT NULL,
  action text NOT NULL,
  created_at timestamptz,
  actor text,
  PRIMARY KEY (pending_change_id, xid, action)
);
-- The reason that was given for the step; empty if none was given, null for steps that were logged by a build without
-- this column or by flagcast.record_event.
ALTER TABLE flagcast.request_steps ADD COLUMN IF NOT EXISTS reason text;

-- One row. Transaction ids are valid in one cluster only: system_identifier names the cluster that wrote the log.
-- deleted_xid is the highest transaction id of the rows that retention has deleted. host_triggers is false after
-- install --log-only: then only flagcast.record_event writes the log.
CREATE TABLE IF NOT EXISTS flagcast.log_state (
  singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton),
  system_identifier text NOT NULL,
  deleted_xid bigint NOT NULL DEFAULT 0,
  host_triggers boolean NOT NULL DEFAULT true,
  pruned_at timestamptz
);

-- Environments in which a change of a flag needs the approval of a second user. Flagcast's API enforces it;
-- the host's own writes are not restricted.
--
-- A foreign key would need the privilege REFERENCES on the host's table and add triggers to it. A row without its
-- environment has no effect.
CREATE TABLE IF NOT EXISTS flagcast.guarded_environments (
  environment_id bigint PRIMARY KEY,
  guarded_by varchar(255) NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now()
);
GRANT SELECT ON flagcast.guarded_environments TO PUBLIC;

-- The privileges that install --role granted. Uninstall revokes exactly these.
CREATE TABLE IF NOT EXISTS flagcast.granted_roles (
  role_name name PRIMARY KEY,
  made boolean NOT NULL,
  grants text[] NOT NULL
);
