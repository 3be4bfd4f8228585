import { isUndecodable } from './errors.js';

interface Waiter<Question, Answer> {
  readonly question: Question;
  readonly resolve: (answer: Answer) => void;
  readonly reject: (error: unknown) => void;
}

/** A batch that takes longer no longer delays the next one, in milliseconds. */
const batchTimeoutMs = 250;
/** How many callers get their answer in one turn of the event loop. */
const answersPerTurn = 32;

/**
 * Combines concurrent questions into one query. The first question is sent immediately; questions that arrive meanwhile wait
 * for its answer and are sent together. So no caller gets the answer to a query that was sent before its question.
 */
export class QueryBatcher<Question, Answer> {
  readonly #askAll: (questions: readonly Question[]) => Promise<Answer>;
  #waiting: Waiter<Question, Answer>[] = [];
  #pending = 0;
  #isScheduled = false;
  #timer: NodeJS.Timeout | null = null;

  /** `askAll` returns one answer to all questions, from which each caller takes its part. */
  constructor(askAll: (questions: readonly Question[]) => Promise<Answer>) {
    this.#askAll = askAll;
  }

  /** The answer to this question and those that were sent with it. Rejects with what `askAll` throws. */
  async ask(question: Question): Promise<Answer> {
    return await new Promise((resolve, reject) => {
      this.#waiting.push({ question, resolve, reject });
      if (this.#pending === 0) this.#schedule();
      else this.#sendAfterTimeout();
    });
  }

  /** Sends the questions of this turn of the event loop. */
  #schedule(): void {
    if (this.#isScheduled) return;
    this.#isScheduled = true;
    setImmediate(() => void this.#send());
  }

  #sendAfterTimeout(): void {
    this.#timer ??= setTimeout(() => this.#schedule(), batchTimeoutMs);
  }

  async #send(): Promise<void> {
    this.#isScheduled = false;
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = null;
    const waiters = this.#waiting;
    this.#waiting = [];
    if (waiters.length === 0) return;
    this.#pending += 1;
    let settle: (waiter: Waiter<Question, Answer>) => void;
    try {
      const answer = await this.#askAll(waiters.map(({ question }) => question));
      settle = ({ resolve }) => resolve(answer);
    } catch (error) {
      settle = ({ reject }) => reject(error);
    }
    this.#pending -= 1;
    if (this.#waiting.length > 0) this.#schedule();
    const settleSome = (first: number): void => {
      const end = first + answersPerTurn;
      for (const waiter of waiters.slice(first, end)) settle(waiter);
      if (end < waiters.length) setImmediate(() => settleSome(end));
    };
    settleSome(0);
  }
}

/** Every encoding of a database has the text. */
export const isAscii = (text: string): boolean => Buffer.byteLength(text) === text.length;

/**
 * What `find` returns for all keys. A text that the encoding of the database does not have fails the query, also for the
 * other keys: then finds them in halves, and nothing for the key with that text.
 */
export async function findExpressible<Key, Found>(
  keys: readonly Key[],
  textOf: (key: Key) => string | null,
  find: (keys: readonly Key[]) => Promise<Found[]>,
): Promise<Found[]> {
  try {
    return await find(keys);
  } catch (error) {
    if (!isUndecodable(error) || keys.every((key) => isAscii(textOf(key) ?? ''))) throw error;
    if (keys.length === 1) return [];
    const middle = Math.ceil(keys.length / 2);
    return [
      ...(await findExpressible(keys.slice(0, middle), textOf, find)),
      ...(await findExpressible(keys.slice(middle), textOf, find)),
    ];
  }
}

/** Each call of a group makes the next pause longer by this many milliseconds. Up to 250 calls a second do not wait. */
const pauseForEachMs = 4;
/** Limits of the pause after a group, in milliseconds. */
const shortestPauseMs = 20;
const longestPauseMs = 1_000;
/** A pause ends when no further call came for this many milliseconds, or this part of the pause. */
const quietMs = 100;
const quietPart = 0.2;

/**
 * Groups bursts of calls, so that their queries can share a statement. A single call continues immediately. Calls in a burst
 * continue in groups. The pause before a group grows with the size of the previous group, and shrinks by half at most.
 */
export class BurstThrottle {
  #waiting: (() => void)[] = [];
  #isPaused = false;

  /** Resolves when the caller may continue, after about a second at the latest. */
  async turn(): Promise<void> {
    if (this.#isPaused) await new Promise<void>((resolve) => this.#waiting.push(resolve));
    else void this.#run();
  }

  async #run(): Promise<void> {
    this.#isPaused = true;
    let group: (() => void)[];
    let pauseMs = pauseForEachMs;
    do {
      await this.#pause(pauseMs);
      group = this.#waiting;
      this.#waiting = [];
      pauseMs = Math.min(
        Math.max(group.length * pauseForEachMs, shortestPauseMs, pauseMs / 2),
        longestPauseMs,
      );
      for (const goOn of group) goOn();
    } while (group.length > 0);
    this.#isPaused = false;
  }

  async #pause(pauseMs: number): Promise<void> {
    const endMs = performance.now() + pauseMs;
    const sliceMs = Math.max(quietMs, pauseMs * quietPart);
    let before: number;
    let leftMs = pauseMs;
    do {
      before = this.#waiting.length;
      await timeoutAndNetwork(Math.min(leftMs, sliceMs));
      leftMs = endMs - performance.now();
    } while (leftMs > 0 && (this.#waiting.length === 0 || this.#waiting.length > before));
  }
}

/** Timers run before the event loop reads from the network: after a stall the network would seem quiet. */
async function timeoutAndNetwork(timeoutMs: number): Promise<void> {
  await new Promise((resolve) => {
    // The sockets of the callers keep the process alive.
    setTimeout(() => setImmediate(resolve), timeoutMs).unref();
  });
}
