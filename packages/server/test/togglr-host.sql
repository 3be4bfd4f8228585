-- A database as a Togglr installation has it: its tables, its own view, triggers and grants, with owners,
-- settings and comments around them. Written for these tests; $owner, $backend and $report are roles.
SET ROLE $owner;

CREATE TABLE projects (
  id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
  name varchar(128) NOT NULL UNIQUE,
  description varchar(300),
  created_at timestamptz NOT NULL DEFAULT now(),
  updated_at timestamptz NOT NULL DEFAULT now(),
  archived_at timestamptz
);
CREATE TABLE environments (
  id bigserial PRIMARY KEY,
  project_id uuid NOT NULL REFERENCES projects ON DELETE CASCADE,
  key varchar(20) NOT NULL CHECK (key IN ('prod', 'stage', 'dev')),
  name varchar(50) NOT NULL,
  api_key uuid NOT NULL UNIQUE DEFAULT gen_random_uuid(),
  created_at timestamptz DEFAULT now(),
  UNIQUE (project_id, key)
);
CREATE TABLE features (
  id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
  project_id uuid NOT NULL REFERENCES projects ON DELETE CASCADE,
  key varchar(50) NOT NULL,
  name varchar(50) NOT NULL,
  description varchar(300),
  kind varchar(15) NOT NULL CHECK (kind IN ('simple', 'multivariant')),
  rollout_key varchar,
  created_at timestamptz NOT NULL DEFAULT now(),
  updated_at timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE feature_params (
  feature_id uuid NOT NULL REFERENCES features ON DELETE CASCADE,
  environment_id bigint NOT NULL REFERENCES environments ON DELETE CASCADE,
  enabled boolean NOT NULL DEFAULT false,
  default_value varchar(128) NOT NULL DEFAULT '',
  created_at timestamptz NOT NULL DEFAULT now(),
  updated_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (feature_id, environment_id)
);
CREATE TABLE segments (
  id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
  project_id uuid NOT NULL REFERENCES projects ON DELETE CASCADE,
  name varchar(128) NOT NULL,
  conditions jsonb NOT NULL
);
CREATE TABLE flag_variants (
  id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
  feature_id uuid NOT NULL REFERENCES features ON DELETE CASCADE,
  name varchar(128) NOT NULL,
  rollout_percent int NOT NULL,
  project_id uuid NOT NULL REFERENCES projects ON DELETE CASCADE,
  environment_id bigint NOT NULL REFERENCES environments ON DELETE CASCADE
);
CREATE TYPE rule_action AS ENUM ('assign', 'include', 'exclude');
CREATE TABLE rules (
  id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
  feature_id uuid NOT NULL REFERENCES features ON DELETE CASCADE,
  condition jsonb NOT NULL,
  flag_variant_id uuid REFERENCES flag_variants ON DELETE CASCADE,
  priority int NOT NULL DEFAULT 0,
  created_at timestamptz NOT NULL DEFAULT now(),
  project_id uuid NOT NULL REFERENCES projects ON DELETE CASCADE,
  action rule_action NOT NULL,
  segment_id uuid REFERENCES segments,
  is_customized boolean NOT NULL DEFAULT false,
  environment_id bigint NOT NULL REFERENCES environments ON DELETE CASCADE
);
CREATE TABLE feature_schedules (
  id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
  project_id uuid NOT NULL REFERENCES projects ON DELETE CASCADE,
  feature_id uuid NOT NULL REFERENCES features ON DELETE CASCADE,
  starts_at timestamptz,
  ends_at timestamptz,
  cron_expr varchar(255),
  timezone varchar(50) NOT NULL DEFAULT 'UTC',
  action varchar(15) NOT NULL CHECK (action IN ('enable', 'disable')),
  created_at timestamptz NOT NULL DEFAULT now(),
  updated_at timestamptz NOT NULL DEFAULT now(),
  cron_duration varchar(30),
  environment_id bigint NOT NULL REFERENCES environments ON DELETE CASCADE
);
CREATE TABLE pending_changes (
  id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
  project_id uuid NOT NULL REFERENCES projects,
  environment_id bigint NOT NULL DEFAULT 0 REFERENCES environments,
  requested_by varchar(255) NOT NULL,
  request_user_id int,
  change jsonb NOT NULL,
  status varchar(20) NOT NULL DEFAULT 'pending'
    CONSTRAINT known_status CHECK (status IN ('pending', 'approved', 'rejected', 'cancelled')),
  created_at timestamptz NOT NULL DEFAULT now(),
  approved_by varchar(255),
  approved_user_id int,
  approved_at timestamptz,
  rejected_by varchar(255),
  rejected_at timestamptz,
  rejection_reason text
);
CREATE INDEX pending_changes_open ON pending_changes (project_id) WHERE status = 'pending';
CREATE TABLE pending_change_entities (
  id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
  pending_change_id uuid NOT NULL REFERENCES pending_changes ON DELETE CASCADE,
  entity varchar(50) NOT NULL,
  entity_id uuid NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX pending_change_entities_change ON pending_change_entities (pending_change_id);
CREATE TABLE audit_log (
  id bigserial PRIMARY KEY,
  feature_id uuid NOT NULL,
  entity varchar(50) NOT NULL DEFAULT 'unknown',
  entity_id uuid,
  actor varchar(50) NOT NULL,
  username varchar(255),
  action varchar(50) NOT NULL,
  old_value jsonb,
  new_value jsonb,
  request_id uuid NOT NULL DEFAULT '00000000-0000-0000-0000-000000000000',
  project_id uuid NOT NULL REFERENCES projects,
  environment_id bigint NOT NULL REFERENCES environments,
  created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX audit_log_created ON audit_log (created_at);
CREATE INDEX audit_log_feature ON audit_log (feature_id);
CREATE INDEX audit_log_project ON audit_log (project_id);
CREATE INDEX audit_log_entity ON audit_log (entity_id);
CREATE TABLE users (
  id serial PRIMARY KEY,
  username varchar(255) NOT NULL UNIQUE,
  email varchar(255) NOT NULL UNIQUE,
  password_hash varchar(255) NOT NULL,
  is_superuser boolean NOT NULL DEFAULT false,
  is_active boolean NOT NULL DEFAULT true,
  two_fa_enabled boolean NOT NULL DEFAULT false,
  two_fa_secret text
);
CREATE TABLE roles (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), key text NOT NULL UNIQUE, name text NOT NULL);
CREATE TABLE permissions (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), key text NOT NULL UNIQUE, name text NOT NULL);
CREATE TABLE role_permissions (
  role_id uuid NOT NULL REFERENCES roles,
  permission_id uuid NOT NULL REFERENCES permissions,
  PRIMARY KEY (role_id, permission_id)
);
CREATE TABLE memberships (
  project_id uuid NOT NULL REFERENCES projects,
  user_id int NOT NULL REFERENCES users,
  role_id uuid NOT NULL REFERENCES roles,
  UNIQUE (project_id, user_id)
);
CREATE TABLE project_approvers (
  project_id uuid NOT NULL REFERENCES projects ON DELETE CASCADE,
  user_id int NOT NULL REFERENCES users,
  role varchar(50) NOT NULL,
  PRIMARY KEY (project_id, user_id)
);
CREATE TABLE tags (
  id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
  project_id uuid NOT NULL REFERENCES projects ON DELETE CASCADE,
  name varchar(50) NOT NULL,
  slug varchar(50) NOT NULL,
  color varchar(7),
  UNIQUE (project_id, slug)
);
CREATE TABLE feature_tags (
  feature_id uuid NOT NULL REFERENCES features ON DELETE CASCADE,
  tag_id uuid NOT NULL REFERENCES tags ON DELETE CASCADE,
  PRIMARY KEY (feature_id, tag_id)
);

-- Its own view: what is open, a row for each entity, and the last hour of the history, by request.
CREATE VIEW v_realtime_events AS
SELECT 'pending' AS source, c.id::text AS event_id, c.project_id, c.environment_id, e.key AS environment_key,
  p.entity, p.entity_id, 'pending' AS action, c.created_at
FROM pending_changes c
JOIN pending_change_entities p ON p.pending_change_id = c.id
JOIN environments e ON e.id = c.environment_id
WHERE c.status = 'pending' AND c.created_at > now() - interval '1 hour'
UNION ALL
SELECT 'audit', a.request_id::text, a.project_id, a.environment_id, e.key, 'feature', a.feature_id, max(a.action),
  max(a.created_at)
FROM audit_log a JOIN environments e ON e.id = a.environment_id
WHERE a.created_at > now() - interval '1 hour'
GROUP BY a.project_id, a.environment_id, e.key, a.request_id, a.feature_id;

CREATE FUNCTION add_environments() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO public.environments (project_id, key, name)
  SELECT NEW.id, key, initcap(key) FROM unnest(ARRAY['prod', 'stage', 'dev']) AS key;
  RETURN NEW;
END $$;
CREATE TRIGGER add_environments AFTER INSERT ON projects FOR EACH ROW EXECUTE FUNCTION add_environments();
CREATE FUNCTION add_tags() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO public.tags (project_id, name, slug)
  SELECT NEW.id, slug, slug FROM unnest(ARRAY['auto-disable', 'critical', 'guarded']) AS slug;
  RETURN NEW;
END $$;
CREATE TRIGGER add_tags AFTER INSERT ON projects FOR EACH ROW EXECUTE FUNCTION add_tags();
CREATE FUNCTION add_params() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = public AS $$
BEGIN
  INSERT INTO feature_params (feature_id, environment_id)
  SELECT NEW.id, id FROM environments WHERE project_id = NEW.project_id;
  RETURN NEW;
END $$;
CREATE TRIGGER add_params AFTER INSERT ON features FOR EACH ROW EXECUTE FUNCTION add_params();
CREATE FUNCTION one_open_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF EXISTS (
    SELECT FROM public.pending_change_entities p JOIN public.pending_changes c ON c.id = p.pending_change_id
    WHERE p.entity = NEW.entity AND p.entity_id = NEW.entity_id AND c.status = 'pending' AND c.id <> NEW.pending_change_id
  ) THEN
    RAISE EXCEPTION 'one open change at a time';
  END IF;
  RETURN NEW;
END $$;
CREATE TRIGGER one_open_change BEFORE INSERT ON pending_change_entities
  FOR EACH ROW EXECUTE FUNCTION one_open_change();

INSERT INTO permissions (key, name)
SELECT key, key FROM unnest(ARRAY['project.view', 'project.manage', 'feature.toggle', 'feature.manage']) AS key;
INSERT INTO roles (key, name)
VALUES ('project_owner', 'Owner'), ('project_manager', 'Manager'), ('project_member', 'Member'), ('project_viewer', 'Viewer');
INSERT INTO role_permissions SELECT r.id, p.id FROM roles r, permissions p
WHERE CASE r.key
  WHEN 'project_owner' THEN true
  WHEN 'project_manager' THEN p.key <> 'project.manage'
  WHEN 'project_member' THEN p.key IN ('project.view', 'feature.toggle')
  ELSE p.key = 'project.view'
END;

-- Grants of every kind, default grants, comments, settings, another schema.
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO $backend;
GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO $backend;
GRANT SELECT ON v_realtime_events, audit_log TO $report WITH GRANT OPTION;
GRANT SELECT (id, username) ON users TO $report;
GRANT INSERT ON audit_log TO PUBLIC;
REVOKE EXECUTE ON FUNCTION add_params() FROM PUBLIC;
ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT ON TABLES TO $report;
COMMENT ON TABLE audit_log IS 'the history';
COMMENT ON COLUMN audit_log.actor IS 'user or system';
COMMENT ON TRIGGER add_params ON features IS 'theirs';
COMMENT ON VIEW v_realtime_events IS 'what the clients see';
RESET ROLE;
CREATE SCHEMA reporting AUTHORIZATION $report;
CREATE MATERIALIZED VIEW reporting.daily AS SELECT date_trunc('day', created_at) AS day, count(*) FROM public.audit_log GROUP BY 1;
ALTER MATERIALIZED VIEW reporting.daily OWNER TO $report;
CREATE TYPE reporting.mood AS ENUM ('good', 'bad');
CREATE DOMAIN reporting.percent AS int CHECK (VALUE BETWEEN 0 AND 100);
ALTER TABLE public.users ENABLE ROW LEVEL SECURITY;
CREATE POLICY everybody ON public.users USING (true);
CREATE PUBLICATION theirs FOR TABLE public.audit_log;
