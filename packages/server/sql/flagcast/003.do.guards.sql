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
