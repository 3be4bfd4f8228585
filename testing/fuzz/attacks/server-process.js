import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdir } from 'node:fs/promises';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { WebSocket } from 'ws';

/** @import { BoundedRun } from '../../testkit/bounded-run.ts' */

const program = fileURLToPath(new URL('../../../packages/server/bin/flagcast.js', import.meta.url));
const startLimitMs = 30_000;
const endLimitMs = 15_000;
const maxWarnings = 20;

/**
 * A process of `flagcast serve`.
 *
 * @typedef {{
 *   readonly pid: number,
 *   readonly port: number,
 *   readonly warnings: readonly string[],
 *   readonly exitReason: () => string | null,
 *   readonly openFiles: () => Promise<number>,
 *   readonly usedHeap: () => Promise<number>,
 *   readonly end: () => Promise<string>,
 * }} ServerProcess
 *
 * `warnings`: the first lines that it logged as warnings or errors, or wrote to stderr. `exitReason`: null while it runs.
 * `usedHeap`: heap after a garbage collection, in bytes. `end`: shuts the server down and returns the exit reason.
 */

/**
 * @param {BoundedRun} run
 * @param {{ databaseUrl: string, secret: string }} options
 * @returns {Promise<ServerProcess>}
 */
export async function startServerProcess(run, { databaseUrl, secret }) {
  const child = spawn(process.execPath, ['--inspect=127.0.0.1:0', program, 'serve', '--port', '0'], {
    env: {
      PATH: process.env['PATH'],
      DATABASE_URL: databaseUrl,
      FLAGCAST_JWT_SECRET: secret,
      // Enables writes, so that attacks reach their validation.
      FLAGCAST_WRITES: 'on',
    },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  /** @type {{ exitReason: string | null }} */
  const state = { exitReason: null };
  /** @type {string[]} */
  const warnings = [];
  const closed = once(child, 'close').then(([code, signal]) => {
    state.exitReason = `it ended with ${String(signal ?? code)}`;
  });
  run.defer(async () => {
    child.kill('SIGKILL');
    await closed;
  });
  /** @param {string} line */
  const addWarning = (line) => {
    if (warnings.length < maxWarnings) warnings.push(line.slice(0, 500));
  };
  /** @type {Promise<number>} */
  const listening = new Promise((resolve) => {
    let ready = 0;
    createInterface({ input: child.stdout }).on('line', (line) => {
      // Parses only lines that may be relevant, because there are thousands.
      const isOrdinary = line.includes('"level":"info"') && !/"(server_listening|reader_started)"/.test(line);
      if (isOrdinary) return;
      const { level, event, url } = parseLine(line);
      if (level !== 'info') addWarning(line);
      if (event === 'server_listening') ready = Number(new URL(String(url)).port);
      if (event === 'reader_started') resolve(ready);
    });
  });
  /** @type {string[]} */
  const inspectors = [];
  createInterface({ input: child.stderr }).on('line', (line) => {
    const inspector = /^Debugger listening on (ws:\S+)$/.exec(line)?.[1];
    if (inspector !== undefined) inspectors.push(inspector);
    else if (!/^(For help, see: |Debugger (attached|ending))/.test(line)) addWarning(line);
  });
  const limit = new AbortController();
  const tooLate = new Promise((resolve) => {
    setTimeout(() => resolve(null), startLimitMs).unref();
    limit.signal.addEventListener('abort', () => resolve(null));
  });
  const port = await Promise.race([listening, closed.then(() => null), tooLate.then(() => null)]);
  limit.abort();
  if (port === null) {
    throw new Error(`flagcast serve did not start: ${state.exitReason ?? 'time-out'}; ${warnings.join(' ')}`);
  }
  const pid = /** @type {number} */ (child.pid);
  return {
    pid,
    port,
    warnings,
    exitReason: () => state.exitReason,
    openFiles: async () => (await readdir(`/proc/${pid}/fd`)).length,
    usedHeap: async () => await collectGarbage(inspectors[0] ?? ''),
    end: async () => {
      child.kill('SIGTERM');
      const late = setTimeout(() => child.kill('SIGKILL'), endLimitMs);
      await closed;
      clearTimeout(late);
      return state.exitReason ?? '';
    },
  };
}

/**
 * @param {string} line
 * @returns {Record<string, unknown>}
 */
function parseLine(line) {
  try {
    const parsed = /** @type {unknown} */ (JSON.parse(line));
    return /** @type {Record<string, unknown>} */ (parsed);
  } catch {
    return {};
  }
}

/**
 * Collects the garbage of a process through its inspector, and returns its used heap in bytes.
 *
 * @param {string} inspector URL of the inspector
 * @returns {Promise<number>}
 */
async function collectGarbage(inspector) {
  const socket = new WebSocket(inspector);
  try {
    await once(socket, 'open');
    const methods = ['HeapProfiler.collectGarbage', 'Runtime.getHeapUsage'];
    for (const [id, method] of methods.entries()) {
      const answered = once(socket, 'message');
      socket.send(JSON.stringify({ id, method }));
      const [data] = /** @type {[Buffer]} */ (await answered);
      const answer = /** @type {unknown} */ (JSON.parse(data.toString('utf8')));
      const { result } = /** @type {{ result: { usedSize?: number } }} */ (answer);
      if (result.usedSize !== undefined) return result.usedSize;
    }
    throw new Error('The inspector did not report the used heap');
  } finally {
    socket.terminate();
  }
}
