import type pg from 'pg';
import { compareBuild, loadMigrations, readApplied, versionOf } from '../migrations.js';
import { lastLegacyVersion } from '../objects.js';
import { missingObjects } from '../plan.js';
import { holds, installFix, type Facts } from './facts.js';
import { advice, command, ok, sql, type Finding } from './finding.js';

/** What the reader guarantees. */
export function checkGuarantee(facts: Facts): Finding {
  const { eventSource, noEventSource, overlapMs } = facts;
  const id = 'guarantee';
  if (eventSource === null) {
    return {
      id,
      level: 'error',
      message: `there is nothing to read events from: ${noEventSource}`,
      consequence: 'flagcast serve does not start',
      fix: installFix(facts, { grants: true }),
    };
  }
  if (eventSource.hiddenTables.length > 0) {
    return {
      id,
      level: 'warning',
      message: `partial: row-level security may hide rows of ${eventSource.hiddenTables.join(', ')}`,
      consequence: 'events, flags, requests or users can be missing without a sign',
      fix: advice('see row-security'),
    };
  }
  if (eventSource.guarantee === 'exact') {
    return ok(id, 'exact: every committed event is delivered, however late its transaction commits');
  }
  const { name, reason } = eventSource;
  const seconds = `${overlapMs / 1_000} s`;
  return {
    id,
    level: 'warning',
    message: `overlap: serve reads ${reason === 'view' ? `the view ${name}` : name} by created_at and looks back for ${seconds}`,
    consequence: `an event is missed if its transaction commits more than ${seconds} after the event's created_at and was not visibly open meanwhile; of two steps of a request between two reads only the last one is seen; a client that reconnects to another server takes a new snapshot`,
    fix:
      reason === 'view'
        ? command(
            'flagcast install --yes --log-only --database-url "$DATABASE_URL" # then call flagcast.record_event where the host changes a flag, and unset FLAGCAST_VIEW',
          )
        : installFix(facts, { grants: true }),
  };
}

/** Whether Flagcast is installed, by which version, and completely. */
export async function checkInstallation(client: pg.ClientBase, facts: Facts): Promise<Finding> {
  const { state, eventSource, database } = facts;
  const id = 'installation';
  if (eventSource?.reason === 'view') {
    return ok(id, `not used: serve reads the view ${eventSource.name} of this database`);
  }
  if (state.schemaOwner === null) {
    return {
      id,
      level: eventSource === null ? 'error' : 'warning',
      message: `Flagcast is not installed in database ${database}${eventSource === null ? '' : ': serve reads the tables themselves'}`,
      consequence:
        eventSource === null
          ? 'flagcast serve does not start'
          : 'the guarantee is overlap, events come with the next poll (1 s by default), and no environment can be guarded',
      fix: installFix(facts, { grants: true }),
    };
  }
  if (!state.installed) {
    return {
      id,
      level: 'error',
      message: 'there is a schema flagcast that Flagcast did not create',
      consequence: 'flagcast install refuses to change it',
      fix: sql('ALTER SCHEMA flagcast RENAME TO not_flagcast;'),
    };
  }
  if (!holds(facts, 'table flagcast.schema_version')) {
    return ok(id, 'installed; this role may not see which version');
  }
  const migrations = await loadMigrations('flagcast');
  const applied = await readApplied(client, 'flagcast');
  const version = versionOf(applied);
  const newest = migrations.at(-1)?.version ?? 0;
  const outdated = { id, level: 'warning', fix: installFix(facts) } as const;
  if (version === 0) {
    return {
      ...outdated,
      message:
        'the schema flagcast is a copy without the record of what was installed (a dump of the schema only?)',
      consequence: 'it is not known whether the installation is complete',
    };
  }
  if (version <= lastLegacyVersion) {
    return {
      ...outdated,
      message: `Flagcast 0.1 is installed (version ${version} of ${newest}), which has no event log`,
      consequence: 'its view and triggers are not used any more, so the guarantee is overlap at most',
    };
  }
  switch (compareBuild(migrations, applied)) {
    case 'same': {
      const missing = missingObjects(state, version);
      if (missing.length === 0) return ok(id, `installed, version ${version}`);
      return {
        ...outdated,
        message: `parts of the installation are missing or were replaced: ${missing.join(', ')}`,
        consequence: 'what needs them does not work',
      };
    }
    case 'older':
      return {
        ...outdated,
        message: `installed by an older Flagcast: version ${version} of ${newest}`,
        consequence: 'what is new since then does not work',
      };
    case 'newer':
    case 'altered':
      return {
        id,
        level: 'warning',
        message: 'installed by a newer or another build of Flagcast',
        consequence: 'the columns of its event log may have another meaning than this build expects',
        fix: advice('run the Flagcast that installed it'),
      };
  }
}
