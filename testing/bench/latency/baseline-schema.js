/** The NOTIFY channel of the baselines. */
export const baselineChannel = 'bench_baseline';

const dropFlagcastTrigger = 'DROP TRIGGER flagcast_log ON audit_log;';

/**
 * SQL that replaces Flagcast's trigger by the trigger of a baseline: `payload` notifies the whole message, `select` the id of
 * the row.
 *
 * @type {Readonly<Record<'payload' | 'select', string>>}
 */
export const baselineSchemas = {
  payload: `${dropFlagcastTrigger}
CREATE FUNCTION bench_notify() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  PERFORM pg_notify('${baselineChannel}', json_build_object(
    'source', 'audit', 'type', NEW.entity || '_' || NEW.action, 'timestamp', NEW.created_at,
    'project_id', NEW.project_id, 'environment', (SELECT key FROM environments WHERE id = NEW.environment_id),
    'entity', NEW.entity, 'entity_id', NEW.entity_id, 'action', NEW.action)::text);
  RETURN NULL;
END $$;
CREATE TRIGGER bench_notify AFTER INSERT ON audit_log FOR EACH ROW EXECUTE FUNCTION bench_notify();`,
  select: `${dropFlagcastTrigger}
CREATE FUNCTION bench_notify() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  PERFORM pg_notify('${baselineChannel}', NEW.id::text);
  RETURN NULL;
END $$;
CREATE TRIGGER bench_notify AFTER INSERT ON audit_log FOR EACH ROW EXECUTE FUNCTION bench_notify();`,
};
