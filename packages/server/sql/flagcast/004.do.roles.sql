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
