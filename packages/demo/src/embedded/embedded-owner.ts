import { createHash, randomUUID } from 'node:crypto';
import { link, open, readFile, rename, rm } from 'node:fs/promises';
import path from 'node:path';
import { z } from 'zod';
import { EmbeddedPostgresError, errorCode } from './embedded-error.js';

/** The right to use a data folder: one process at a time has it. */
export interface Ownership {
  /** Whether the owner before us died without giving the folder back. */
  readonly tookOver: boolean;
  release(): Promise<void>;
}

const ownerShape = z.object({ pid: z.number().int().positive(), startMark: z.string().nullable() });

/**
 * Takes the data folder for this process by the file `owner.json` in it.
 *
 * @throws EmbeddedPostgresError `held` while another process, or this one, has it.
 */
export async function takeOwnership(dataDir: string): Promise<Ownership> {
  const file = path.join(dataDir, 'owner.json');
  const claim = path.join(dataDir, `owner.${randomUUID()}.claim`);
  // The random id makes every claim a different text, so that a text names its writer.
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
        if ((await readIfThere(file)) === text) await rm(file, { force: true });
      },
    };
  } finally {
    await rm(claim, { force: true });
  }
}

/**
 * Puts `claim` at `file` unless a living process has it. Two that find the same dead owner must
 * not both replace it: whoever wants to first acquires, in the same way, the name that belongs
 * to that dead owner alone, and only its holder may replace the file.
 */
async function acquire(file: string, claim: string, dataDir: string): Promise<boolean> {
  for (;;) {
    try {
      await link(claim, file);
      return false;
    } catch (error) {
      if (errorCode(error) !== 'EEXIST') throw error;
    }
    const holder = await readIfThere(file);
    if (holder === null) continue;
    await refuseLiving(holder, file, dataDir);
    const succession = `${file}.${createHash('sha256').update(holder).digest('hex').slice(0, 16)}`;
    await acquire(succession, claim, dataDir);
    if ((await readIfThere(file)) === holder) {
      await rename(succession, file);
      return true;
    }
    await rm(succession, { force: true });
  }
}

async function refuseLiving(holder: string, file: string, dataDir: string): Promise<void> {
  const owner = parseOwner(holder);
  if (owner === null || !(await isAlive(owner))) return;
  const doubt = owner.startMark === null ? ` (if process ${owner.pid} is not Flagcast, delete ${file})` : '';
  throw new EmbeddedPostgresError(
    'held',
    `The data folder ${dataDir} is in use by process ${owner.pid}; stop that first, or set FLAGCAST_DATA_DIR to another folder${doubt}.`,
    { holderPid: owner.pid },
  );
}

/** Null for a text that no process finished: it was synced before it got its name, so its disk lost it. */
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
  // Unreadable: it ended between the two looks, or it is hidden from us and lives.
  return startMark === null ? processExists(owner.pid) : startMark === owner.startMark;
}

/** Whether there is a process with this id, ours to signal or not. */
export function processExists(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return errorCode(error) !== 'ESRCH';
  }
}

/**
 * What tells a process from a later one with the same id: the boot and the start in clock
 * ticks. Null where there is no /proc or no such process; `ended` for one that nobody reaped.
 */
async function readStartMark(pid: number): Promise<string | null> {
  const stat = await readIfThere(`/proc/${pid}/stat`);
  const bootId = await readIfThere('/proc/sys/kernel/random/boot_id');
  if (stat === null || bootId === null) return null;
  // The second field is the program's name in brackets and may hold anything, blanks too.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return fields[0] === 'Z' || fields[0] === 'X' ? 'ended' : `${bootId.trim()}/${fields[19] ?? ''}`;
}

/** Null when there is no such file, or it went away (for /proc: the process did) while being read. */
export async function readIfThere(file: string): Promise<string | null> {
  try {
    return await readFile(file, 'utf8');
  } catch (error) {
    const code = errorCode(error);
    if (code === 'ENOENT' || code === 'ESRCH') return null;
    throw error;
  }
}
