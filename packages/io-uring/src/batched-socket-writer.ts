import type { BatchedConnection, SocketWriter } from 'flagcast';
import { SubmissionQueue } from './submission-queue.js';

/** Up to so many writes cost less by themselves than in one submission, measured with 300 bytes each. */
const maxPlainWrites = 16;

/** Bytes that the kernel has not accepted. */
interface Remainder {
  readonly connection: BatchedConnection;
  readonly bytes: Buffer;
}

/**
 * Collects writes while it is corked, and submits them together: an event for a thousand connections is a thousand
 * writes, which cost more than all else.
 *
 * Corking ends before anything else in the event loop can happen. A connection's descriptor is read directly before
 * the submission, because code of the host may have closed the connection meanwhile.
 */
export class BatchedSocketWriter implements SocketWriter {
  readonly name = 'io_uring';
  readonly #queue: SubmissionQueue;
  readonly #onFailure: () => void;
  readonly #maxPlain: number;
  #hasFailed = false;
  #isCorked = false;
  readonly #connections: BatchedConnection[] = [];
  readonly #bytes: Buffer[] = [];

  /** `onFailure` is called once, if a completion is missing. From then on every write is a plain one. */
  constructor(queue: SubmissionQueue, onFailure: () => void, maxPlain = maxPlainWrites) {
    this.#queue = queue;
    this.#onFailure = onFailure;
    this.#maxPlain = maxPlain;
  }

  cork(work: () => void): void {
    const wasCorked = this.#isCorked;
    this.#isCorked = true;
    try {
      work();
    } finally {
      this.#isCorked = wasCorked;
      this.flush();
    }
  }

  write(connection: BatchedConnection, bytes: Buffer): boolean {
    // A submission has at most one write of a connection: a short write must not be overtaken by a later one.
    if (connection.isBatched || this.#connections.length === SubmissionQueue.capacity) this.flush();
    if (!this.#isCorked || this.#hasFailed || bytes.length > SubmissionQueue.maxBytes) {
      return connection.writeToSocket(bytes);
    }
    connection.isBatched = true;
    this.#connections.push(connection);
    this.#bytes.push(bytes);
    return true;
  }

  flush(): void {
    if (this.#connections.length === 0) return;
    const written = this.#send().map(({ connection, bytes }) => ({
      connection,
      hasRoom: connection.writeToSocket(bytes),
    }));
    // Not before all are written: it may run code of the host that writes to any of them.
    for (const { connection, hasRoom } of written) connection.onWritten(hasRoom);
  }

  /** Submits what can bypass the sockets, and returns the rest. */
  #send(): Remainder[] {
    const connections = this.#connections;
    const isPlain = connections.length <= this.#maxPlain;
    const remainders: Remainder[] = [];
    let queued = 0;
    for (const [index, bytes] of this.#bytes.entries()) {
      const connection = connections[index] as BatchedConnection;
      connection.isBatched = false;
      const descriptor = isPlain ? null : connection.descriptor;
      if (descriptor === null) {
        remainders.push({ connection, bytes });
        continue;
      }
      if (!this.#queue.hasRoom(bytes)) {
        this.#submit(queued, remainders);
        queued = 0;
      }
      this.#queue.add(descriptor, bytes);
      // Both arrays begin with the writes that are queued.
      connections[queued] = connection;
      this.#bytes[queued] = bytes;
      queued += 1;
    }
    this.#submit(queued, remainders);
    this.#connections.length = 0;
    this.#bytes.length = 0;
    return remainders;
  }

  #submit(queued: number, remainders: Remainder[]): void {
    if (queued === 0) return;
    // Another server of this process may have found the queue unreliable.
    const results = this.#queue.isReliable() ? this.#queue.submit() : null;
    if (!this.#queue.isReliable()) this.#fail();
    for (let index = 0; index < queued; index += 1) {
      const connection = this.#connections[index] as BatchedConnection;
      const bytes = this.#bytes[index] as Buffer;
      const accepted = results === null ? 0 : (results[index] ?? 0);
      if (accepted < 0) connection.terminate();
      else if (accepted < bytes.length) remainders.push({ connection, bytes: bytes.subarray(accepted) });
    }
  }

  #fail(): void {
    if (this.#hasFailed) return;
    this.#hasFailed = true;
    this.#onFailure();
  }
}
