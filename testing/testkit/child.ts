import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { rmSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { buildSync } from 'esbuild';
import type { Owner } from './bounded-run.ts';
import { endWithParent } from './watchdog.ts';

/** Time limit for a process to end before it is killed, in milliseconds. */
const endLimitMs = 5_000;
/** Time limit for a server to start, in milliseconds. */
const startLimitMs = 60_000;

/** A child process that handles requests. Requests are IPC messages: other users can read a command line. */
export interface Child {
  readonly pid: number;
  readonly process: ChildProcess;
  /** Rejects when the request fails, the process ends, or `timeoutMs` expires (default: no time-out). */
  readonly request: (request: object, timeoutMs?: number) => Promise<unknown>;
  /** Expects no result. */
  readonly send: (request: object) => void;
  /** Lets the process clean up. Resolves when it has ended. */
  readonly end: () => Promise<void>;
  /** Ends the process with SIGKILL. Resolves when it has ended. */
  readonly kill: () => Promise<void>;
}

export interface ChildOptions {
  /** Arguments of Node. */
  readonly execArgv?: readonly string[];
  /** A file descriptor, or `pipe`. Default: not kept. */
  readonly stdout?: number | 'pipe' | 'ignore';
  /** Called with each note of the process. */
  readonly onNote?: (note: unknown) => void;
  /** Called with the code or signal when the process ends unexpectedly. Default: the run fails. */
  readonly onUnexpectedEnd?: (reason: string) => void;
}

type Message =
  | { readonly note: unknown }
  | { readonly id: number; readonly result?: unknown; readonly error?: string };

const compiled = new Map<string, string>();

/** Compiles a TypeScript program until the end of this process. With tsx it would take three times as long to start. */
function compile(file: string): string {
  const known = compiled.get(file);
  if (known !== undefined) return known;
  const outfile = fileURLToPath(
    new URL(`../../node_modules/.cache/${path.basename(file, '.ts')}-${process.pid}.js`, import.meta.url),
  );
  buildSync({
    ...{ entryPoints: [file], outfile, bundle: true, packages: 'external' },
    ...{ platform: 'node', format: 'esm', target: 'node20' },
  });
  process.once('exit', () => rmSync(outfile, { force: true }));
  compiled.set(file, outfile);
  return outfile;
}

/** Runs `program` until `end`, `kill` or the end of its owner. */
export function startChild(owner: Owner, program: URL, options: ChildOptions = {}): Child {
  const { execArgv = [], stdout = 'ignore', onNote } = options;
  const file = fileURLToPath(program);
  const child = fork(compile(file), { stdio: ['ignore', stdout, 'inherit', 'ipc'], execArgv: [...execArgv] });
  const ended = once(child, 'exit');
  // A stopped one does not notice that its parent is gone.
  if (child.pid !== undefined) child.once('exit', endWithParent(child.pid));
  const pending = new Map<number, { resolve: (value: unknown) => void; reject: (error: Error) => void }>();
  let requests = 0;
  let ending = false;
  child.on('message', (message: Message) => {
    if ('note' in message) {
      onNote?.(message.note);
      return;
    }
    const { id, result, error } = message;
    const waiting = pending.get(id);
    pending.delete(id);
    if (error === undefined) waiting?.resolve(result);
    else waiting?.reject(new Error(error));
  });
  void ended.then(([code, signal]) => {
    const reason = `ended with ${String(code ?? signal)}`;
    const error = new Error(`The process ${file} ${reason}; see its output above`);
    for (const { reject } of pending.values()) reject(error);
    if (ending) return;
    if (options.onUnexpectedEnd === undefined) owner.fail(error);
    else options.onUnexpectedEnd(reason);
  });
  const send = (message: object): void => {
    // `ended` reports a process that cannot receive messages any more.
    child.send(message, () => undefined);
  };
  const finish = async (signal: NodeJS.Signals | null): Promise<void> => {
    ending = true;
    if (signal !== null) child.kill(signal);
    // The process ends when its parent disconnects.
    if (child.connected) child.disconnect();
    const limit = setTimeout(() => child.kill('SIGKILL'), endLimitMs);
    await ended;
    clearTimeout(limit);
  };
  owner.defer(async () => await finish(null));
  return {
    pid: child.pid ?? 0,
    process: child,
    request: async (request, timeoutMs) => {
      requests += 1;
      const id = requests;
      const response = new Promise((resolve, reject) => pending.set(id, { resolve, reject }));
      send({ id, request });
      if (timeoutMs === undefined) return await response;
      const timeout = setTimeout(() => {
        const error = new Error(`The process ${file} did not answer within ${timeoutMs / 1_000} s`);
        pending.get(id)?.reject(error);
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
 */
export async function startServer(
  owner: Owner,
  program: URL,
  start: object,
): Promise<Child & { readonly port: number }> {
  const child = startChild(owner, program);
  return { ...child, port: Number(await child.request(start, startLimitMs)) };
}

/**
 * Handles the parent's requests in the child process, and sends errors of `handle` back. The process ends when the parent
 * disconnects or was killed.
 */
export function serveParent(handle: (request: never) => unknown): void {
  // Ctrl-C at the terminal signals this process as well, but the parent cleans up.
  process.on('SIGINT', () => undefined);
  process.once('disconnect', () => process.exit());
  process.on('message', (message: { readonly id?: number; readonly request: never }) => {
    const { id, request } = message;
    void (async () => {
      try {
        const result = await handle(request);
        if (id !== undefined) process.send?.({ id, result });
      } catch (error) {
        const text = error instanceof Error ? error.message : String(error);
        if (id === undefined) {
          console.error(text);
          process.exit(1);
        }
        process.send?.({ id, error: text });
      }
    })();
  });
}

/** Sends a note from the child process to its parent. */
export function sendNote(note: unknown): void {
  // The callback suppresses the error after the parent has exited.
  process.send?.({ note }, () => undefined);
}

/** The time in milliseconds since the epoch, with microseconds; comparable between processes, unless the clock is set. */
export function nowMs(): number {
  return performance.timeOrigin + performance.now();
}
