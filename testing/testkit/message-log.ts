interface Waiter<Message> {
  readonly fits: (message: Message) => boolean;
  readonly resolve: (message: Message) => void;
  readonly reject: (error: Error) => void;
}

/** Messages in the order of their arrival. */
export class MessageLog<Message> {
  readonly messages: Message[] = [];
  readonly #limit: number;
  #waiting: Waiter<Message>[] = [];
  #ended: string | null = null;

  /** `limit`: with more messages the older half is dropped. Default: all are kept. */
  constructor(limit = Infinity) {
    this.#limit = limit;
  }

  add(message: Message): void {
    this.messages.push(message);
    if (this.messages.length > this.#limit) this.messages.splice(0, this.#limit / 2);
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const waiter of waiting) {
      if (waiter.fits(message)) waiter.resolve(message);
      else this.#waiting.push(waiter);
    }
  }

  /** No further message arrives. Pending and later calls of `find` reject with this reason. */
  end(reason: string): void {
    this.#ended = reason;
    for (const { reject } of this.#waiting.splice(0)) reject(new Error(reason));
  }

  /** Resolves with the first past or future message from index `from` on that matches. */
  async find(fits: (message: Message) => boolean, from = 0): Promise<Message> {
    const found = this.messages.slice(from).find(fits);
    if (found !== undefined) return found;
    if (this.#ended !== null) throw new Error(this.#ended);
    return await new Promise((resolve, reject) => this.#waiting.push({ fits, resolve, reject }));
  }
}
