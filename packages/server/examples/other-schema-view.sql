-- The view of events of docs/other-schemas.md, its indexes, and the role that reads it.
CREATE VIEW app.live_events AS
SELECT
  'audit' AS source,
  change.id::text AS event_id,
  stage.team AS project_id,
  stage.slug AS environment_id,
  stage.key AS environment_key,
  'feature' AS entity,
  change.flag AS entity_id,
  CASE change.what WHEN 'added' THEN 'created' WHEN 'changed' THEN 'updated' ELSE 'deleted' END AS action,
  change.changed_at AS created_at,
  NULL::uuid AS pending_change_id,
  change.login AS actor
FROM app.flag_changes change
JOIN app.stages stage ON stage.slug = change.stage

UNION ALL

SELECT 'pending', request.id::text, stage.team, stage.slug, stage.key, 'feature', request.flag, 'pending',
  request.requested_at, request.id, request.requested_by
FROM app.change_requests request
JOIN app.stages stage ON stage.slug = request.stage

UNION ALL

SELECT 'pending', request.id::text, stage.team, stage.slug, stage.key, 'feature', request.flag, request.state,
  request.decided_at, request.id, request.decided_by
FROM app.change_requests request
JOIN app.stages stage ON stage.slug = request.stage
WHERE request.decided_at IS NOT NULL;

CREATE INDEX ON app.flag_changes (changed_at);
CREATE INDEX ON app.change_requests (requested_at);
CREATE INDEX ON app.change_requests (decided_at);

CREATE ROLE flagcast_reader LOGIN;
GRANT USAGE ON SCHEMA app TO flagcast_reader;
GRANT SELECT ON app.live_events, app.teams, app.stages, app.people, app.seats TO flagcast_reader;
