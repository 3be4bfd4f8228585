import { readdir, readFile, writeFile } from 'node:fs/promises';

/**
 * Returns the processor time (user and system, all threads) that processes have used, in milliseconds, with nanosecond
 * precision. Linux only, as all functions of this file.
 *
 * @param {readonly number[]} pids
 * @returns {Promise<number>}
 */
export async function cpuMsOf(pids) {
  let total = 0;
  for (const pid of pids) {
    for (const thread of await readdir(`/proc/${pid}/task`)) {
      // The first field is the time on a processor, in nanoseconds.
      const [nanoseconds] = (await readFile(`/proc/${pid}/task/${thread}/schedstat`, 'utf8')).split(' ', 1);
      total += Number(nanoseconds) / 1e6;
    }
  }
  return total;
}

/**
 * Returns the resident memory of a process and its peak since `resetPeak`, in bytes.
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
 * Returns the number of open file descriptors of a process, including sockets.
 *
 * @param {number} pid
 */
export async function openFilesOf(pid) {
  return (await readdir(`/proc/${pid}/fd`)).length;
}

/**
 * Resets the peak of the resident memory.
 *
 * @param {number} pid
 */
export async function resetPeak(pid) {
  await writeFile(`/proc/${pid}/clear_refs`, '5');
}

/**
 * Returns the running child processes of a process.
 *
 * @param {number} pid
 * @returns {Promise<number[]>}
 */
export async function childrenOf(pid) {
  const children = await readFile(`/proc/${pid}/task/${pid}/children`, 'utf8');
  return children.split(' ').filter(Boolean).map(Number);
}

/** @throws Error on a system without /proc */
export function requireFigures() {
  if (process.platform === 'linux') return;
  throw new Error('This benchmark reads /proc: run it on Linux');
}

/** Open files of a process besides its connections. */
const otherFiles = 200;

/**
 * @param {number} connections of one process
 * @throws Error if the limit of open files is too low
 */
export async function requireFiles(connections) {
  const limits = await readFile('/proc/self/limits', 'utf8');
  const limit = /^Max open files\s+(\d+)/m.exec(limits)?.[1];
  if (limit === undefined || Number(limit) >= connections + otherFiles) return;
  throw new Error(
    `${connections} clients need ${connections + otherFiles} open files in the server, but the limit is ${limit}: run ulimit -n ${connections + otherFiles}, or use fewer --clients`,
  );
}
