import pg from 'pg';
import { roleConnectionLimit } from '../../postgres/session-budget.js';
import { askJson, type Facts } from './facts.js';
import { advice, ok, sql, type Finding } from './finding.js';

interface SessionFacts {
  /** How many sessions PostgreSQL has for roles that are no superusers. */
  readonly available: number;
  readonly used: number;
  readonly usedByRole: number;
  /** How many sessions the role may have; -1: any number. */
  readonly roleLimit: number;
}

const id = 'sessions';

/** Whether the role has the sessions that a server may use, and the host keeps enough. */
export async function checkSessions(
  client: pg.ClientBase,
  { role, superuser }: Facts,
  databaseConnections: number,
): Promise<Finding> {
  const { available, used, usedByRole, roleLimit } = await askJson<SessionFacts>(
    client,
    `SELECT json_build_object(
      'available', current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int
        - coalesce(current_setting('reserved_connections', true), '0')::int,
      'used', (SELECT sum(numbackends) FROM pg_stat_database),
      'usedByRole', (SELECT count(*) FROM pg_stat_activity WHERE usename = current_user),
      'roleLimit', (SELECT CASE WHEN rolsuper THEN -1 ELSE rolconnlimit END FROM pg_roles WHERE rolname = current_user)
    )::text`,
  );
  const isLimited = roleLimit >= 0;
  const roleText = `role ${role} ${isLimited ? `may have ${roleLimit}` : superuser ? 'is a superuser without a limit' : 'has no limit'}`;
  const message = `a server has up to ${databaseConnections} sessions; ${roleText}; ${used} of ${available} of PostgreSQL are in use, ${usedByRole} by this role`;
  const identifier = pg.escapeIdentifier(role);
  if (isLimited && roleLimit < databaseConnections) {
    return {
      id,
      level: 'warning',
      message,
      consequence: 'PostgreSQL refuses the server sessions that it counts on: requests are answered with 503',
      fix: sql(
        `ALTER ROLE ${identifier} CONNECTION LIMIT ${Math.max(databaseConnections, roleConnectionLimit)};`,
      ),
    };
  }
  if (used - usedByRole + (isLimited ? roleLimit : databaseConnections) > available) {
    return {
      id,
      level: 'warning',
      message,
      consequence: 'servers can use up the sessions that the host needs',
      fix: advice(
        'raise max_connections, or lower FLAGCAST_DB_CONNECTIONS and the CONNECTION LIMIT of the role',
      ),
    };
  }
  if (isLimited || superuser) return ok(id, message);
  return {
    id,
    level: 'note',
    message,
    consequence: 'nothing but FLAGCAST_DB_CONNECTIONS bounds the sessions of each server',
    fix: sql(
      `ALTER ROLE ${identifier} CONNECTION LIMIT ${Math.max(databaseConnections, roleConnectionLimit)};`,
    ),
  };
}
