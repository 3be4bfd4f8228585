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
