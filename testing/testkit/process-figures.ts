/** Figures of processes, from /proc: Linux only. */
import { once } from 'node:events';
import { readdir, readFile, writeFile } from 'node:fs/promises';
import { WebSocket } from 'ws';
import type { Program } from './program.ts';

/** Returns the processor time (user and system, all threads) that processes have used, in milliseconds. */
export async function cpuMsOf(pids: readonly number[]): Promise<number> {
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

/** Returns the resident memory of processes and its peak since `resetPeak`, in bytes. */
export async function memoryOf(
  pids: readonly number[],
): Promise<{ residentBytes: number; peakBytes: number }> {
  const total = { residentBytes: 0, peakBytes: 0 };
  for (const pid of pids) {
    const status = await readFile(`/proc/${pid}/status`, 'utf8');
    const bytes = (name: string): number =>
      Number(new RegExp(`^${name}:\\s+(\\d+) kB$`, 'm').exec(status)?.[1]) * 1_024;
    total.residentBytes += bytes('VmRSS');
    total.peakBytes += bytes('VmHWM');
  }
  return total;
}

/** Returns the number of open file descriptors of a process, including sockets. */
export async function openFilesOf(pid: number): Promise<number> {
  return (await readdir(`/proc/${pid}/fd`)).length;
}

/** Collects the garbage of a program through its inspector (`--inspect`), and resolves with its used heap in bytes. */
export async function usedHeapOf(program: Pick<Program, 'errorLine'>): Promise<number> {
  const listening = await program.errorLine((line) => line.startsWith('Debugger listening on ws:'));
  const socket = new WebSocket(listening.replace('Debugger listening on ', ''));
  const ask = async (method: string): Promise<{ result: { usedSize?: number } }> => {
    const answered = once(socket, 'message');
    socket.send(JSON.stringify({ id: 1, method }));
    return JSON.parse(String((await answered)[0])) as { result: { usedSize?: number } };
  };
  try {
    await once(socket, 'open');
    await ask('HeapProfiler.collectGarbage');
    return (await ask('Runtime.getHeapUsage')).result.usedSize ?? Infinity;
  } finally {
    socket.terminate();
  }
}

/** Resets the peak of the resident memory. */
export async function resetPeak(pids: readonly number[]): Promise<void> {
  for (const pid of pids) await writeFile(`/proc/${pid}/clear_refs`, '5');
}

/** Returns the running child processes of a process. */
export async function childrenOf(pid: number): Promise<number[]> {
  const children = await readFile(`/proc/${pid}/task/${pid}/children`, 'utf8');
  return children.split(' ').filter(Boolean).map(Number);
}

/** Throws an Error on a system without /proc. */
export function requireFigures(): void {
  if (process.platform === 'linux') return;
  throw new Error('This harness reads /proc: run it on Linux');
}

/** Open files of a process besides its connections. */
const otherFiles = 200;

/** Throws an Error if the limit of open files is too low for this number of connections of one process. */
export async function requireFiles(connections: number): Promise<void> {
  const limits = await readFile('/proc/self/limits', 'utf8');
  const limit = /^Max open files\s+(\d+)/m.exec(limits)?.[1];
  if (limit === undefined || Number(limit) >= connections + otherFiles) return;
  throw new Error(
    `${connections} clients need ${connections + otherFiles} open files in the server, but the limit is ${limit}: run ulimit -n ${connections + otherFiles}, or use fewer --clients`,
  );
}
