-- The tables of the host in docs/other-schemas.md.
CREATE SCHEMA app;
CREATE TABLE app.teams (slug text PRIMARY KEY, title text NOT NULL);
CREATE TABLE app.stages (slug text PRIMARY KEY, team text NOT NULL REFERENCES app.teams, key text NOT NULL);
CREATE TABLE app.people (login text PRIMARY KEY, active boolean NOT NULL DEFAULT true);
CREATE TABLE app.seats (login text REFERENCES app.people, team text REFERENCES app.teams, PRIMARY KEY (login, team));
CREATE TABLE app.flags (key text PRIMARY KEY, team text NOT NULL REFERENCES app.teams);
CREATE TABLE app.flag_changes (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  stage text NOT NULL REFERENCES app.stages,
  flag text NOT NULL,
  what text NOT NULL CHECK (what IN ('added', 'changed', 'removed')),
  login text,
  changed_at timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE app.change_requests (
  id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
  stage text NOT NULL REFERENCES app.stages,
  flag text NOT NULL,
  state text NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'approved', 'rejected', 'cancelled')),
  requested_by text NOT NULL,
  requested_at timestamptz NOT NULL DEFAULT now(),
  decided_by text,
  decided_at timestamptz
);
CREATE ROLE app_backend LOGIN;
GRANT USAGE ON SCHEMA app TO app_backend;
GRANT SELECT ON ALL TABLES IN SCHEMA app TO app_backend;
GRANT INSERT, UPDATE ON app.flag_changes, app.change_requests TO app_backend;
