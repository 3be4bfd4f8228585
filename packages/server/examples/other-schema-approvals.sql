-- The trigger for steps of approvals of docs/other-schemas.md.
CREATE FUNCTION app.record_step() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF TG_OP = 'UPDATE' AND NEW.state = OLD.state THEN
    RETURN NULL;
  END IF;
  PERFORM flagcast.record_event(
    source => 'pending',
    row_id => NEW.id::text,
    project_id => stage.team,
    environment_id => stage.slug,
    environment_key => stage.key,
    entity => 'feature',
    entity_id => NEW.flag,
    action => CASE NEW.state WHEN 'open' THEN 'pending' ELSE NEW.state END,
    created_at => clock_timestamp(),
    actor => CASE NEW.state WHEN 'open' THEN NEW.requested_by ELSE NEW.decided_by END
  )
  FROM app.stages stage WHERE stage.slug = NEW.stage;
  RETURN NULL;
END
$$;
CREATE TRIGGER record_step AFTER INSERT OR UPDATE ON app.change_requests
  FOR EACH ROW EXECUTE FUNCTION app.record_step();
ALTER TABLE app.change_requests ENABLE ALWAYS TRIGGER record_step;
