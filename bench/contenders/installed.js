import { access, constants, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { once } from 'node:events';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { startChild } from '../child.js';

/** @import { Socket } from 'node:net' */
/** @import { BoundedRun } from '../bounded-run.js' */
/** @import { InstalledStart } from './installed-program.js' */

const startLimitMs = 15_000;

/**
 * The first of these files that can be read; null where there is none.
 *
 * @param {readonly string[]} files
 * @returns {Promise<string | null>}
 */
export async function firstOf(files) {
  for (const file of files) {
    try {
      await access(file, constants.R_OK);
      return file;
    } catch {
      // Another system has it elsewhere.
    }
  }
  return null;
}

/**
 * A folder with one file in it, which goes when the run ends.
 *
 * @param {BoundedRun} run
 * @param {string} name
 * @param {(folder: string) => string} content
 * @returns {Promise<string>} the file
 */
export async function temporaryFile(run, name, content) {
  const folder = await mkdtemp(path.join(tmpdir(), 'flagcast-bench-'));
  run.defer(async () => await rm(folder, { recursive: true, force: true }));
  const file = path.join(folder, name);
  await writeFile(file, content(folder));
  return file;
}

/**
 * Runs a program of the system until `end` or the end of the run.
 *
 * @param {BoundedRun} run
 * @param {InstalledStart} start
 * @returns {Promise<{ readonly pids: readonly number[], readonly end: () => Promise<void> }>} the program, and what it has started
 */
export async function startInstalled(run, start) {
  const child = startChild(run, new URL('./installed-program.js', import.meta.url));
  const pids = /** @type {number[]} */ (await child.request(start, startLimitMs));
  return { pids, end: child.end };
}

/**
 * A connection that events are published on; what comes back is not looked at. That it is closed before
 * `leave` fails the run.
 *
 * @param {BoundedRun} run
 * @param {number} port
 * @returns {Promise<{ readonly socket: Socket, readonly leave: () => void }>}
 */
export async function openPublisher(run, port) {
  const socket = connect({ port, host: '127.0.0.1', noDelay: true });
  let leaving = false;
  socket.on('error', (error) => run.fail(error));
  socket.on('close', () => {
    if (!leaving)
      run.fail(new Error(`The connection that events are published on, to port ${port}, was closed`));
  });
  socket.resume();
  await once(socket, 'connect', { signal: run.signal });
  const leave = () => {
    leaving = true;
    socket.destroy();
  };
  run.defer(async () => {
    leave();
    await Promise.resolve();
  });
  return { socket, leave };
}
