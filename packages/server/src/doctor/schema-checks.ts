import type pg from 'pg';
import { compareBuild, loadMigrations, readApplied, versionOf } from '../database/install-migrations.js';
import { viewColumns } from '../database/install-objects.js';
import { describeError } from '../describe.js';
import { triggerProblem } from '../host/host-triggers.js';
import { askJson, holds, installMend, type Facts } from './facts.js';
import { advice, ok, sql, type Finding } from './finding.js';

const polled = 'changes come with the next poll (1 s by default) instead of at once';

/** Whether Flagcast is installed, and by which version. */
export async function checkInstallation(client: pg.ClientBase, facts: Facts): Promise<Finding> {
  const { state } = facts;
  const id = 'installation';
  const { eventSource } = facts;
  if (eventSource?.reason === 'tables' && !state.installed) {
    return {
      id,
      level: 'warning',
      what: `Flagcast is not installed in database ${facts.database}: serve reads the tables themselves`,
      consequence: `${polled}; and no environment can be guarded`,
      mend: installMend(facts),
    };
  }
  if (eventSource?.reason === 'view') {
    return {
      id,
      level: 'note',
      what: `serve reads the view ${eventSource.name} of this database, not one of Flagcast's own`,
      consequence: `unless something of yours notifies the channel flagcast, ${polled}`,
      mend: advice('see the guide to other schemas for triggers that notify'),
    };
  }
  if (state.schemaOwner === null) {
    return {
      id,
      level: 'error',
      what: `Flagcast is not installed in database ${facts.database}`,
      consequence: 'flagcast serve does not start',
      mend: installMend(facts),
    };
  }
  if (!state.installed) {
    return {
      id,
      level: 'error',
      what: 'there is a schema flagcast that Flagcast did not make',
      consequence: 'flagcast install refuses to touch it',
      mend: sql('ALTER SCHEMA flagcast RENAME TO not_flagcast;'),
    };
  }
  if (!holds(facts, 'table flagcast.schema_version')) {
    return ok(id, 'installed; of which version cannot be seen by this role');
  }
  const migrations = await loadMigrations('flagcast');
  const applied = await readApplied(client, 'flagcast');
  const version = versionOf(applied);
  switch (compareBuild(migrations, applied)) {
    case 'same':
      return ok(id, `installed, version ${version}`);
    case 'older':
      return {
        id,
        level: 'warning',
        what: `installed by an older Flagcast: version ${version} of ${migrations.at(-1)?.version ?? 0}`,
        consequence: 'what came since does not work, such as guarded environments',
        mend: installMend(facts),
      };
    case 'newer':
    case 'altered':
      return {
        id,
        level: 'warning',
        what: 'installed by a newer or another build of Flagcast',
        consequence: 'its view may mean other things by its columns than this one takes them to',
        mend: advice('run the Flagcast that installed it'),
      };
  }
}

/** Whether the view is there, whole, and answers. */
export async function checkView(client: pg.ClientBase, facts: Facts): Promise<Finding> {
  const id = 'view';
  const name = 'flagcast.v_realtime_events';
  const broken = { id, level: 'error', consequence: 'there are no events' } as const;
  if (!facts.state.objects.includes(`view ${name}`)) {
    return { ...broken, what: `the view ${name} is gone`, mend: installMend(facts) };
  }
  const missing = viewColumns.flagcast.filter((column) => !facts.state.viewColumns.flagcast.includes(column));
  if (missing.length > 0) {
    return {
      ...broken,
      what: `the view ${name} has no column ${missing.join(', ')}`,
      mend: installMend(facts),
    };
  }
  if (!holds(facts, `table ${name}`) || !holds(facts, 'schema flagcast')) {
    return ok(id, `the view ${name} has all of its columns`);
  }
  try {
    await client.query(`SELECT FROM ${name} LIMIT 0`);
  } catch (error) {
    const owner = await askJson<string>(
      client,
      `SELECT to_json(quote_ident(pg_get_userbyid(relowner)))::text FROM pg_class WHERE oid = '${name}'::regclass`,
    );
    return {
      ...broken,
      what: `the view ${name} does not answer (${describeError(error)})`,
      mend: sql(
        `GRANT SELECT ON public.audit_log, public.pending_changes, public.pending_change_entities, public.environments TO ${owner};`,
      ),
    };
  }
  return ok(id, `the view ${name} answers, with all of its columns`);
}

/** Whether each of the triggers is there and fires. */
export function checkTriggers(facts: Facts): Finding {
  const id = 'triggers';
  const problem = facts.eventSource?.hasHostTriggers === false ? null : triggerProblem(facts.state.triggers);
  if (problem === null) return ok(id, 'the triggers are in place');
  return {
    id,
    level: 'error',
    what: problem,
    consequence: 'changes are not logged, so they are never delivered',
    mend: installMend(facts),
  };
}
