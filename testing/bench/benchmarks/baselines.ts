import { startServer } from '../../testkit/child.ts';
import { createDatabase } from '../../testkit/postgres.ts';
import type { Bench } from '../benchmark.ts';

/** The NOTIFY channel of the baselines. */
export const notifyChannel = 'bench_baseline';

/** What the trigger of a baseline notifies. */
const payloads = {
  /** The whole message. */
  message: `json_build_object(
    'source', 'audit', 'type', NEW.entity || '_' || NEW.action, 'timestamp', NEW.created_at,
    'project_id', NEW.project_id, 'environment', (SELECT key FROM environments WHERE id = NEW.environment_id),
    'entity', NEW.entity, 'entity_id', NEW.entity_id, 'action', NEW.action)::text`,
  /** The id of the row, which the server then selects. */
  id: 'NEW.id::text',
  /** The new default value of a flag. */
  value: "NEW.new_value ->> 'default_value'",
} as const;

export interface BaselineStart {
  readonly databaseUrl: string;
  readonly selects: boolean;
}

/** Starts a minimal server whose database has a trigger of its own instead of Flagcast's. */
export async function startBaseline({ run, postgres }: Bench, payload: keyof typeof payloads) {
  const database = await createDatabase(run, postgres, `bench_${payload}`);
  await database.client.query(`DROP TRIGGER flagcast_log ON audit_log;
    CREATE FUNCTION bench_notify() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
      PERFORM pg_notify('${notifyChannel}', ${payloads[payload]});
      RETURN NULL;
    END $$;
    CREATE TRIGGER bench_notify AFTER INSERT ON audit_log FOR EACH ROW EXECUTE FUNCTION bench_notify();`);
  const program = new URL('./baseline-server.ts', import.meta.url);
  const start: BaselineStart = { databaseUrl: database.url, selects: payload === 'id' };
  const { port } = await startServer(run, program, start);
  return { database, url: `ws://127.0.0.1:${port}` };
}
