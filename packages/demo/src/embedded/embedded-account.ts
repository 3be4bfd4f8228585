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
 * PostgreSQL refuses to run as root. For root: the account `name`, made when it is missing.
 * For everybody else null: PostgreSQL runs as ourselves.
 *
 * @throws EmbeddedPostgresError `failed` when there is no such account and none can be made.
 */
export async function findAccount(name = 'postgres'): Promise<Account | null> {
  if (process.geteuid?.() !== 0) return null;
  const known = await lookUp(name);
  if (known !== null) return known;
  try {
    await execute('groupadd', ['--system', '--force', name]);
    await execute('useradd', ['--system', '--gid', name, '--no-create-home', '--shell', '/bin/false', name]);
  } catch (error) {
    // Another process may have made it in the same moment; then there is nothing to report.
    const made = await lookUp(name);
    if (made !== null) return made;
    throw new EmbeddedPostgresError(
      'failed',
      `PostgreSQL does not run as root, and the account "${name}" to run it as does not exist and could not be made; make it with "useradd --system ${name}", or start as an ordinary user.`,
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
    // `id` fails exactly when there is no such account.
    return null;
  }
}

/** What child_process needs to run something as `account`; nothing when that is ourselves. */
export function runAs(account: Account | null): { uid: number; gid: number } | Record<string, never> {
  return account === null ? {} : { uid: account.uid, gid: account.gid };
}

/** Makes `folder` and what is missing above it; as root open to be entered, whatever the umask. */
export async function makeFolder(folder: string, account: Account | null): Promise<void> {
  const first = await mkdir(folder, { recursive: true, mode: account === null ? 0o700 : 0o755 });
  if (first === undefined || account === null) return;
  for (let made = folder; made.length >= first.length; made = path.dirname(made)) {
    await chmodItself(made, 0o755);
  }
}

/** chmod follows symbolic links; this fails where `file` is one. */
export async function chmodItself(file: string, mode: number): Promise<void> {
  const handle = await open(file, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  try {
    await handle.chmod(mode);
  } finally {
    await handle.close();
  }
}

/**
 * Refuses a folder in which another user than root could replace files of ours. A sticky folder such as /tmp keeps them
 * from that.
 *
 * @throws EmbeddedPostgresError `unreachable`.
 */
export async function refuseForeignFolder(folder: string): Promise<void> {
  const { uid, mode } = await stat(folder);
  const own = process.geteuid?.();
  if (uid !== own && uid !== 0) {
    throw new EmbeddedPostgresError(
      'unreachable',
      `The folder ${folder} belongs to user ${uid}, but Flagcast runs as user ${own ?? 'unknown'}; start it as the user who made the folder, or set FLAGCAST_DATA_DIR to another one.`,
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
 * The topmost folder on the way to `folder` that `account` cannot enter, or null. Found by
 * entering them as that account: mode bits alone do not tell (access control lists, mounts).
 */
export async function closedFolder(folder: string, account: Account): Promise<string | null> {
  const way = [folder];
  for (let above = path.dirname(folder); above !== way[0]; above = path.dirname(above)) way.unshift(above);
  const script = 'for folder do cd "$folder" 2>/dev/null || { printf %s "$folder"; exit 0; }; done';
  const { stdout } = await execute('/bin/sh', ['-c', script, 'sh', ...way], { cwd: '/', ...runAs(account) });
  return stdout === '' ? null : stdout;
}
