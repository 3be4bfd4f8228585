import { readFileSync } from 'node:fs';
import type { ConnectionOptions } from 'node:tls';
import type pg from 'pg';
import { describeError } from '../describe.js';

/** The TLS parameters of libpq that are supported, with their environment variables. The URL takes precedence. */
const variables = {
  sslmode: 'PGSSLMODE',
  sslrootcert: 'PGSSLROOTCERT',
  sslcert: 'PGSSLCERT',
  sslkey: 'PGSSLKEY',
} as const;

type TlsParameters = Partial<Record<keyof typeof variables, string>>;

const modes = ['disable', 'require', 'verify-ca', 'verify-full'] as const;
type Mode = (typeof modes)[number];

/** Where the database is: a URL, or a pool of the host. */
export type Database =
  | { readonly url: string; readonly pool?: undefined }
  | { readonly pool: pg.Pool; readonly url?: undefined };

/** Whether the text has the form of a PostgreSQL URL. pg connects to any other URL as if it was one. */
export function isPostgresUrl(text: string): boolean {
  return /^postgres(ql)?:\/\//i.test(text) && URL.canParse(text);
}

/** What sessions take over of a pool. */
const poolParameters = [
  ...(['connectionString', 'host', 'port', 'user', 'password', 'database'] as const),
  ...(['ssl', 'sslnegotiation', 'options', 'stream'] as const),
];

/** The parameters of a session: those of the URL, or those of the pool. */
export function connectionParameters(database: Database): pg.ClientConfig {
  if (database.url !== undefined) return connectionSettings(database.url);
  const { options } = database.pool;
  // pg hides passwords and keys: they are not enumerable.
  const defined = poolParameters.filter((name) => options[name] !== undefined);
  return Object.fromEntries(defined.map((name) => [name, options[name]]));
}

type ConnectionSettings = Pick<pg.ClientConfig, 'connectionString' | 'ssl' | 'sslnegotiation'>;

/**
 * The configuration of pg for a URL. TLS works as in libpq, unlike in pg itself: `require` does not verify unless there
 * is a root certificate, `verify-ca` does not compare the name, `sslrootcert=system` means the root certificates of Node,
 * and PGSSLROOTCERT is read. Files are read at each call, so that a renewed one is used.
 *
 * @throws Error of one line if a parameter is not supported or a file cannot be read.
 */
export function connectionSettings(
  databaseUrl: string,
  environment: NodeJS.ProcessEnv = process.env,
): ConnectionSettings {
  const url = new URL(databaseUrl);
  const parameters = readParameters(url, environment);
  const mode = modeOf(parameters);
  if (mode === null) return { connectionString: databaseUrl };
  const host = url.searchParams.get('host') ?? decodeURIComponent(url.hostname);
  // libpq ignores these parameters for Unix-domain sockets.
  const isEncrypted = mode !== 'disable' && host !== '' && !host.startsWith('/');
  const isDirect = url.searchParams.get('sslnegotiation') === 'direct';
  // In pg parameters of the URL take precedence over the configuration.
  for (const name of [...Object.keys(variables), 'ssl', 'uselibpqcompat', 'sslnegotiation']) {
    url.searchParams.delete(name);
  }
  return {
    connectionString: url.href,
    ssl: isEncrypted ? tlsOf(mode, parameters) : false,
    ...(isDirect ? { sslnegotiation: 'direct' } : {}),
  };
}

function readParameters(url: URL, environment: NodeJS.ProcessEnv): TlsParameters {
  const found: TlsParameters = {};
  for (const name of Object.keys(variables) as (keyof typeof variables)[]) {
    const value = url.searchParams.get(name) ?? environment[variables[name]] ?? '';
    if (value !== '') found[name] = value;
  }
  return found;
}

/** Null without a TLS parameter: then the connection is not encrypted, unless the URL has pg's own `ssl=true`. */
function modeOf({ sslmode, sslrootcert }: TlsParameters): Mode | null {
  if (sslmode === undefined) return sslrootcert === undefined ? null : 'verify-full';
  // The name in pg.
  const name = sslmode === 'no-verify' ? 'require' : sslmode;
  const mode = modes.find((each) => each === name);
  if (mode === undefined) {
    throw new Error(
      sslmode === 'prefer' || sslmode === 'allow'
        ? `sslmode=${sslmode} is not supported, because such a connection may be unencrypted unnoticed: write sslmode=require, or sslmode=disable`
        : `sslmode=${sslmode} is not known: write one of ${modes.join(', ')}`,
    );
  }
  if (sslrootcert === 'system' && mode !== 'verify-full' && mode !== 'disable') {
    throw new Error(`sslmode=${sslmode} is too weak for sslrootcert=system: write sslmode=verify-full`);
  }
  if (mode === 'verify-ca' && sslrootcert === undefined) {
    throw new Error(
      'sslmode=verify-ca needs the certificate of an authority: add sslrootcert (or PGSSLROOTCERT), or write sslmode=verify-full',
    );
  }
  return mode;
}

function tlsOf(mode: Mode, { sslrootcert, sslcert, sslkey }: TlsParameters): ConnectionOptions {
  return {
    ...(sslrootcert === undefined || sslrootcert === 'system'
      ? {}
      : { ca: read('sslrootcert', sslrootcert) }),
    ...(sslcert === undefined ? {} : { cert: read('sslcert', sslcert) }),
    ...(sslkey === undefined ? {} : { key: read('sslkey', sslkey) }),
    ...(mode === 'require' && sslrootcert === undefined ? { rejectUnauthorized: false } : {}),
    ...(mode === 'verify-full' ? {} : { checkServerIdentity: () => undefined }),
  };
}

function read(name: string, file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch (error) {
    throw new Error(
      `${name} ${file} cannot be read (${describeError(error)}): correct the path, or let this user read the file`,
      { cause: error },
    );
  }
}
