interface Waiter<Question, Answer> {
  readonly question: Question;
  readonly resolve: (answer: Answer) => void;
  readonly reject: (error: unknown) => void;
}

/** A question that is not answered by then no longer holds up the next ones, in milliseconds. */
const patienceMs = 250;
/** So many are answered before the event loop sees to others: a crowd that comes in is no reason to let them wait. */
const answeredAtOnce = 32;

/**
 * Questions that come at the same time are asked together. The first goes at once; what comes while it
 * is under way is gathered, and goes when it has been answered. So an answer is never older than its
 * question: nobody gets one that was sent before they asked.
 */
export class QueryBatcher<Question, Answer> {
  readonly #askAll: (questions: readonly Question[]) => Promise<Answer>;
  #waiting: Waiter<Question, Answer>[] = [];
  #underWay = 0;
  #isDue = false;
  #patience: NodeJS.Timeout | null = null;

  /** `askAll`: one answer to all of the questions; whoever asked takes their part of it. */
  constructor(askAll: (questions: readonly Question[]) => Promise<Answer>) {
    this.#askAll = askAll;
  }

  /** The answer to this question and those that were asked with it. Rejects with what `askAll` rejects with. */
  async ask(question: Question): Promise<Answer> {
    return await new Promise((resolve, reject) => {
      this.#waiting.push({ question, resolve, reject });
      if (this.#underWay === 0) this.#sendSoon();
      else this.#losePatience();
    });
  }

  /** With all that asks in this turn of the event loop. */
  #sendSoon(): void {
    if (this.#isDue) return;
    this.#isDue = true;
    setImmediate(() => void this.#send());
  }

  #losePatience(): void {
    this.#patience ??= setTimeout(() => this.#sendSoon(), patienceMs);
  }

  async #send(): Promise<void> {
    this.#isDue = false;
    if (this.#patience !== null) clearTimeout(this.#patience);
    this.#patience = null;
    const askers = this.#waiting;
    this.#waiting = [];
    if (askers.length === 0) return;
    this.#underWay += 1;
    let settle: (asker: Waiter<Question, Answer>) => void;
    try {
      const answer = await this.#askAll(askers.map(({ question }) => question));
      settle = ({ resolve }) => resolve(answer);
    } catch (error) {
      settle = ({ reject }) => reject(error);
    }
    this.#underWay -= 1;
    if (this.#waiting.length > 0) this.#sendSoon();
    const settleSome = (first: number): void => {
      const end = first + answeredAtOnce;
      for (const asker of askers.slice(first, end)) settle(asker);
      if (end < askers.length) setImmediate(() => settleSome(end));
    };
    settleSome(0);
  }
}
