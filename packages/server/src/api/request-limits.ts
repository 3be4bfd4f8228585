import type { ServerResponse } from 'node:http';
import { HttpProblem } from '../http-problem.js';

/** How long a request waits for its turn or for memory, in milliseconds. */
const waitTimeoutMs = 10_000;

/** Waiting requests, in their order of arrival. A request leaves after the time-out or when its client disconnects. */
class RequestQueue<Item> {
  readonly #waiting = new Map<Item, () => void>();

  get items(): Item[] {
    return [...this.#waiting.keys()];
  }

  get size(): number {
    return this.#waiting.size;
  }

  /** Resolves when `start` is called with this item; else throws `refusal()`. */
  async wait(
    item: Item,
    { response, refusal }: { response: ServerResponse; refusal: () => Error },
  ): Promise<void> {
    await new Promise<void>((resolve, reject) => {
      const leave = (settle: () => void) => (): void => {
        clearTimeout(timer);
        response.off('close', abandon);
        this.#waiting.delete(item);
        settle();
      };
      const abandon = leave(() => reject(refusal()));
      const timer = setTimeout(abandon, waitTimeoutMs);
      response.once('close', abandon);
      this.#waiting.set(item, leave(resolve));
    });
  }

  start(item: Item): void {
    this.#waiting.get(item)?.();
  }
}

/** How many expensive requests of one user run at the same time. */
const maxRunning = 2;
/** How many more wait: four tabs with seven channels each, and the pages around them. */
const maxWaiting = 64;

/** Limits the expensive requests of each user. A page sends several at once, so some wait for their turn. */
export class RequestSlots {
  readonly #maxRunning: number;
  readonly #users = new Map<string, { running: number; readonly queue: RequestQueue<object> }>();

  constructor(running = maxRunning) {
    this.#maxRunning = running;
  }

  /** Runs `work` in a slot of the user. Throws HttpProblem if no slot becomes free, else what `work` throws. */
  async run<Result>(userId: string, response: ServerResponse, work: () => Promise<Result>): Promise<Result> {
    const user = this.#users.get(userId) ?? { running: 0, queue: new RequestQueue() };
    const { queue } = user;
    this.#users.set(userId, user);
    if (user.running < this.#maxRunning) user.running += 1;
    else if (queue.size >= maxWaiting) throw tooManyRequests();
    else await queue.wait({}, { response, refusal: tooManyRequests });
    try {
      return await work();
    } finally {
      const [next] = queue.items;
      // The next request takes over the slot.
      if (next !== undefined) queue.start(next);
      else user.running -= 1;
      if (user.running === 0) this.#users.delete(userId);
    }
  }
}

function tooManyRequests(): Error {
  return new HttpProblem(
    'too_many_requests',
    'You have too many snapshots, lists and searches under way: wait until some of them are answered',
    { retryAfterSeconds: 2 },
  );
}

interface HeldResponse {
  readonly bytes: Buffer;
  readonly userId: string;
  readonly response: ServerResponse;
  /** When it got its memory, and when the client last read from it, on the clock of performance.now(). */
  heldSinceMs: number;
  progressAtMs: number;
}

/** How many bytes the socket gets at a time. The next chunk is progress of the client. */
const chunkBytes = 65_536;

/**
 * Limits the bytes of large responses that clients have not read yet. Responses that share a buffer count once in the
 * total; one user may hold half of it. As many bytes may wait as may be held. While a response waits for memory, stalled
 * responses end, and slow ones of users who hold more than an equal share. Otherwise the time-out of the HTTP server
 * ends stalled responses.
 */
export class ResponseMemory {
  readonly #maxBytes: number;
  readonly #stallTimeoutMs: number;
  readonly #held = new Set<HeldResponse>();
  readonly #waiting = new RequestQueue<HeldResponse>();
  /** How many held responses share a buffer. */
  readonly #shares = new Map<Buffer, number>();
  readonly #userBytes = new Map<string, number>();
  #heldBytes = 0;
  /** Runs while responses wait. */
  #timer: NodeJS.Timeout | undefined;

  /**
   * `maxBytes` of unread responses are held; while others wait, a response ends after `stallTimeoutMs` without progress
   * (default 5,000).
   */
  constructor({ maxBytes, stallTimeoutMs = 5_000 }: { maxBytes: number; stallTimeoutMs?: number }) {
    this.#maxBytes = maxBytes;
    this.#stallTimeoutMs = stallTimeoutMs;
  }

  get heldBytes(): number {
    return this.#heldBytes;
  }

  /** The body of a response, as soon as there is memory for it. Throws HttpProblem after the time-out. */
  async body(bytes: Buffer, userId: string, response: ServerResponse): Promise<ReadableStream> {
    const held = { bytes, userId, response, heldSinceMs: 0, progressAtMs: 0 };
    if (this.#hasRoom(held)) this.#hold(held);
    else await this.#wait(held);
    if (response.destroyed) this.#release(held);
    else response.once('close', () => this.#release(held));
    return streamOf(bytes, () => (held.progressAtMs = performance.now()));
  }

  /** A response that is larger than the limit is sent when it is the only one. */
  #hasRoom({ bytes, userId }: HeldResponse): boolean {
    const added = this.#shares.has(bytes) ? 0 : bytes.length;
    return (
      this.#userHasRoom(bytes, userId) && (this.#heldBytes === 0 || this.#heldBytes + added <= this.#maxBytes)
    );
  }

  #userHasRoom(bytes: Buffer, userId: string): boolean {
    const held = this.#userBytes.get(userId) ?? 0;
    return held === 0 || held + bytes.length <= this.#maxBytes / 2;
  }

  #hold(held: HeldResponse): void {
    const { bytes, userId } = held;
    held.heldSinceMs = held.progressAtMs = performance.now();
    this.#held.add(held);
    if (addTo(this.#shares, bytes, 1) === 1) this.#heldBytes += bytes.length;
    addTo(this.#userBytes, userId, bytes.length);
  }

  #release(held: HeldResponse): void {
    const { bytes, userId } = held;
    this.#held.delete(held);
    if (addTo(this.#shares, bytes, -1) === 0) this.#heldBytes -= bytes.length;
    addTo(this.#userBytes, userId, -bytes.length);
    for (const next of this.#waiting.items) {
      if (!this.#hasRoom(next)) continue;
      this.#hold(next);
      this.#waiting.start(next);
    }
  }

  async #wait(held: HeldResponse): Promise<void> {
    const { bytes, userId, response } = held;
    const refusal = (): Error =>
      this.#userHasRoom(bytes, userId)
        ? new HttpProblem('busy', 'The server is sending too many large answers: try again shortly', {
            retryAfterSeconds: 5,
          })
        : new HttpProblem(
            'too_many_requests',
            'You have not read earlier answers of this server yet: read or close them, then try again',
            { retryAfterSeconds: 5 },
          );
    const buffers = new Set([bytes, ...this.#waiting.items.map((other) => other.bytes)]);
    const waitingBytes = [...buffers].reduce((sum, { length }) => sum + length, 0);
    if (buffers.size > 1 && waitingBytes > this.#maxBytes) throw refusal();
    this.#timer ??= setInterval(() => this.#endSlowResponses(), Math.min(1_000, this.#stallTimeoutMs / 4));
    try {
      await this.#waiting.wait(held, { response, refusal });
    } finally {
      if (this.#waiting.size === 0) {
        clearInterval(this.#timer);
        this.#timer = undefined;
      }
    }
  }

  /** Makes room for waiting responses. A user who waits for own responses to end ends no responses of others. */
  #endSlowResponses(): void {
    const waiting = this.#waiting.items;
    const waitingUsers = new Set(waiting.map(({ userId }) => userId));
    const othersWait = waiting.some(({ bytes, userId }) => this.#userHasRoom(bytes, userId));
    const latestMs = performance.now() - this.#stallTimeoutMs;
    const userBytes = new Map<string, number>();
    for (const { bytes, userId, response, progressAtMs } of this.#held) {
      if (progressAtMs <= latestMs && (othersWait || waitingUsers.has(userId))) response.destroy();
      // Ending one of several responses that share a buffer frees little.
      addTo(userBytes, userId, bytes.length / (this.#shares.get(bytes) ?? 1));
    }
    if (!othersWait) return;
    const shareBytes = this.#maxBytes / new Set([...userBytes.keys(), ...waitingUsers]).size;
    for (const { userId, response, heldSinceMs } of this.#held) {
      const isOverShare = (userBytes.get(userId) ?? 0) > shareBytes;
      if (!isOverShare || response.destroyed || heldSinceMs > latestMs) continue;
      response.destroy();
      // One at a time: the next call ends another one if there is still no room.
      return;
    }
  }
}

/** Adds to a count, and removes it at zero. Returns the new count. */
function addTo<Key>(counts: Map<Key, number>, key: Key, added: number): number {
  const count = (counts.get(key) ?? 0) + added;
  if (count === 0) counts.delete(key);
  else counts.set(key, count);
  return count;
}

/** The bytes in chunks; each is created when the one before has been taken. */
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
