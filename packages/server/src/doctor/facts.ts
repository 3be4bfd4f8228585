import type pg from 'pg';
import { readGrants, type GrantState } from '../database/install-grants.js';
import { readInstallState, type InstallState } from '../database/install-objects.js';
import { type EventSource, EventSourceError, findEventSource } from '../reader/event-source.js';
import { command, type Mend } from './finding.js';

/** What every check builds on. */
export interface Facts {
  /** As `server_version_num`. */
  readonly version: number;
  readonly versionText: string;
  readonly database: string;
  readonly role: string;
  readonly superuser: boolean;
  readonly replica: boolean;
  readonly encoding: string;
  /** Subscriptions of logical replication of this database. */
  readonly subscriptions: number;
  readonly tracksCommitTimes: boolean;
  readonly maxPreparedTransactions: number;
  /** The setting flagcast.notify, as a new session of this role has it; empty where it is unset. */
  readonly notify: string;
  readonly state: InstallState;
  readonly grants: readonly GrantState[];
  /** What flagcast serve would read events from; null: nothing, for the reason in `noEventSource`. */
  readonly eventSource: EventSource | null;
  readonly noEventSource: string;
  /** What serve would look back for in a view without transaction ids, in milliseconds. */
  readonly overlapMs: number;
  /** The query that says who may see what; null: Togglr's tables do. */
  readonly authorizeSql: string | null;
}

/** A query whose one column is JSON text: a session hands on every other type as PostgreSQL's own text. */
export async function askJson<Answer>(
  client: pg.ClientBase,
  text: string,
  values: readonly unknown[] = [],
): Promise<Answer> {
  const { rows } = await client.query<[string]>({ text, values: [...values], rowMode: 'array' });
  return JSON.parse(rows[0]?.[0] ?? 'null') as Answer;
}

/** Reads the catalogue and settings only; needs no right for it. `view` as for `findEventSource`. */
export async function readFacts(
  client: pg.ClientBase,
  { view, ...told }: { readonly view: string | null } & Pick<Facts, 'overlapMs' | 'authorizeSql'>,
): Promise<Facts> {
  const server = await askJson<
    Omit<Facts, 'state' | 'grants' | 'eventSource' | 'noEventSource' | keyof typeof told>
  >(
    client,
    `SELECT json_build_object(
      'version', current_setting('server_version_num')::int,
      'versionText', current_setting('server_version'),
      'database', current_database(),
      'role', current_user,
      'superuser', (SELECT rolsuper FROM pg_roles WHERE rolname = current_user),
      'replica', pg_is_in_recovery(),
      'encoding', current_setting('server_encoding'),
      'subscriptions', (SELECT count(*) FROM pg_stat_subscription),
      'tracksCommitTimes', current_setting('track_commit_timestamp')::boolean,
      'maxPreparedTransactions', current_setting('max_prepared_transactions')::int,
      'notify', lower(coalesce(current_setting('flagcast.notify', true), ''))
    )::text`,
  );
  const state = await readInstallState(client);
  const { database, role } = server;
  return {
    ...server,
    state,
    ...(await lookForEventSource(client, view)),
    ...told,
    grants: await readGrants(client, { database, role, ownTables: state.ownTables }),
  };
}

async function lookForEventSource(
  client: pg.ClientBase,
  view: string | null,
): Promise<Pick<Facts, 'eventSource' | 'noEventSource'>> {
  try {
    return { eventSource: await findEventSource(client, view), noEventSource: '' };
  } catch (error) {
    if (!(error instanceof EventSourceError)) throw error;
    return { eventSource: null, noEventSource: error.message };
  }
}

/** Whether the role may do what the grant of this name is about. */
export function holds(facts: Facts, name: string): boolean {
  return facts.grants.some((grant) => grant.name === name && grant.exists && grant.held);
}

/** What brings an installation up to date, and makes again what is gone from it. */
export function installMend({ state, superuser }: Facts): Mend {
  const text = 'flagcast install --yes --database-url "$DATABASE_URL"';
  if (superuser || state.ownsSchema || (state.schemaOwner === null && state.mayCreateSchema))
    return command(text);
  return command(
    `${text} # with a URL of ${state.schemaOwner === null ? 'a role that may make schemas' : `role ${state.schemaOwner}`}`,
  );
}
