import { readdir, readFile, writeFile } from 'node:fs/promises';

/**
 * Figures of any process, from where Linux keeps them; elsewhere they cannot be had.
 */

/**
 * The processor time that processes have used so far, user and system, all threads, in milliseconds;
 * accurate to the nanosecond.
 *
 * @param {readonly number[]} pids
 * @returns {Promise<number>}
 */
export async function cpuMsOf(pids) {
  let total = 0;
  for (const pid of pids) {
    for (const thread of await readdir(`/proc/${pid}/task`)) {
      // The first field: nanoseconds spent on a processor.
      const [nanoseconds] = (await readFile(`/proc/${pid}/task/${thread}/schedstat`, 'utf8')).split(' ', 1);
      total += Number(nanoseconds) / 1e6;
    }
  }
  return total;
}

/**
 * The memory that a process has resident, now and at the most since `resetPeak`, in bytes.
 *
 * @param {number} pid
 */
export async function memoryOf(pid) {
  const status = await readFile(`/proc/${pid}/status`, 'utf8');
  /** @param {string} name */
  const bytes = (name) => Number(new RegExp(`^${name}:\\s+(\\d+) kB$`, 'm').exec(status)?.[1]) * 1_024;
  return { residentBytes: bytes('VmRSS'), peakBytes: bytes('VmHWM') };
}

/**
 * How many files and connections a process has open.
 *
 * @param {number} pid
 */
export async function openFilesOf(pid) {
  return (await readdir(`/proc/${pid}/fd`)).length;
}

/**
 * From now on the peak is that of what follows.
 *
 * @param {number} pid
 */
export async function resetPeak(pid) {
  await writeFile(`/proc/${pid}/clear_refs`, '5');
}

/**
 * The processes that a process has started and that are running.
 *
 * @param {number} pid
 * @returns {Promise<number[]>}
 */
export async function childrenOf(pid) {
  const children = await readFile(`/proc/${pid}/task/${pid}/children`, 'utf8');
  return children.split(' ').filter(Boolean).map(Number);
}

/** @throws Error where the system does not tell what a process costs */
export function requireFigures() {
  if (process.platform === 'linux') return;
  throw new Error('What a process costs is read from /proc: run this on Linux');
}

/** Files that a process has open beside its connections. */
const otherFiles = 200;

/**
 * @param {number} connections of one process
 * @throws Error where a process may not open so many files
 */
export async function requireFiles(connections) {
  const limits = await readFile('/proc/self/limits', 'utf8');
  const limit = /^Max open files\s+(\d+)/m.exec(limits)?.[1];
  if (limit === undefined || Number(limit) >= connections + otherFiles) return;
  throw new Error(
    `${connections} clients take ${connections + otherFiles} open files in the server, and this shell allows ${limit}: ulimit -n ${connections + otherFiles}, or fewer --clients`,
  );
}
