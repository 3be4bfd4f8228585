import type { DemoUser } from '../api/auth-routes.js';

/** Switches a flag of the demo in prod and writes its audit row, as its users would. */
const demoChange = [
  'WITH changed AS (UPDATE feature_params p SET enabled = NOT p.enabled, updated_at = now()',
  'FROM features f JOIN environments e USING (project_id)',
  "WHERE p.feature_id = f.id AND p.environment_id = e.id AND f.key = 'guest-checkout' AND e.key = 'prod'",
  'RETURNING f.project_id, p.*)',
  'INSERT INTO audit_log (project_id, environment_id, feature_id, entity, entity_id, actor, username, action, old_value, new_value)',
  "SELECT project_id, environment_id, feature_id, 'feature', feature_id, 'user', 'alice', 'update',",
  "jsonb_build_object('enabled', NOT enabled), jsonb_build_object('enabled', enabled) FROM changed",
].join(' ');

/**
 * What greets whoever starts the demo on a terminal: where it is, who works in it, what to type.
 * `dataDir` is null where the other commands find the demo's data folder by themselves.
 */
export function demoBanner(options: {
  readonly url: string;
  readonly dataDir: string | null;
  readonly traffic: boolean;
  readonly people: readonly DemoUser[];
}): string {
  const url = clickable(options.url);
  const server = url === 'http://127.0.0.1:8080' ? '' : ` --url ${url}`;
  const tail = `npx flagcast tail${server} --project "Web shop" --env prod`;
  const lines = [
    '',
    `Flagcast runs at ${url}, on an embedded PostgreSQL with a demo in it.`,
    '',
    'Open it in two windows, and be one of its people in each:',
    ...options.people.map(({ username, about }) => `  ${username.padEnd(8)}${about}`),
    '',
    ...(options.dataDir === null
      ? []
      : ['In other terminals, first:', `  export FLAGCAST_DATA_DIR=${shellWord(options.dataDir)}`, '']),
    'In another terminal, watch a channel:',
    `  ${tail}`,
    'as one of the people:',
    `  ${tail} --token "$(npx flagcast token --user carol)"`,
    'and in a third one, change something:',
    `  npm run sql -- "${demoChange}"`,
    '',
    options.traffic ? 'The people are at work (--traffic).' : 'With --traffic the people get to work.',
    'Ctrl-C ends it; the data is kept.',
    '',
  ];
  return `${lines.join('\n')}\n`;
}

/** A server that listens everywhere is reached at this machine's own address. */
function clickable(url: string): string {
  return url.replace('//0.0.0.0:', '//127.0.0.1:').replace('//[::]:', '//[::1]:');
}

function shellWord(text: string): string {
  return /^[\w./-]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`;
}
