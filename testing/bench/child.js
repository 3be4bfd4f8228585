import { fork } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';

/** @import { BoundedRun } from './bounded-run.js' */

/** Time limit for a process to end before it is killed, in milliseconds. */
const endLimitMs = 5_000;
/** Time limit for a server to start, in milliseconds. */
const startLimitMs = 15_000;

/**
 * A child process that handles requests. Requests are IPC messages: other users can read a command line.
 *
 * @typedef {{
 *   readonly pid: number,
 *   readonly request: (request: object, timeoutMs?: number) => Promise<unknown>,
 *   readonly send: (request: object) => void,
 *   readonly end: () => Promise<void>,
 *   readonly kill: () => Promise<void>,
 * }} Child
 *
 * `request` rejects when the request fails, the process ends, or the time-out expires (default: none). `send` expects no
 * result. `end` lets the process clean up, `kill` does not; both resolve when it has ended.
 */

/**
 * Runs `program` until `end`, `kill` or the end of the run. The run fails if the process ends unexpectedly.
 *
 * @param {BoundedRun} run
 * @param {URL} program
 * @returns {Child}
 */
export function startChild(run, program) {
  const child = fork(program, { stdio: ['ignore', 'ignore', 'inherit', 'ipc'] });
  const file = fileURLToPath(program);
  const ended = once(child, 'exit');
  /** @type {Map<number, { resolve: (value: unknown) => void, reject: (error: Error) => void }>} */
  const pending = new Map();
  let requests = 0;
  let ending = false;
  child.on('message', (message) => {
    const { id, result, error } = /** @type {{ id: number, result?: unknown, error?: string }} */ (message);
    const waiting = pending.get(id);
    pending.delete(id);
    if (error === undefined) waiting?.resolve(result);
    else waiting?.reject(new Error(error));
  });
  void ended.then(() => {
    const error = new Error(`The process ${file} ended unexpectedly; see its output above`);
    for (const { reject } of pending.values()) reject(error);
    if (!ending) run.fail(error);
  });
  /** @param {object} message */
  const send = (message) => {
    // `ended` reports a process that cannot receive messages any more.
    child.send(message, () => undefined);
  };
  /** @param {NodeJS.Signals | null} signal */
  const finish = async (signal) => {
    ending = true;
    if (signal !== null) child.kill(signal);
    // The process ends when its parent disconnects.
    if (child.connected) child.disconnect();
    const limit = setTimeout(() => child.kill('SIGKILL'), endLimitMs);
    await ended;
    clearTimeout(limit);
  };
  run.defer(async () => await finish(null));
  return {
    pid: child.pid ?? 0,
    request: async (request, timeoutMs) => {
      requests += 1;
      const id = requests;
      /** @type {Promise<unknown>} */
      const response = new Promise((resolve, reject) => pending.set(id, { resolve, reject }));
      send({ id, request });
      if (timeoutMs === undefined) return await response;
      const timeout = setTimeout(() => {
        pending
          .get(id)
          ?.reject(new Error(`The process ${file} did not answer within ${timeoutMs / 1_000} s`));
      }, timeoutMs);
      // The time-out must not delay the end of the run.
      timeout.unref();
      try {
        return await response;
      } finally {
        clearTimeout(timeout);
      }
    },
    send: (request) => send({ request }),
    end: async () => await finish(null),
    kill: async () => await finish('SIGKILL'),
  };
}

/**
 * Runs a server program and waits until it listens. Its first request is `start`, whose result is the port on 127.0.0.1.
 *
 * @param {BoundedRun} run
 * @param {URL} program
 * @param {object} start
 * @returns {Promise<Child & { readonly port: number }>}
 */
export async function startServer(run, program, start) {
  const child = startChild(run, program);
  return { ...child, port: Number(await child.request(start, startLimitMs)) };
}

/**
 * Handles the parent's requests in the child process. The process ends when the parent disconnects or was killed, after
 * `cleanUp`.
 *
 * @template Request
 * @param {(request: Request) => unknown} handle its errors are sent to the parent
 * @param {() => Promise<unknown>} [cleanUp]
 */
export function serveParent(handle, cleanUp = async () => await Promise.resolve()) {
  // Ctrl-C at the terminal signals this process as well, but the parent cleans up.
  process.on('SIGINT', () => undefined);
  process.once('disconnect', () => {
    void cleanUp().finally(() => process.exit());
  });
  process.on('message', (message) => {
    const { id, request } = /** @type {{ id?: number, request: Request }} */ (message);
    void (async () => {
      try {
        const result = await handle(request);
        if (id !== undefined) process.send?.({ id, result });
      } catch (error) {
        const text = error instanceof Error ? error.message : String(error);
        if (id === undefined) {
          console.error(`bench: ${text}`);
          process.exit(1);
        }
        process.send?.({ id, error: text });
      }
    })();
  });
}
