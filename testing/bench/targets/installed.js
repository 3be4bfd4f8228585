import { access, constants, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { once } from 'node:events';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { startChild } from '../../testkit/child.ts';

/** @import { Socket } from 'node:net' */
/** @import { BoundedRun } from '../../testkit/bounded-run.ts' */
/** @import { InstalledStart } from './installed-program.js' */

const startLimitMs = 15_000;

/**
 * Returns the first readable file, or null.
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
      // The path depends on the system: try the next one.
    }
  }
  return null;
}

/**
 * Creates a file in a temporary folder, which the end of the run removes.
 *
 * @param {BoundedRun} run
 * @param {string} name
 * @param {(folder: string) => string} content
 * @returns {Promise<string>} the path of the file
 */
export async function temporaryFile(run, name, content) {
  const folder = await mkdtemp(path.join(tmpdir(), 'flagcast-bench-'));
  run.defer(async () => await rm(folder, { recursive: true, force: true }));
  const file = path.join(folder, name);
  await writeFile(file, content(folder));
  return file;
}

/**
 * Runs an installed program until `end` or the end of the run.
 *
 * @param {BoundedRun} run
 * @param {InstalledStart} start
 * @returns {Promise<{ readonly pids: readonly number[], readonly end: () => Promise<void> }>} the program and its child processes
 */
export async function startInstalled(run, start) {
  const child = startChild(run, new URL('./installed-program.js', import.meta.url));
  const pids = /** @type {number[]} */ (await child.request(start, startLimitMs));
  return { pids, end: child.end };
}

/**
 * Opens a TCP connection to publish events on. It discards responses. The run fails if the server closes the connection.
 *
 * @param {BoundedRun} run
 * @param {number} port
 * @returns {Promise<{ readonly socket: Socket, readonly close: () => void }>}
 */
export async function openPublisher(run, port) {
  const socket = connect({ port, host: '127.0.0.1', noDelay: true });
  let closing = false;
  socket.on('error', (error) => run.fail(error));
  socket.on('close', () => {
    if (!closing) run.fail(new Error(`The server on port ${port} closed the connection of the publisher`));
  });
  socket.resume();
  await once(socket, 'connect', { signal: run.signal });
  const close = () => {
    closing = true;
    socket.destroy();
  };
  run.defer(async () => {
    close();
    await Promise.resolve();
  });
  return { socket, close };
}
