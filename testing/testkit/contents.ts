import type { PendingChange } from '@flagcast/protocol';
import type pg from 'pg';
import { isFeed, type TestChannel } from './channel.ts';

/** Texts for the flags and the open requests of a channel, or for the requests of a feed, by id. */
export type ChannelContents = ReadonlyMap<string, string>;

/** What identifies the contents of a request, in any version; of a deleted request `deleted`. */
export function contentsOf(request: PendingChange | null): string {
  if (request === null) return 'deleted';
  const { status, reason, decided_by: decidedBy, decision_reason: decisionReason, entities } = request;
  const [value] = entities.flatMap(({ diff }) => diff.map((field) => field.new));
  return [status, reason, value, decidedBy, decisionReason].map((part) => part ?? '').join(' ');
}

/** The same in SQL, of a row of pending_changes. */
const contentsInSql = (row: string): string => `concat_ws(' ', ${row}.status,
  coalesce(${row}.change #>> '{meta,reason}', ''),
  coalesce((${row}.change #> '{entities,0,changes,default_value,new}')::text, ''),
  coalesce(CASE ${row}.status WHEN 'approved' THEN ${row}.approved_by WHEN 'rejected' THEN ${row}.rejected_by END, ''),
  coalesce(CASE ${row}.status WHEN 'rejected' THEN ${row}.rejection_reason END, ''))`;

/**
 * Creates the table testkit.request_versions, which keeps the contents of each request after each of its writes, with a
 * number between those of the step that the write has logged and of the next step of the request.
 */
export async function keepRequestVersions(client: pg.Client): Promise<void> {
  await client.query(`
    CREATE TABLE testkit.request_versions (id uuid, after_seq bigint, contents text);
    CREATE FUNCTION testkit.keep_version() RETURNS trigger LANGUAGE plpgsql AS $$
    DECLARE request_id uuid;
    BEGIN
      IF TG_TABLE_NAME = 'pending_changes' THEN request_id := OLD.id; ELSE request_id := NEW.pending_change_id; END IF;
      INSERT INTO testkit.request_versions SELECT request_id, s.last_value, coalesce(
        (SELECT ${contentsInSql('c')} FROM public.pending_changes c WHERE c.id = request_id), 'deleted')
      FROM flagcast.event_log_seq_seq s;
      RETURN NULL;
    END $$;
    -- Triggers run in the order of their names: these come after those that log the step.
    CREATE TRIGGER keep_version AFTER INSERT ON pending_change_entities
      FOR EACH ROW EXECUTE FUNCTION testkit.keep_version();
    CREATE TRIGGER keep_version AFTER UPDATE OR DELETE ON pending_changes
      FOR EACH ROW EXECUTE FUNCTION testkit.keep_version()`);
}

export interface RequestVersion {
  readonly afterSeq: number;
  readonly contents: string;
}

/** Reads the versions of each request, in order. */
export async function readRequestVersions(client: pg.Client): Promise<Map<string, RequestVersion[]>> {
  const { rows } = await client.query<RequestVersion & { id: string }>(
    `SELECT id, after_seq::float8 AS "afterSeq", contents FROM testkit.request_versions ORDER BY after_seq`,
  );
  const versions = new Map<string, RequestVersion[]>();
  for (const { id, ...version } of rows) versions.set(id, [...(versions.get(id) ?? []), version]);
  return versions;
}

/** The contents in the database. Those of a feed include the decided requests, which a client need not keep. */
export async function readContents(client: pg.Client, channel: TestChannel): Promise<ChannelContents> {
  const { rows } = isFeed(channel)
    ? await client.query<{ id: string; contents: string }>(
        `SELECT c.id, ${contentsInSql('c')} AS contents FROM pending_changes c WHERE c.project_id = ANY($1::uuid[])`,
        [channel.viewableProjectIds],
      )
    : await client.query<{ id: string; contents: string }>(
        `SELECT feature_id AS id, concat(enabled::text, ' ', default_value) AS contents FROM feature_params
         WHERE environment_id = $1
         UNION ALL SELECT id, 'pending' FROM pending_changes WHERE environment_id = $1 AND status = 'pending'`,
        [channel.environmentId],
      );
  return new Map(rows.map(({ id, contents }) => [id, contents]));
}
