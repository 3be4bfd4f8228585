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
