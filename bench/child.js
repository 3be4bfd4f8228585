import { fork } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';

/** @import { BoundedRun } from './bounded-run.js' */

/** How long a process may take to end by itself, in milliseconds. */
const endLimitMs = 5_000;
/** How long a server may take to start, in milliseconds. */
const startLimitMs = 15_000;

/**
 * A process of this run that answers questions. Questions and answers go as messages, because others
 * can read a command line.
 *
 * @typedef {{
 *   readonly pid: number,
 *   readonly ask: (question: object, limitMs?: number) => Promise<unknown>,
 *   readonly tell: (news: object) => void,
 *   readonly end: () => Promise<void>,
 *   readonly kill: () => Promise<void>,
 * }} Child
 *
 * `ask` rejects when the process cannot do it, ends, or does not answer in time (default: no limit).
 * `tell` expects no answer. `end` lets it tidy up, `kill` does not; both wait until it has ended.
 */

/**
 * Runs `program` until `end`, `kill` or the end of the run. Its ending by itself fails the run.
 *
 * @param {BoundedRun} run
 * @param {URL} program
 * @returns {Child}
 */
export function startChild(run, program) {
  const child = fork(program, { stdio: ['ignore', 'ignore', 'inherit', 'ipc'] });
  const ended = once(child, 'exit');
  /** @type {Map<number, { resolve: (value: unknown) => void, reject: (error: Error) => void }>} */
  const asked = new Map();
  let questions = 0;
  let ending = false;
  child.on('message', (message) => {
    const { id, answer, error } = /** @type {{ id: number, answer?: unknown, error?: string }} */ (message);
    const question = asked.get(id);
    asked.delete(id);
    if (error === undefined) question?.resolve(answer);
    else question?.reject(new Error(error));
  });
  void ended.then(() => {
    const error = new Error(
      `The process ${fileURLToPath(program)} ended by itself; what it printed above tells why`,
    );
    for (const { reject } of asked.values()) reject(error);
    if (!ending) run.fail(error);
  });
  /** @param {object} message */
  const send = (message) => {
    // What cannot be sent any more is told by `ended`.
    child.send(message, () => undefined);
  };
  /** @param {NodeJS.Signals | null} signal */
  const finish = async (signal) => {
    ending = true;
    if (signal !== null) child.kill(signal);
    // It ends by itself when its parent lets go.
    if (child.connected) child.disconnect();
    const tooLate = setTimeout(() => child.kill('SIGKILL'), endLimitMs);
    await ended;
    clearTimeout(tooLate);
  };
  run.defer(async () => await finish(null));
  return {
    pid: child.pid ?? 0,
    ask: async (question, limitMs) => {
      questions += 1;
      const id = questions;
      /** @type {Promise<unknown>} */
      const answered = new Promise((resolve, reject) => asked.set(id, { resolve, reject }));
      send({ id, question });
      if (limitMs === undefined) return await answered;
      const late = setTimeout(() => {
        asked
          .get(id)
          ?.reject(
            new Error(`The process ${fileURLToPath(program)} did not answer within ${limitMs / 1_000} s`),
          );
      }, limitMs);
      // A run that is over is not to wait for it.
      late.unref();
      try {
        return await answered;
      } finally {
        clearTimeout(late);
      }
    },
    tell: (news) => send({ question: news }),
    end: async () => await finish(null),
    kill: async () => await finish('SIGKILL'),
  };
}

/**
 * Runs a server program and waits until it serves. What it is asked first is `start`, and its answer
 * the port of 127.0.0.1 that it listens on.
 *
 * @param {BoundedRun} run
 * @param {URL} program
 * @param {object} start
 * @returns {Promise<Child & { readonly port: number }>}
 */
export async function startServer(run, program, start) {
  const child = startChild(run, program);
  return { ...child, port: Number(await child.ask(start, startLimitMs)) };
}

/**
 * The other end: answers, in the process that was started, what the parent asks. The process ends when
 * the parent has let go, also when the parent was killed; `tidyUp` is called before.
 *
 * @template Question
 * @param {(question: Question) => unknown} answer what it throws is told to the parent
 * @param {() => Promise<unknown>} [tidyUp]
 */
export function answerParent(answer, tidyUp = async () => await Promise.resolve()) {
  // A Ctrl-C at the terminal reaches this process too, but it is the parent that tidies up.
  process.on('SIGINT', () => undefined);
  process.once('disconnect', () => {
    void tidyUp().finally(() => process.exit());
  });
  process.on('message', (message) => {
    const { id, question } = /** @type {{ id?: number, question: Question }} */ (message);
    void (async () => {
      try {
        const answered = await answer(question);
        if (id !== undefined) process.send?.({ id, answer: answered });
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
