import pg from 'pg';
import { triggerProblem } from '../../host/host-triggers.js';
import { legacyViews, missingObjects } from '../install-state.js';
import { readBuild } from '../plan.js';
import {
  advice,
  command,
  error,
  note,
  ok,
  queryJson,
  sql,
  warning,
  type Checks,
  type Facts,
  type Fix,
  type Result,
} from './facts.js';

/**
 * The command that installs, upgrades or repairs. With `grants` it also grants the examining role what the server
 * needs, unless the role can install.
 */
function installFix(facts: Facts, { grants = false } = {}): Fix {
  const { state, superuser, replica, role } = facts;
  const mayInstall = superuser || state.ownsSchema || (state.schemaOwner === null && state.mayCreateSchema);
  const quoted = /^\w+$/.test(role) ? role : `'${role.replaceAll("'", `'\\''`)}'`;
  const flag = grants && !mayInstall ? `--role ${quoted} ` : '';
  const installer =
    state.schemaOwner === null ? 'a role that may create schemas' : `role ${state.schemaOwner}`;
  const comment = replica
    ? ' # with a URL of the primary'
    : mayInstall
      ? ''
      : ` # with a URL of ${installer}`;
  return command(
    `flagcast install --yes ${tablesFlag(facts)}${flag}--database-url "$DATABASE_URL"${comment}`,
  );
}

/** The option of install for a database without tables of feature flags. */
function tablesFlag({ state, grants, authorizeSql }: Facts): string {
  const hasAudit = grants.some(({ name, exists }) => name === 'table public.audit_log' && exists);
  if (hasAudit || state.schemaOwner !== null) return '';
  if (authorizeSql !== null) return '--log-only ';
  return state.publicNames.length === 0 ? '--tables ' : '';
}

export const logChecks: Checks = {
  /** Checks what the reader guarantees. */
  guarantee: (facts) => {
    const { eventSource, noEventSource, isLocked, overlapMs } = facts;
    // Not known: the check `locks` reports why.
    if (isLocked && eventSource === null) return [];
    if (eventSource === null) {
      return error(
        `flagcast serve finds no events: ${noEventSource}`,
        'flagcast serve does not start',
        installFix(facts, { grants: true }),
      );
    }
    if (eventSource.hiddenTables.length > 0) {
      return warning(
        `partial: row-level security may hide rows of ${eventSource.hiddenTables.join(', ')}`,
        'events, flags, requests or users can be missing without an error',
        advice('see row-security'),
      );
    }
    if (eventSource.guarantee === 'exact') {
      return ok('exact: every committed event is delivered, however late its transaction commits');
    }
    const { name, reason } = eventSource;
    const seconds = `${overlapMs / 1_000} s`;
    return warning(
      `overlap: serve reads ${reason === 'view' ? `the view ${name}` : name} by created_at and looks back for ${seconds}`,
      `an event is missed if its transaction commits more than ${seconds} after the event's created_at and was not visibly open meanwhile; of several steps of a request between two reads only the last one is delivered; a client that reconnects to another server loads a new snapshot`,
      reason === 'view'
        ? command(
            'flagcast install --yes --log-only --database-url "$DATABASE_URL" # then call flagcast.record_event for each change of a flag, and unset FLAGCAST_VIEW',
          )
        : installFix(facts, { grants: true }),
    );
  },
  /** Checks whether Flagcast is installed, completely, and by this build. */
  installation: async (facts) => {
    const { client, state, eventSource, grants, isLocked, database } = facts;
    if (isLocked && eventSource === null) return [];
    if (eventSource?.reason === 'view') {
      return ok(`not used: serve reads the view ${eventSource.name} of this database`);
    }
    if (state.schemaOwner === null) {
      const fix = installFix(facts, { grants: true });
      const message = `Flagcast is not installed in database ${database}`;
      if (eventSource === null) return error(message, 'flagcast serve does not start', fix);
      return warning(
        `${message}: serve reads the tables`,
        'the guarantee is overlap, events arrive with the next poll (1 s by default), and environments cannot be guarded',
        fix,
      );
    }
    if (!state.installed) {
      return error(
        'schema flagcast was not created by Flagcast',
        'flagcast install refuses to change it',
        sql('ALTER SCHEMA flagcast RENAME TO not_flagcast;'),
      );
    }
    if (legacyViews(state).length > 0) {
      return warning(
        'Flagcast 0.1 is installed, which has no event log: run flagcast install',
        'its view and triggers are not used, so the guarantee is overlap',
        installFix(facts),
      );
    }
    if (!grants.some(({ name, held }) => name === 'table flagcast.schema_version' && held)) {
      return ok('installed; this role may not see which version');
    }
    const { build, version, newest } = await readBuild(client, state);
    const missing = missingObjects(state);
    if (build === 'this' && missing.length === 0) return ok(`installed, version ${version}`);
    if (build === 'newer') {
      return warning(
        `installed by a newer Flagcast: version ${version}, this Flagcast has version ${newest}`,
        'its event log may have other columns than this Flagcast expects',
        advice('use the Flagcast that installed it'),
      );
    }
    const [message, consequence] = {
      unknown: [
        'schema flagcast has no record of the installed version (a dump of the schema without data?)',
        'the installation may be incomplete',
      ],
      other: [
        `installed by another build of Flagcast (version ${version} of ${newest})`,
        'what this build has changed is missing',
      ],
      this: [
        `parts of the installation are missing: ${missing.join(', ')}`,
        'features that need them do not work',
      ],
    }[build] as [string, string];
    return warning(message, consequence, installFix(facts));
  },
  /** Checks whether each change is logged, and in this cluster. */
  log: async (facts) => {
    if (facts.log === null) return [];
    const { isOfThisCluster, functionOwner, unreadable } = await facts.log;
    const results: Result[] = [];
    if (!isOfThisCluster) {
      const message =
        'the event log was written in another cluster (restored from a dump, upgraded or replicated): its transaction ids are not valid here';
      results.push(
        facts.replica
          ? error(
              message,
              'flagcast serve does not read it',
              advice('let a server read the primary once, which starts a new log'),
            )
          : warning(
              message,
              'the first server that reads it starts a new log: every client loads a new snapshot',
              sql('SELECT flagcast.adopt_event_log(); -- or start a server'),
            ),
      );
    }
    if (facts.eventSource?.hasHostTriggers !== true) {
      return [...results, ok('the host writes the event log with flagcast.record_event')];
    }
    if (functionOwner !== null && unreadable.length > 0) {
      const tables = unreadable.map((table) => `public.${table}`).join(', ');
      results.push(
        error(
          `role ${functionOwner}, which owns the trigger functions, may not read ${tables}`,
          'the steps of requests are not logged, so they are never delivered',
          sql(`GRANT SELECT ON ${tables} TO ${pg.escapeIdentifier(functionOwner)};`),
        ),
      );
    }
    // Both tables that they read are named above.
    const triggers =
      unreadable.length === 0
        ? facts.state.triggers
        : facts.state.triggers.map((trigger) => ({ ...trigger, blindOwner: null }));
    const problem = triggerProblem(triggers);
    if (problem !== null) {
      const isColumn = problem.includes('has no column');
      results.push(
        error(
          problem,
          isColumn
            ? 'events are logged without the values of that column; the server is stale'
            : 'changes are not logged, so they are never delivered; the server is stale',
          isColumn ? advice('add the column again, or a generated column of that name') : installFix(facts),
        ),
      );
    }
    if (results.length > 0) return results;
    return [ok('the triggers that write the event log exist and are enabled')];
  },
  /** Says what logging costs the writers of the host. */
  'write-cost': ({ log }) =>
    log === null
      ? []
      : ok(
          "each logged change inserts one row with two index entries in the writer's own transaction, and at most one writer in 20 ms notifies the reader",
        ),
  /** Shows the size of the event log, its growth, and how large it becomes. */
  'log-size': async ({ log, logRetentionMs }) => {
    if (log === null) return [];
    const { size, rows, oldest, growth } = await log;
    if (oldest === null) return ok('the event log is empty');
    const message = `the event log takes ${size} with about ${rows} rows, the oldest of ${oldest}`;
    if (growth === null) return ok(message);
    const days = Math.round(logRetentionMs / 86_400) / 1_000;
    return ok(
      `${message}: about ${growth.rows} rows, ${growth.size} a day, so ${growth.kept} in the ${days} days that servers keep (FLAGCAST_LOG_RETENTION)`,
    );
  },
  /** Checks whether a server deletes old rows. */
  retention: async ({ log }) => {
    if (log === null) return [];
    const { prunedAt, isPruneOverdue } = await log;
    const since = prunedAt === null ? 'no server has ever' : `no server since ${prunedAt} has`;
    if (!isPruneOverdue) {
      return ok(
        prunedAt === null
          ? 'no server has looked for old rows of the event log yet'
          : `a server looked for old rows of the event log at ${prunedAt}`,
      );
    }
    return warning(
      `${since} looked for old rows of the event log`,
      'the event log grows without limit',
      advice(
        'run a server that reads the primary with a role that may execute flagcast.prune_event_log (flagcast install --role grants it)',
      ),
    );
  },
  /** Checks whether the triggers notify the reader. */
  wake: ({ log, maxPreparedTransactions, notify, database }) => {
    if (log === null) return [];
    const consequence = 'events arrive with the next poll (1 s by default)';
    const on = sql(`ALTER DATABASE ${pg.escapeIdentifier(database)} SET flagcast.notify = 'on';`);
    if (notify === 'off') {
      return note("the triggers do not notify the reader: flagcast.notify is 'off'", consequence, on);
    }
    if (maxPreparedTransactions === 0) return ok('the triggers notify the reader');
    if (notify === 'on') {
      return ok(
        "the triggers notify the reader (flagcast.notify is 'on'): a writer that uses PREPARE TRANSACTION must set it to 'off'",
      );
    }
    return warning(
      `the triggers do not notify the reader, because max_prepared_transactions is ${maxPreparedTransactions}: PREPARE TRANSACTION fails in a transaction that has notified`,
      consequence,
      { ...on, text: `${on.text} -- if no writer of these tables uses PREPARE TRANSACTION` },
    );
  },
  /** Checks for the index that finds the feature of a rule or schedule. */
  index: async ({ client }) => {
    const isMissing = await queryJson<boolean | null>(
      client,
      `SELECT to_json(CASE WHEN to_regclass('public.audit_log') IS NOT NULL THEN EXISTS (
       SELECT FROM pg_attribute a
       JOIN pg_class t ON t.oid = a.attrelid AND t.relname = 'audit_log'
       JOIN pg_namespace n ON n.oid = t.relnamespace AND n.nspname = 'public'
       WHERE a.attname = 'entity_id' AND NOT a.attisdropped
         AND NOT EXISTS (
           SELECT FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am m ON m.oid = c.relam
           WHERE i.indrelid = a.attrelid AND i.indisvalid AND i.indpred IS NULL AND i.indkey[0] = a.attnum
             AND m.amname = 'btree'
         )
     ) END)::text`,
    );
    if (isMissing === null) return [];
    if (!isMissing) return ok('the index that finds the feature of a request exists');
    return note(
      'there is no index on public.audit_log (entity_id)',
      'a request for a rule or schedule that does not name its feature is shown without it, and snapshots with such requests are slower',
      sql('CREATE INDEX CONCURRENTLY ON public.audit_log (entity_id);'),
    );
  },
};
