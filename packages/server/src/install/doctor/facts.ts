import type pg from 'pg';
import { errorCode } from '../../postgres/errors.js';
import { readGrants, type GrantState } from '../grants.js';
import { readInstallState, type InstallState } from '../objects.js';
import {
  type EventSource,
  EventSourceError,
  findEventSource,
  readHiddenNames,
  readHostTriggers,
} from '../../reader/event-source.js';
import { command, type Fix } from './finding.js';

/** What the checks build on. */
export interface Facts {
  /** As `server_version_num`. */
  readonly version: number;
  readonly versionText: string;
  readonly database: string;
  readonly role: string;
  readonly superuser: boolean;
  readonly replica: boolean;
  /** Whether the role sees the transactions of others. */
  readonly readsStats: boolean;
  readonly encoding: string;
  /** Subscriptions of logical replication of this database. */
  readonly subscriptions: number;
  readonly tracksCommitTimes: boolean;
  readonly maxPreparedTransactions: number;
  /** The setting flagcast.notify, as a new session of this role has it; empty where it is unset. */
  readonly notify: string;
  readonly state: InstallState;
  readonly grants: readonly GrantState[];
  /** What `flagcast serve` would read events from; null: nothing, for the reason in `noEventSource`, or not known. */
  readonly eventSource: EventSource | null;
  readonly noEventSource: string;
  /** Whether a table was locked, so that the event source is not known or not known completely. */
  readonly isLocked: boolean;
  /** How far `flagcast serve` would look back where there is no event log, in milliseconds. */
  readonly overlapMs: number;
  /** The query of FLAGCAST_AUTHORIZE_SQL; null: Togglr's tables decide about access. */
  readonly authorizeSql: string | null;
  /** Whether the server takes changes (FLAGCAST_WRITES). */
  readonly writes: boolean;
}

/** Runs a query whose one column is JSON text: a session returns every other type as PostgreSQL's own text. */
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
  {
    view,
    byEmail,
    ...settings
  }: { readonly view: string | null; readonly byEmail: boolean } & Pick<
    Facts,
    'overlapMs' | 'authorizeSql' | 'writes'
  >,
): Promise<Facts> {
  const server = await askJson<
    Omit<Facts, 'state' | 'grants' | 'eventSource' | 'noEventSource' | 'isLocked' | keyof typeof settings>
  >(
    client,
    `SELECT json_build_object(
      'version', current_setting('server_version_num')::int,
      'versionText', current_setting('server_version'),
      'database', current_database(),
      'role', current_user,
      'superuser', (SELECT rolsuper FROM pg_roles WHERE rolname = current_user),
      'replica', pg_is_in_recovery(),
      'readsStats', pg_has_role('pg_read_all_stats', 'USAGE'),
      'encoding', current_setting('server_encoding'),
      'subscriptions', (SELECT count(*) FROM pg_subscription s JOIN pg_database d ON d.oid = s.subdbid WHERE d.datname = current_database()),
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
    ...(await describeEventSource(client, view)),
    ...settings,
    grants: await readGrants(client, {
      database,
      role,
      ownTables: state.ownTables,
      byEmail,
      writes: settings.writes,
    }),
  };
}

async function describeEventSource(
  client: pg.ClientBase,
  view: string | null,
): Promise<Pick<Facts, 'eventSource' | 'noEventSource' | 'isLocked'>> {
  try {
    return { eventSource: await findEventSource(client, view), noEventSource: '', isLocked: false };
  } catch (error) {
    if (error instanceof EventSourceError) {
      return { eventSource: null, noEventSource: error.message, isLocked: false };
    }
    if (!isLockTimeout(error)) throw error;
    return {
      eventSource: view === null ? await findLogOnly(client) : null,
      noEventSource: '',
      isLocked: true,
    };
  }
}

/** The event log, also while the tables of the host cannot be read; null where it cannot be read either. */
async function findLogOnly(client: pg.ClientBase): Promise<EventSource | null> {
  try {
    const hasHostTriggers = await readHostTriggers(client);
    return {
      reason: 'event_log',
      guarantee: 'exact',
      name: 'flagcast.event_log',
      relation: 'flagcast.event_log',
      hasState: true,
      hasEnvironments: true,
      hasHostTriggers,
      hiddenTables: await readHiddenNames(client, { hasHostTriggers }),
    };
  } catch {
    return null;
  }
}

/** lock_not_available. */
function isLockTimeout(error: unknown): boolean {
  return errorCode(error) === '55P03';
}

/** Whether the role has the right of this name. */
export function holds(facts: Facts, name: string): boolean {
  return facts.grants.some((grant) => grant.name === name && grant.exists && grant.held);
}

/**
 * The command that installs, upgrades or repairs. With `grants` it also gives the role that examined the database the
 * rights of the server, unless the role can install by itself.
 */
export function installFix(facts: Facts, { grants = false } = {}): Fix {
  const { state, superuser, replica, role } = facts;
  const mayInstall = superuser || state.ownsSchema || (state.schemaOwner === null && state.mayCreateSchema);
  const flag = grants && !mayInstall ? `--role ${shellQuoted(role)} ` : '';
  const text = `flagcast install --yes ${tablesFlag(facts)}${flag}--database-url "$DATABASE_URL"`;
  if (replica) return command(`${text} # with a URL of the primary`);
  if (mayInstall) return command(text);
  return command(
    `${text} # with a URL of ${state.schemaOwner === null ? 'a role that may create schemas' : `role ${state.schemaOwner}`}`,
  );
}

/** What install needs to know about the tables of a database without those of feature flags; else empty. */
function tablesFlag({ state, grants, authorizeSql }: Facts): string {
  const hasAudit = grants.some(({ name, exists }) => name === 'table public.audit_log' && exists);
  if (hasAudit || state.schemaOwner !== null) return '';
  if (authorizeSql !== null) return '--log-only ';
  return state.publicNames.length === 0 ? '--tables ' : '';
}

function shellQuoted(text: string): string {
  return /^\w+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`;
}
