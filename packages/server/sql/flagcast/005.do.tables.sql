-- What Flagcast stores in an attached database. Versions 1 to 4 belong to Flagcast 0.1, whose view and
-- triggers are dropped before this file runs.
--
-- IF NOT EXISTS: an upgrade from 0.1 keeps the last two tables.

-- The event log: one row for each event, inserted by triggers in the transaction of the host's own write.
--
-- xid is the id of the top-level transaction, also for rows written under a savepoint: a snapshot decides for
-- all rows of a transaction at once. seq numbers the rows and is the id of the event: a sequence does not hand
-- out a number twice, whatever happens to the host's tables.
--
-- Ids are text, because hosts with other tables log through flagcast.record_event. Columns are nullable,
-- because a constraint here must never make a host's write fail.
--
-- The primary key serves the reader, which reads by transaction. The second index serves clients that
-- come back: the events of one channel since a cursor.
CREATE TABLE IF NOT EXISTS flagcast.event_log (
  seq bigint GENERATED ALWAYS AS IDENTITY,
  xid bigint NOT NULL DEFAULT pg_current_xact_id()::text::bigint,
  logged_at timestamptz NOT NULL DEFAULT now(),
  -- audit, pending, or control: a change of channels or rights, which is no event.
  source text,
  -- The id of the host's row: audit_log.id or pending_changes.id.
  row_id text,
  project_id text,
  environment_id text,
  -- Null for Togglr's tables: a key can change, so it is looked up in public.environments by the reader.
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

-- One row. Transaction ids mean something in one cluster only, so the log records in which one they were
-- written. deleted_xid is the highest transaction id of the rows that retention has deleted. host_triggers is false
-- after install --log-only: then the log is written by flagcast.record_event alone.
CREATE TABLE IF NOT EXISTS flagcast.log_state (
  singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton),
  system_identifier text NOT NULL,
  deleted_xid bigint NOT NULL DEFAULT 0,
  host_triggers boolean NOT NULL DEFAULT true,
  pruned_at timestamptz
);

-- Environments in which a flag is changed only with the approval of a second person. Flagcast's API enforces
-- it; writes of the host itself are not restricted.
--
-- No foreign key: it would need the right REFERENCES on the host's table, and add triggers to it. A row whose
-- environment is gone has no effect.
CREATE TABLE IF NOT EXISTS flagcast.guarded_environments (
  environment_id bigint PRIMARY KEY,
  guarded_by varchar(255) NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now()
);
GRANT SELECT ON flagcast.guarded_environments TO PUBLIC;

-- The roles that install --role granted rights to, and which rights, so that uninstall revokes exactly those.
CREATE TABLE IF NOT EXISTS flagcast.granted_roles (
  role_name name PRIMARY KEY,
  made boolean NOT NULL,
  grants text[] NOT NULL
);
