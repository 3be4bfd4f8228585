-- The contract tables: what a database must have for Flagcast to attach to it.
CREATE TABLE public.projects (
  id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
  name varchar(128) NOT NULL UNIQUE,
  description varchar(300),
  created_at timestamptz NOT NULL DEFAULT now(),
  updated_at timestamptz NOT NULL DEFAULT now(),
  archived_at timestamptz
);

CREATE TABLE public.environments (
  id bigserial PRIMARY KEY,
  project_id uuid NOT NULL REFERENCES public.projects ON DELETE CASCADE,
  key varchar(20) NOT NULL,
  name varchar(50) NOT NULL,
  api_key uuid NOT NULL UNIQUE DEFAULT gen_random_uuid(),
  created_at timestamptz DEFAULT now(),
  UNIQUE (project_id, key)
);

CREATE TABLE public.features (
  id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
  project_id uuid NOT NULL REFERENCES public.projects ON DELETE CASCADE,
  key varchar(50) NOT NULL,
  name varchar(50) NOT NULL,
  description varchar(300),
  kind varchar(15) NOT NULL CHECK (kind IN ('simple', 'multivariant')),
  rollout_key varchar,
  created_at timestamptz NOT NULL DEFAULT now(),
  updated_at timestamptz NOT NULL DEFAULT now(),
  UNIQUE (project_id, key)
);

CREATE TABLE public.feature_params (
  feature_id uuid NOT NULL REFERENCES public.features ON DELETE CASCADE,
  environment_id bigint NOT NULL REFERENCES public.environments ON DELETE CASCADE,
  enabled boolean NOT NULL DEFAULT false,
  default_value varchar(128) NOT NULL DEFAULT '',
  created_at timestamptz NOT NULL DEFAULT now(),
  updated_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (feature_id, environment_id)
);
CREATE INDEX feature_params_environment_id_idx ON public.feature_params (environment_id);

CREATE TABLE public.rules (
  id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
  project_id uuid NOT NULL REFERENCES public.projects ON DELETE CASCADE,
  feature_id uuid NOT NULL REFERENCES public.features ON DELETE CASCADE,
  environment_id bigint NOT NULL REFERENCES public.environments ON DELETE CASCADE,
  conditions jsonb NOT NULL,
  action varchar(20) NOT NULL CHECK (action IN ('assign', 'include', 'exclude')),
  flag_variant_id uuid,
  priority int NOT NULL DEFAULT 0,
  created_at timestamptz NOT NULL DEFAULT now(),
  updated_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX rules_project_id_idx ON public.rules (project_id);
CREATE INDEX rules_feature_id_environment_id_idx ON public.rules (feature_id, environment_id);
CREATE INDEX rules_environment_id_idx ON public.rules (environment_id);

CREATE TABLE public.feature_schedules (
  id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
  project_id uuid NOT NULL REFERENCES public.projects ON DELETE CASCADE,
  feature_id uuid NOT NULL REFERENCES public.features ON DELETE CASCADE,
  environment_id bigint NOT NULL REFERENCES public.environments ON DELETE CASCADE,
  starts_at timestamptz,
  ends_at timestamptz,
  cron_expr text,
  cron_duration text,
  timezone text NOT NULL DEFAULT 'UTC',
  action varchar(20) NOT NULL CHECK (action IN ('enable', 'disable')),
  created_at timestamptz NOT NULL DEFAULT now(),
  updated_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX feature_schedules_project_id_idx ON public.feature_schedules (project_id);
CREATE INDEX feature_schedules_feature_id_environment_id_idx
  ON public.feature_schedules (feature_id, environment_id);
CREATE INDEX feature_schedules_environment_id_idx ON public.feature_schedules (environment_id);

CREATE TABLE public.pending_changes (
  id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
  project_id uuid NOT NULL REFERENCES public.projects ON DELETE CASCADE,
  environment_id bigint NOT NULL DEFAULT 0 REFERENCES public.environments ON DELETE CASCADE,
  requested_by varchar(255) NOT NULL,
  request_user_id int,
  change jsonb NOT NULL,
  status varchar(20) NOT NULL DEFAULT 'pending'
    CHECK (status IN ('pending', 'approved', 'rejected', 'cancelled')),
  created_at timestamptz NOT NULL DEFAULT now(),
  approved_by varchar(255),
  approved_user_id int,
  approved_at timestamptz,
  rejected_by varchar(255),
  rejected_at timestamptz,
  rejection_reason text
);
CREATE INDEX pending_changes_project_id_status_idx ON public.pending_changes (project_id, status);
CREATE INDEX pending_changes_environment_id_status_idx ON public.pending_changes (environment_id, status);
CREATE INDEX pending_changes_created_at_idx ON public.pending_changes (created_at);

CREATE TABLE public.pending_change_entities (
  id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
  pending_change_id uuid NOT NULL REFERENCES public.pending_changes ON DELETE CASCADE,
  entity varchar(50) NOT NULL,
  entity_id uuid NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX pending_change_entities_pending_change_id_idx ON public.pending_change_entities (pending_change_id);
CREATE INDEX pending_change_entities_entity_id_idx ON public.pending_change_entities (entity_id);
CREATE INDEX pending_change_entities_created_at_idx ON public.pending_change_entities (created_at);

-- feature_id has no foreign key, so that the history of a feature outlives it.
CREATE TABLE public.audit_log (
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
  project_id uuid NOT NULL REFERENCES public.projects ON DELETE CASCADE,
  environment_id bigint NOT NULL REFERENCES public.environments ON DELETE CASCADE,
  created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX audit_log_created_at_idx ON public.audit_log (created_at);
CREATE INDEX audit_log_feature_id_idx ON public.audit_log (feature_id);
CREATE INDEX audit_log_project_id_idx ON public.audit_log (project_id);
CREATE INDEX audit_log_entity_id_idx ON public.audit_log (entity_id);
-- For a channel's history, newest first, and for the cascade when an environment is deleted.
CREATE INDEX audit_log_environment_id_created_at_idx ON public.audit_log (environment_id, created_at);

CREATE TABLE public.users (
  id serial PRIMARY KEY,
  username varchar(255) NOT NULL UNIQUE,
  email varchar(255) NOT NULL UNIQUE,
  password_hash varchar(255) NOT NULL,
  is_superuser boolean NOT NULL DEFAULT false,
  is_active boolean NOT NULL DEFAULT true,
  created_at timestamptz NOT NULL DEFAULT now(),
  updated_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE public.roles (
  id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
  key text NOT NULL UNIQUE,
  name text NOT NULL,
  description text,
  created_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE public.permissions (
  id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
  key text NOT NULL UNIQUE,
  name text NOT NULL
);

CREATE TABLE public.role_permissions (
  role_id uuid NOT NULL REFERENCES public.roles ON DELETE CASCADE,
  permission_id uuid NOT NULL REFERENCES public.permissions ON DELETE CASCADE,
  PRIMARY KEY (role_id, permission_id)
);
CREATE INDEX role_permissions_permission_id_idx ON public.role_permissions (permission_id);

CREATE TABLE public.memberships (
  project_id uuid NOT NULL REFERENCES public.projects ON DELETE CASCADE,
  user_id int NOT NULL REFERENCES public.users ON DELETE CASCADE,
  role_id uuid NOT NULL REFERENCES public.roles ON DELETE RESTRICT,
  PRIMARY KEY (project_id, user_id)
);
CREATE INDEX memberships_user_id_idx ON public.memberships (user_id);
CREATE INDEX memberships_role_id_idx ON public.memberships (role_id);
