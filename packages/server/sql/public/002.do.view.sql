-- The events under the specification's name, with its nine columns and the types of its tables. It stands over
-- the event log, which has a time for every step of a request, also for a cancellation. A view over the tables
-- would make PostgreSQL refuse to alter their columns.
CREATE VIEW public.v_realtime_events AS
SELECT
  source,
  event_id,
  project_id::uuid AS project_id,
  environment_id::bigint AS environment_id,
  environment_key,
  entity,
  entity_id::uuid AS entity_id,
  action,
  created_at
FROM flagcast.v_realtime_events;
