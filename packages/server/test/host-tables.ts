import { randomUUID } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import type pg from 'pg';
import { createTestDatabase, type TestDatabase } from './database.js';

/** A row of flagcast.event_log, without the columns that differ from run to run. */
export interface LoggedRow {
  readonly source: string;
  readonly row_id: string | null;
  readonly environment_id: string | null;
  readonly environment_key: string | null;
  readonly entity: string;
  readonly entity_id: string | null;
  readonly action: string;
  readonly feature_id: string | null;
  readonly actor: string | null;
}

/** A database with the contract tables of a host, without Flagcast. */
export async function createHostTables(): Promise<TestDatabase> {
  const database = await createTestDatabase({ schema: 'none' });
  await makeHostTables(database.pool);
  return database;
}

export async function makeHostTables(client: pg.Pool | pg.ClientBase): Promise<void> {
  await client.query(await readFile(new URL('../sql/tables/1-tables.sql', import.meta.url), 'utf8'));
}

/** Creates a project with one environment, because the tables of a host have no trigger for that. */
export async function makeChannel(
  client: pg.Pool | pg.ClientBase,
  key = 'prod',
): Promise<{ readonly projectId: string; readonly environmentId: string }> {
  const projectId = randomUUID();
  await client.query('INSERT INTO projects (id, name) VALUES ($1, $2)', [projectId, projectId]);
  const { rows } = await client.query<{ id: string }>(
    'INSERT INTO environments (project_id, key, name) VALUES ($1, $2, $3) RETURNING id::text',
    [projectId, key, key],
  );
  return { projectId, environmentId: rows[0]?.id ?? '' };
}

/** The rows of the event log, in the order in which they were written. */
export async function readLog(client: pg.Pool | pg.ClientBase): Promise<LoggedRow[]> {
  const { rows } = await client.query<LoggedRow>(
    `SELECT source, row_id, environment_id, environment_key, entity, entity_id, action, feature_id, actor
     FROM flagcast.event_log ORDER BY seq`,
  );
  return rows;
}

/** The first column of the first row. */
export async function value<Value>(
  client: pg.Pool | pg.ClientBase,
  text: string,
  values: readonly unknown[] = [],
): Promise<Value | undefined> {
  const { rows } = await client.query<[Value]>({ text, values: [...values], rowMode: 'array' });
  return rows[0]?.[0];
}
