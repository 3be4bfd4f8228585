/** The NOTIFY channel of the floors. */
export const floorChannel = 'bench_floor';

const removeOurTrigger = 'DROP TRIGGER flagcast_log ON audit_log;';

/**
 * What turns a database of the product into one of a floor: its own trigger in place of ours.
 * `payload` notifies the whole message, `select` the id of the row.
 *
 * @type {Readonly<Record<'payload' | 'select', string>>}
 */
export const floorSchemas = {
  payload: `${removeOurTrigger}
CREATE FUNCTION bench_notify() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  PERFORM pg_notify('${floorChannel}', json_build_object(
    'source', 'audit', 'type', NEW.entity || '_' || NEW.action, 'timestamp', NEW.created_at,
    'project_id', NEW.project_id, 'environment', (SELECT key FROM environments WHERE id = NEW.environment_id),
    'entity', NEW.entity, 'entity_id', NEW.entity_id, 'action', NEW.action)::text);
  RETURN NULL;
END $$;
CREATE TRIGGER bench_notify AFTER INSERT ON audit_log FOR EACH ROW EXECUTE FUNCTION bench_notify();`,
  select: `${removeOurTrigger}
CREATE FUNCTION bench_notify() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  PERFORM pg_notify('${floorChannel}', NEW.id::text);
  RETURN NULL;
END $$;
CREATE TRIGGER bench_notify AFTER INSERT ON audit_log FOR EACH ROW EXECUTE FUNCTION bench_notify();`,
};
