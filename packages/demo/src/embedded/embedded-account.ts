import { execFile } from 'node:child_process';
import { constants, mkdir, open, stat } from 'node:fs/promises';
import path from 'node:path';
import { promisify } from 'node:util';
import { EmbeddedPostgresError } from './embedded-error.js';

const execute = promisify(execFile);

/** The operating-system account that PostgreSQL runs as. */
export interface Account {
  readonly name: string;
  readonly uid: number;
  readonly gid: number;
}

/**
 * Finds the account that PostgreSQL runs as. PostgreSQL refuses to run as root: for root this is the account `name`, which
 * is created if it is missing. For other users it is null: PostgreSQL runs as the current user.
 *
 * @throws EmbeddedPostgresError `failed` if the account does not exist and cannot be created.
 */
export async function findAccount(name = 'postgres'): Promise<Account | null> {
  if (process.geteuid?.() !== 0) return null;
  const known = await lookUp(name);
  if (known !== null) return known;
  try {
    await execute('groupadd', ['--system', '--force', name]);
    await execute('useradd', ['--system', '--gid', name, '--no-create-home', '--shell', '/bin/false', name]);
  } catch (error) {
    // Another process may have created the account at the same time.
    const created = await lookUp(name);
    if (created !== null) return created;
    throw new EmbeddedPostgresError(
      'failed',
      `PostgreSQL does not run as root, and the account "${name}" does not exist and could not be created; create it with "useradd --system ${name}", or start as a user other than root.`,
      { cause: error },
    );
  }
  return await lookUp(name);
}

async function lookUp(name: string): Promise<Account | null> {
  try {
    const [uid, gid] = await Promise.all([execute('id', ['-u', name]), execute('id', ['-g', name])]);
    return { name, uid: Number(uid.stdout), gid: Number(gid.stdout) };
  } catch {
    // `id` fails only if the account does not exist.
    return null;
  }
}

/** Returns the options of child_process to run a program as `account`; none for the current user. */
export function runAs(account: Account | null): { uid: number; gid: number } | Record<string, never> {
  return account === null ? {} : { uid: account.uid, gid: account.gid };
}

/** Creates `folder` and its missing parents. As root other accounts may enter them, independent of the umask. */
export async function makeFolder(folder: string, account: Account | null): Promise<void> {
  const first = await mkdir(folder, { recursive: true, mode: account === null ? 0o700 : 0o755 });
  if (first === undefined || account === null) return;
  for (let created = folder; created.length >= first.length; created = path.dirname(created)) {
    await chmodItself(created, 0o755);
  }
}

/** Changes the mode of `file`; fails if it is a symbolic link, which chmod would follow. */
export async function chmodItself(file: string, mode: number): Promise<void> {
  const handle = await open(file, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  try {
    await handle.chmod(mode);
  } finally {
    await handle.close();
  }
}

/**
 * Rejects a folder in which a user other than root could replace Flagcast's files. A sticky folder such as /tmp is safe.
 *
 * @throws EmbeddedPostgresError `unreachable`.
 */
export async function refuseForeignFolder(folder: string): Promise<void> {
  const { uid, mode } = await stat(folder);
  const own = process.geteuid?.();
  if (uid !== own && uid !== 0) {
    throw new EmbeddedPostgresError(
      'unreachable',
      `The folder ${folder} belongs to user ${uid}, but Flagcast runs as user ${own ?? 'unknown'}; start Flagcast as that user, or set FLAGCAST_DATA_DIR to another folder.`,
    );
  }
  if ((mode & 0o022) !== 0 && (mode & 0o1000) === 0) {
    throw new EmbeddedPostgresError(
      'unreachable',
      `The folder ${folder} can be written by other users, who could replace the secrets in it; run "chmod go-w ${folder}", or set FLAGCAST_DATA_DIR to another folder.`,
    );
  }
}

/**
 * Returns the topmost parent of `folder`, or `folder` itself, that `account` cannot enter; null if it can enter all of them.
 * Tries it as that account, because access control lists and mounts matter as well as mode bits.
 */
export async function inaccessibleFolder(folder: string, account: Account): Promise<string | null> {
  const folders = [folder];
  for (let above = path.dirname(folder); above !== folders[0]; above = path.dirname(above)) {
    folders.unshift(above);
  }
  const script = 'for folder do cd "$folder" 2>/dev/null || { printf %s "$folder"; exit 0; }; done';
  const { stdout } = await execute('/bin/sh', ['-c', script, 'sh', ...folders], {
    cwd: '/',
    ...runAs(account),
  });
  return stdout === '' ? null : stdout;
}
