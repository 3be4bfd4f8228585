import type pg from 'pg';
import { setGuard } from '../host/audit-log.js';
import { loadDatabaseUrl } from './config.js';
import { isMissing } from '../postgres/errors.js';
import { inTransaction } from '../postgres/statements.js';
import { printable } from '../describe.js';
import { isoUtc } from '../host/sql-expressions.js';
import { CommandError, defineCommand, UsageError } from './command.js';
import { describeDatabase, withClient } from './connect.js';

interface Place {
  readonly projectId: string;
  readonly environmentId: string;
  /** For people: project / environment. */
  readonly label: string;
}

export const guardCommand = defineCommand({
  name: 'guard',
  usage: `list [options]
add --project PROJECT --env ENVIRONMENT [options]
remove --project PROJECT --env ENVIRONMENT [options]`,
  description: `Lists the guarded environments, guards one, or removes its guard. In a guarded environment a change through the console or the API waits for the approval of a second person. Each change of a guard is in the history of the environment, with the database role that made it. Features with Togglr's tag guarded are guarded in every environment, and are not listed.`,
  actions: ['list', 'add', 'remove'],
  options: {
    project: { value: 'PROJECT', help: 'the id or name of the project' },
    env: { value: 'ENVIRONMENT', help: 'the key, name or number of the environment' },
  },
  settings: ['databaseUrl'],
  requiresDatabase: true,
  run: async ({ action, options: { project = '', env = '' }, flags, environment }) => {
    if (action === 'list') {
      if (project !== '' || env !== '') {
        throw new UsageError('guard list takes no --project and no --env; see flagcast guard --help');
      }
    } else if (project === '' || env === '') {
      throw new UsageError(`guard ${action} needs --project and --env; see flagcast guard --help`);
    }
    const databaseUrl = loadDatabaseUrl(environment, flags);
    await withClient(databaseUrl, async (client) => {
      try {
        if (action === 'list') await list(client);
        else await change(client, await findPlace(client, project, env), action === 'add');
      } catch (error) {
        if (!isMissing(error)) throw error;
        throw new CommandError(
          `The database ${describeDatabase(databaseUrl)} is not prepared, or the role lacks a permission (${error.message}); run flagcast install, or use the role that ran it`,
          { cause: error },
        );
      }
    });
  },
});

async function list(client: pg.ClientBase): Promise<void> {
  const { rows } = await client.query<{ place: string; at: string; by: string }>(
    `SELECT p.name || ' / ' || e.key AS place, ${isoUtc('g.created_at')} AS at, g.guarded_by AS by
     FROM flagcast.guarded_environments g
     JOIN public.environments e ON e.id = g.environment_id
     JOIN public.projects p ON p.id = e.project_id
     ORDER BY p.name, e.id`,
  );
  for (const { place, at, by } of rows) {
    console.log(`${printable(place)}  since ${at}  by ${printable(by)}`);
  }
  if (rows.length === 0) console.log('No environment is guarded.');
}

async function change(client: pg.ClientBase, place: Place, guarded: boolean): Promise<void> {
  const changed = await inTransaction(client, async () => {
    const { rows } = await client.query<{ role: string }>('SELECT session_user::text AS role');
    const username = `${rows[0]?.role ?? ''} (flagcast guard)`;
    return await setGuard(client, { ...place, guarded }, { actor: 'system', username });
  });
  if (!changed) {
    console.log(`${place.label} is ${guarded ? 'guarded already' : 'not guarded'}; nothing was changed.`);
  } else if (guarded) {
    console.log(`${place.label} is guarded: changes in it wait for an approval.`);
  } else {
    console.log(`${place.label} is no longer guarded: changes in it are made at once.`);
  }
}

/** A key goes before a name, a name before an id: one of them can be spelled as another. */
async function findPlace(client: pg.ClientBase, project: string, environment: string): Promise<Place> {
  const { rows: projects } = await client.query<{ id: string; name: string }>(
    `SELECT id::text AS id, name::text AS name FROM public.projects
     WHERE name::text = $1 OR id::text = lower($1) ORDER BY name::text = $1 DESC LIMIT 1`,
    [project],
  );
  const [found] = projects;
  if (found === undefined) {
    throw new CommandError(`There is no project "${printable(project)}"; give the id or the name of one`);
  }
  const { rows } = await client.query<{ id: string; key: string }>(
    `SELECT id, key FROM (
       SELECT id::text AS id, key::text AS key, rank() OVER (ORDER BY key::text = $2 DESC, name::text = $2 DESC)
       FROM public.environments
       WHERE project_id::text = $1 AND (key::text = $2 OR name::text = $2 OR id::text = $2)
     ) AS named WHERE rank = 1 ORDER BY key`,
    [found.id, environment],
  );
  const [inside, ...others] = rows;
  if (inside === undefined) {
    throw new CommandError(
      `The project ${printable(found.name)} has no environment "${printable(environment)}"; give the key, the name or the number of one`,
    );
  }
  if (others.length > 0) {
    throw new CommandError(
      `Several environments are called "${printable(environment)}": give the key of one (${rows.map(({ key }) => printable(key)).join(', ')})`,
    );
  }
  const label = `${printable(found.name)} / ${printable(inside.key)}`;
  return { projectId: found.id, environmentId: inside.id, label };
}
