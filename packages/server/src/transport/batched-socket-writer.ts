import { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { describeError } from '../describe.js';
import { SubmissionQueue } from './io-uring.js';

/** Whose bytes can be gathered: a peer over a socket that `handleOf` knows. */
export interface BatchedConnection {
  /** Whether bytes of it are waiting here; for `BatchedSocketWriter` alone. */
  isGathered: boolean;
  /** Where bytes can be sent right now; null: not past the socket, which has others waiting or is closing. */
  readonly descriptor: number | null;
  /** Hands bytes to the socket, which keeps what the network does not take; false: more than a little is waiting. */
  writeThrough(bytes: Buffer): boolean;
  /** What `writeThrough` has said of bytes that had been taken for sent; must not be called before all are handed on. */
  wrote(taken: boolean): void;
  /** Ends the connection, whose network has gone. */
  terminate(): void;
}

/** What a socket of Node writes to; let go of as soon as the socket is destroyed. */
export interface SocketHandle {
  readonly fd: number;
}

/** What the network has not taken of a peer's bytes. */
interface Rest {
  readonly peer: BatchedConnection;
  readonly bytes: Buffer;
}

/**
 * Writes to many sockets in one system call, where the kernel has such a call: an event for a thousand peers
 * is a thousand writes else, and those are most of what it costs.
 *
 * What is gathered is sent before anything else of the event loop can happen. Each peer is asked right then
 * where its bytes go: code of the host that is told of something meanwhile may have closed it.
 */
export class BatchedSocketWriter {
  readonly #ring: SubmissionQueue;
  readonly #onGivenUp: () => void;
  #isGivenUp = false;
  readonly #peers: BatchedConnection[] = [];
  readonly #bytes: Buffer[] = [];
  #isGathering = false;

  /** `onGivenUp` is called once, when a completion was not seen; from then on each peer is written to by itself. */
  constructor(ring: SubmissionQueue, onGivenUp: () => void) {
    this.#ring = ring;
    this.#onGivenUp = onGivenUp;
  }

  /** Does `work`; what it writes to peers goes out meanwhile, or when this returns at the latest. */
  readonly cork = (work: () => void): void => {
    const wasGathering = this.#isGathering;
    this.#isGathering = true;
    try {
      work();
    } finally {
      this.#isGathering = wasGathering;
      this.flush();
    }
  };

  /** Takes bytes of a peer, to be sent with those of others; false: they are to be written now. */
  take(peer: BatchedConnection, bytes: Buffer): boolean {
    // None may overtake earlier ones of the same peer; nor in one call, where some of those may be left.
    if (peer.isGathered || this.#peers.length === SubmissionQueue.capacity) this.flush();
    if (!this.#isGathering || this.#isGivenUp || bytes.length > SubmissionQueue.stagedBytes) return false;
    peer.isGathered = true;
    this.#peers.push(peer);
    this.#bytes.push(bytes);
    return true;
  }

  /** Sends what waits here. */
  flush(): void {
    if (this.#peers.length === 0) return;
    const rests = this.#send();
    const told = rests.map(({ peer, bytes }) => ({ peer, taken: peer.writeThrough(bytes) }));
    // Only now: code of the host that is told of it may write to any of them.
    for (const { peer, taken } of told) peer.wrote(taken);
  }

  /** Sends what can go past the sockets, and returns what is left for these. */
  #send(): Rest[] {
    const peers = this.#peers;
    const rests: Rest[] = [];
    let sending = 0;
    for (const [index, bytes] of this.#bytes.entries()) {
      const peer = peers[index] as BatchedConnection;
      peer.isGathered = false;
      const { descriptor } = peer;
      if (descriptor === null) {
        rests.push({ peer, bytes });
        continue;
      }
      if (!this.#ring.hasRoom(bytes)) {
        this.#submit(sending, rests);
        sending = 0;
      }
      this.#ring.add(descriptor, bytes);
      // Those that are being sent come first in both.
      peers[sending] = peer;
      this.#bytes[sending] = bytes;
      sending += 1;
    }
    this.#submit(sending, rests);
    this.#peers.length = 0;
    this.#bytes.length = 0;
    return rests;
  }

  /** Sends what the ring was given, of as many peers. */
  #submit(sending: number, rests: Rest[]): void {
    // Another server of this process may have given the queue up.
    if (!this.#ring.isReliable()) {
      for (let index = 0; index < sending; index += 1) {
        rests.push({ peer: this.#peers[index] as BatchedConnection, bytes: this.#bytes[index] as Buffer });
      }
      this.#giveUp();
      return;
    }
    const results = this.#ring.submit();
    if (!this.#ring.isReliable()) this.#giveUp();
    for (let index = 0; index < sending; index += 1) {
      const peer = this.#peers[index] as BatchedConnection;
      const bytes = this.#bytes[index] as Buffer;
      const taken = results[index] ?? 0;
      if (taken < 0) peer.terminate();
      else if (taken < bytes.length) rests.push({ peer, bytes: bytes.subarray(taken) });
    }
  }

  #giveUp(): void {
    if (this.#isGivenUp) return;
    this.#isGivenUp = true;
    this.#onGivenUp();
  }
}

/**
 * What the socket writes to, where that is a TCP connection and the bytes go there as they are; else null:
 * TLS, or a stream of the host's, changes them on the way.
 *
 * Node describes neither the handle nor its descriptor; both have been there in all its versions, and where
 * they are not, peers are written to one by one.
 */
export function handleOf(socket: Duplex): SocketHandle | null {
  if (Object.getPrototypeOf(socket) !== Socket.prototype || Object.hasOwn(socket, 'write')) return null;
  const { _handle: handle = null } = socket as { _handle?: SocketHandle | null };
  return handle?.constructor.name === 'TCP' && handle.fd >= 0 ? handle : null;
}

/** How a server writes to many peers. */
export interface SocketWriter {
  /** Null: to each by itself. */
  readonly batchedSocketWriter: BatchedSocketWriter | null;
  /** To each by itself, because: */
  readonly reason: string | null;
  readonly cork: (work: () => void) => void;
}

/** Servers of one process write in turns: one ring is enough, and it lasts as long as the process. */
let ring: SubmissionQueue | null = null;

/** Together where it is wanted and the machine can, else one by one; `onGivenUp` as for BatchedSocketWriter. */
export function openSocketWriter(isWanted: boolean, onGivenUp: () => void = () => undefined): SocketWriter {
  try {
    if (!isWanted) throw new Error('it is switched off');
    ring ??= new SubmissionQueue();
    if (!ring.isReliable()) throw new Error('a completion was not seen, so the queue was given up');
    const batchedSocketWriter = new BatchedSocketWriter(ring, onGivenUp);
    return { batchedSocketWriter, reason: null, cork: batchedSocketWriter.cork };
  } catch (error) {
    return { batchedSocketWriter: null, reason: describeError(error), cork: (work) => work() };
  }
}
