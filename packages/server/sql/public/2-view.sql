-- For a database with the contract tables of install. Every upgrade and repair runs this file again.

-- The events under the name, with the nine columns and the types of the specification. The view reads the event log,
-- which has a time for every step of a request, also for a cancellation. A view over the tables would make PostgreSQL
-- refuse to alter their columns. An id of another form, from flagcast.record_event, is null.
CREATE OR REPLACE VIEW public.v_realtime_events AS
SELECT
  source,
  event_id,
  CASE WHEN project_id ~* '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' THEN project_id::uuid END AS project_id,
  CASE WHEN environment_id ~ '^[0-9]{1,18}$' THEN environment_id::bigint END AS environment_id,
  environment_key,
  entity,
  CASE WHEN entity_id ~* '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' THEN entity_id::uuid END AS entity_id,
  action,
  created_at
FROM flagcast.v_realtime_events;

CREATE TRIGGER flagcast_skip_replicated BEFORE INSERT OR UPDATE OR DELETE ON flagcast.tables_version
  FOR EACH ROW EXECUTE FUNCTION flagcast.skip_replicated();
ALTER TABLE flagcast.tables_version ENABLE REPLICA TRIGGER flagcast_skip_replicated;
