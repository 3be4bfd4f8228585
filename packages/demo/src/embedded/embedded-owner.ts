import { createHash, randomUUID } from 'node:crypto';
import { link, open, readFile, rename, rm } from 'node:fs/promises';
import path from 'node:path';
import { z } from 'zod';
import { EmbeddedPostgresError, errorCode } from './embedded-error.js';

/** The exclusive right of a process to use a data folder. */
export interface Ownership {
  /** The previous owner died without releasing the folder. */
  readonly tookOver: boolean;
  release(): Promise<void>;
}

const ownerShape = z.object({ pid: z.number().int().positive(), startMark: z.string().nullable() });

/**
 * Makes this process the owner of the data folder, with the file `owner.json` in it.
 *
 * @throws EmbeddedPostgresError `held` if another process, or this one, owns it already.
 */
export async function takeOwnership(dataDir: string): Promise<Ownership> {
  const file = path.join(dataDir, 'owner.json');
  const claim = path.join(dataDir, `owner.${randomUUID()}.claim`);
  // The random id makes every claim unique, so that its content identifies its writer.
  const text = JSON.stringify({
    pid: process.pid,
    startMark: await readStartMark(process.pid),
    id: randomUUID(),
  });
  try {
    const handle = await open(claim, 'wx', 0o644);
    try {
      await handle.writeFile(text);
      await handle.sync();
    } finally {
      await handle.close();
    }
    const tookOver = await acquire(file, claim, dataDir);
    return {
      tookOver,
      async release() {
        if ((await readIfExists(file)) === text) await rm(file, { force: true });
      },
    };
  } finally {
    await rm(claim, { force: true });
  }
}

/**
 * Links `claim` to `file` unless a running process owns it. Two processes that find the same dead owner must not both replace
 * it: each first acquires, in the same way, a file named after that owner, and only its holder may replace `file`.
 */
async function acquire(file: string, claim: string, dataDir: string): Promise<boolean> {
  for (;;) {
    try {
      await link(claim, file);
      return false;
    } catch (error) {
      if (errorCode(error) !== 'EEXIST') throw error;
    }
    const holder = await readIfExists(file);
    if (holder === null) continue;
    await refuseLiving(holder, file, dataDir);
    const succession = `${file}.${createHash('sha256').update(holder).digest('hex').slice(0, 16)}`;
    await acquire(succession, claim, dataDir);
    if ((await readIfExists(file)) === holder) {
      await rename(succession, file);
      return true;
    }
    await rm(succession, { force: true });
  }
}

async function refuseLiving(holder: string, file: string, dataDir: string): Promise<void> {
  const owner = parseOwner(holder);
  if (owner === null || !(await isAlive(owner))) return;
  const hint = owner.startMark === null ? ` (if process ${owner.pid} is not Flagcast, delete ${file})` : '';
  throw new EmbeddedPostgresError(
    'held',
    `The data folder ${dataDir} is in use by process ${owner.pid}; stop it first, or set FLAGCAST_DATA_DIR to another folder${hint}.`,
    { holderPid: owner.pid },
  );
}

/** Null for damaged content: claims are synced before they are linked, so the disk has lost it. */
function parseOwner(text: string): { pid: number; startMark: string | null } | null {
  try {
    return ownerShape.parse(JSON.parse(text));
  } catch {
    return null;
  }
}

async function isAlive(owner: { pid: number; startMark: string | null }): Promise<boolean> {
  if (!processExists(owner.pid)) return false;
  if (owner.startMark === null) return true;
  const startMark = await readStartMark(owner.pid);
  // Unreadable: the process has ended meanwhile, or it runs but is hidden.
  return startMark === null ? processExists(owner.pid) : startMark === owner.startMark;
}

/** Whether a process with this id exists, even if this process may not signal it. */
export function processExists(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return errorCode(error) !== 'ESRCH';
  }
}

/**
 * Identifies a process across reuse of its id: the boot id, and the start time in clock ticks. Null without /proc or without
 * the process; `ended` for a zombie.
 */
async function readStartMark(pid: number): Promise<string | null> {
  const stat = await readIfExists(`/proc/${pid}/stat`);
  const bootId = await readIfExists('/proc/sys/kernel/random/boot_id');
  if (stat === null || bootId === null) return null;
  // The second field, the program's name in parentheses, may contain spaces and parentheses.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return fields[0] === 'Z' || fields[0] === 'X' ? 'ended' : `${bootId.trim()}/${fields[19] ?? ''}`;
}

/** Reads a file; null if it does not exist, or if it (or, in /proc, the process) disappears while it is read. */
export async function readIfExists(file: string): Promise<string | null> {
  try {
    return await readFile(file, 'utf8');
  } catch (error) {
    const code = errorCode(error);
    if (code === 'ENOENT' || code === 'ESRCH') return null;
    throw error;
  }
}
