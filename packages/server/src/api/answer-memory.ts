import type { ServerResponse } from 'node:http';
import { HttpProblem } from '../http-problem.js';

export interface AnswerMemoryOptions {
  /** How many bytes of answers that are being sent the server holds. */
  maxBytes: number;
  /** How long an answer waits for room, in milliseconds. Default 10,000. */
  waitTimeoutMs?: number;
  /** An answer ends when its client takes nothing for this long, in milliseconds. Default 30,000. */
  stallTimeoutMs?: number;
  /** The same while another answer waits for the room that it takes, in milliseconds. Default 5,000. */
  contendedStallTimeoutMs?: number;
}

/** An answer that is being sent, or waits for room. */
interface Answer {
  readonly bytes: Buffer;
  readonly userId: string;
  readonly response: ServerResponse;
  /** When it got its room, on the clock of performance.now(). */
  heldSinceMs: number;
  /** When the client took something last, on the same clock. */
  progressAtMs: number;
}

interface Waiter {
  readonly answer: Answer;
  readonly admit: () => void;
}

/** So many bytes are handed to the socket at a time: what a client takes of them is progress. */
const chunkBytes = 65_536;

/**
 * Bounds the bytes of large answers that clients have not read yet, and of those that wait for room. Answers that share
 * a buffer count once in the total; one user may hold half of it. An answer that nobody reads ends after a time-out, and
 * while others wait for room also one that is read slowly, if its user holds more than an equal share.
 */
export class AnswerMemory {
  readonly #options: Required<AnswerMemoryOptions>;
  readonly #answers = new Set<Answer>();
  /** How many answers have the buffer. */
  readonly #shares = new Map<Buffer, number>();
  readonly #userBytes = new Map<string, number>();
  readonly #waiting = new Set<Waiter>();
  #heldBytes = 0;
  #timer: NodeJS.Timeout | null = null;

  constructor(options: AnswerMemoryOptions) {
    this.#options = {
      waitTimeoutMs: 10_000,
      stallTimeoutMs: 30_000,
      contendedStallTimeoutMs: 5_000,
      ...options,
    };
  }

  /** How many bytes the answers hold. */
  get heldBytes(): number {
    return this.#heldBytes;
  }

  /**
   * The body for a response, once there is room for it. It counts until the response is finished or closed. Throws
   * HttpProblem when there is no room in time.
   */
  async body(bytes: Buffer, userId: string, response: ServerResponse): Promise<ReadableStream> {
    const answer = { bytes, userId, response, heldSinceMs: 0, progressAtMs: 0 };
    if (this.#hasRoom(answer)) this.#hold(answer);
    else if (!this.#mayWait(bytes)) throw this.#noRoom(answer);
    else await this.#wait(answer);
    if (response.destroyed) this.#release(answer);
    else response.once('close', () => this.#release(answer));
    return streamOf(bytes, () => (answer.progressAtMs = performance.now()));
  }

  /** An answer that is larger than the limit is sent when it is the only one. */
  #hasRoom({ bytes, userId }: Answer): boolean {
    const { maxBytes } = this.#options;
    const added = this.#shares.has(bytes) ? 0 : bytes.length;
    return this.#userHasRoom(bytes, userId) && (this.#heldBytes === 0 || this.#heldBytes + added <= maxBytes);
  }

  #userHasRoom(bytes: Buffer, userId: string): boolean {
    const held = this.#userBytes.get(userId) ?? 0;
    return held === 0 || held + bytes.length <= this.#options.maxBytes / 2;
  }

  /** As many bytes may wait as may be held. */
  #mayWait(bytes: Buffer): boolean {
    const buffers = new Set([bytes, ...[...this.#waiting].map(({ answer }) => answer.bytes)]);
    const waitingBytes = [...buffers].reduce((sum, { length }) => sum + length, 0);
    return buffers.size === 1 || waitingBytes <= this.#options.maxBytes;
  }

  #hold(answer: Answer): void {
    const { bytes, userId } = answer;
    answer.heldSinceMs = answer.progressAtMs = performance.now();
    this.#answers.add(answer);
    const shares = this.#shares.get(bytes) ?? 0;
    this.#shares.set(bytes, shares + 1);
    if (shares === 0) this.#heldBytes += bytes.length;
    this.#userBytes.set(userId, (this.#userBytes.get(userId) ?? 0) + bytes.length);
    this.#watch();
  }

  #release(answer: Answer): void {
    const { bytes, userId } = answer;
    this.#answers.delete(answer);
    const shares = (this.#shares.get(bytes) ?? 0) - 1;
    if (shares > 0) this.#shares.set(bytes, shares);
    else {
      this.#shares.delete(bytes);
      this.#heldBytes -= bytes.length;
    }
    const held = (this.#userBytes.get(userId) ?? 0) - bytes.length;
    if (held > 0) this.#userBytes.set(userId, held);
    else this.#userBytes.delete(userId);
    for (const waiter of this.#waiting) {
      if (this.#hasRoom(waiter.answer)) waiter.admit();
    }
  }

  async #wait(answer: Answer): Promise<void> {
    await new Promise<void>((resolve, reject) => {
      const leave = (): void => {
        clearTimeout(timer);
        answer.response.off('close', abandon);
        this.#waiting.delete(waiter);
      };
      const abandon = (): void => {
        leave();
        reject(this.#noRoom(answer));
      };
      const waiter = {
        answer,
        admit: (): void => {
          leave();
          this.#hold(answer);
          resolve();
        },
      };
      const timer = setTimeout(abandon, this.#options.waitTimeoutMs);
      answer.response.once('close', abandon);
      this.#waiting.add(waiter);
      this.#endStalled();
    });
  }

  #noRoom({ bytes, userId }: Answer): Error {
    return this.#userHasRoom(bytes, userId)
      ? new HttpProblem(503, 'busy', 'The server is sending too many large answers: try again shortly', {
          retryAfterSeconds: 5,
        })
      : new HttpProblem(
          429,
          'too_many_requests',
          'You have not read earlier answers of this server yet: read or close them, then try again',
          { retryAfterSeconds: 5 },
        );
  }

  /** One timer looks after all answers, while there are some. */
  #watch(): void {
    if (this.#timer !== null) return;
    const { stallTimeoutMs, contendedStallTimeoutMs } = this.#options;
    const intervalMs = Math.min(1_000, stallTimeoutMs / 4, contendedStallTimeoutMs / 4);
    this.#timer = setInterval(() => this.#endStalled(), intervalMs);
    this.#timer.unref();
  }

  #endStalled(): void {
    const { stallTimeoutMs, contendedStallTimeoutMs } = this.#options;
    const waiting = [...this.#waiting].map((waiter) => waiter.answer);
    // Who waits for answers of their own cuts off nobody else.
    const lacksRoom = waiting.some(({ bytes, userId }) => this.#userHasRoom(bytes, userId));
    const waitingUsers = new Set(waiting.map(({ userId }) => userId));
    const nowMs = performance.now();
    for (const { progressAtMs, response, userId } of this.#answers) {
      const isContended = lacksRoom || waitingUsers.has(userId);
      const timeoutMs = isContended ? contendedStallTimeoutMs : stallTimeoutMs;
      if (nowMs - progressAtMs >= timeoutMs) response.destroy();
    }
    if (lacksRoom) this.#endOldestOverShare(waitingUsers, nowMs);
    if (this.#answers.size > 0 || this.#timer === null) return;
    clearInterval(this.#timer);
    this.#timer = null;
  }

  /** One at a time: the next one ends with the next look, if there is still no room. */
  #endOldestOverShare(waitingUsers: ReadonlySet<string>, nowMs: number): void {
    const { maxBytes, contendedStallTimeoutMs } = this.#options;
    const userBytes = new Map<string, number>();
    for (const { bytes, userId } of this.#answers) {
      // Ending one of several answers that share a buffer frees little.
      const ownBytes = bytes.length / (this.#shares.get(bytes) ?? 1);
      userBytes.set(userId, (userBytes.get(userId) ?? 0) + ownBytes);
    }
    const shareBytes = maxBytes / new Set([...userBytes.keys(), ...waitingUsers]).size;
    for (const { userId, response, heldSinceMs } of this.#answers) {
      const isOverShare = (userBytes.get(userId) ?? 0) > shareBytes;
      if (!isOverShare || response.destroyed || nowMs - heldSinceMs < contendedStallTimeoutMs) continue;
      response.destroy();
      return;
    }
  }
}

/** The bytes in chunks, each made when the one before has been taken. */
function streamOf(bytes: Buffer, onProgress: () => void): ReadableStream<Uint8Array> {
  let offset = 0;
  return new ReadableStream<Uint8Array>(
    {
      pull: (controller) => {
        onProgress();
        if (offset >= bytes.length) controller.close();
        else controller.enqueue(bytes.subarray(offset, (offset += chunkBytes)));
      },
    },
    { highWaterMark: 0 },
  );
}
