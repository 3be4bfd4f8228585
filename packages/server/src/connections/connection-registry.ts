import { CloseCode, type FreshnessMessage } from '@flagcast/protocol';
import type { Channel, User } from '../auth/table-authorization.js';
import type { Heartbeat } from './heartbeat.js';
import type { Lifecycle } from '../lifecycle.js';

/** A connection, as those who look after all of them see it. */
export interface OpenConnection {
  /** A number of its own, given by `ConnectionRegistry.add`. */
  connectionId: number;
  readonly user: User;
  /** `plain`, `flagcast.v1` or `sse`. */
  readonly dialect: string;
  /** When its token ends, in milliseconds since the epoch. */
  expiresAtMs: number;
  /** False from a ping to the answer. */
  answered: boolean;
  /** Since when it is not keeping up, in milliseconds since the epoch; null while it does. */
  readonly pausedSinceMs: number | null;
  readonly connection: {
    channels(): Channel[];
    /** Ends what its user may no longer see; true: there was such a thing. */
    revoke(mayView: (channel: Channel) => boolean): boolean;
    /** Tells it where it stands, if its dialect has words for that. */
    heartbeat(beat: Heartbeat): void;
    /** Sends whether the server is fresh, if its dialect has a message for that. */
    freshness(message: FreshnessMessage): void;
    close(code: CloseCode, reason: string): void;
  };
  /** Asks whether it is there; where the transport has no such question it counts as answered. */
  ping(): void;
  /** Says something without meaning, and without an answer, where nothing was said since this was called last. */
  keepOpen(): void;
  /** Cuts it off without a word. */
  terminate(): void;
}

/** Into so many equal parts the peers are divided, for those who look after all of them a part at a time. */
export const connectionParts = 60;

/** All that are connected, over whatever transport. */
export class ConnectionRegistry {
  readonly #lifecycle: Lifecycle;
  readonly #open = new Set<OpenConnection>();
  readonly #parts = Array.from({ length: connectionParts }, () => new Set<OpenConnection>());
  #nextId = 1;
  #draining = false;
  #whenEmpty: (() => void) | null = null;

  constructor(lifecycle: Lifecycle) {
    this.#lifecycle = lifecycle;
  }

  get open(): ReadonlySet<OpenConnection> {
    return this.#open;
  }

  /** How many there are, and how many of them are paused because they do not read. */
  count(): { all: number; paused: number } {
    let paused = 0;
    for (const { pausedSinceMs } of this.#open) if (pausedSinceMs !== null) paused += 1;
    return { all: this.#open.size, paused };
  }

  /** Those in the parts from number `first`, counted from 0, to before number `end`; a peer stays in its part. */
  *parts(first: number, end: number): Iterable<OpenConnection> {
    for (const part of this.#parts.slice(first, end)) yield* part;
  }

  /** Nobody new may come in. */
  get draining(): boolean {
    return this.#draining;
  }

  /** Counts the peer in. */
  add(peer: OpenConnection): void {
    peer.connectionId = this.#nextId;
    this.#nextId += 1;
    this.#open.add(peer);
    this.#partOf(peer)?.add(peer);
    this.#lifecycle.emit('connection:opened', described(peer));
  }

  /** Counts the peer out, with how it ended. */
  remove(peer: OpenConnection, code: number, reason: string): void {
    if (!this.#open.delete(peer)) return;
    this.#partOf(peer)?.delete(peer);
    this.#lifecycle.emit('connection:closed', { ...described(peer), code, reason });
    if (this.#open.size === 0) this.#whenEmpty?.();
  }

  reportPaused({ dialect }: Pick<OpenConnection, 'dialect'>): void {
    this.#lifecycle.emit('connection:paused', { dialect });
  }

  reportDrained({ dialect }: Pick<OpenConnection, 'dialect'>, pausedMs: number): void {
    this.#lifecycle.emit('connection:drained', { dialect, pausedMs });
  }

  #partOf({ connectionId }: OpenConnection): Set<OpenConnection> | undefined {
    return this.#parts[connectionId % connectionParts];
  }

  /** Refuses newcomers, asks every peer to reconnect elsewhere, and waits until they have left. */
  async drain(timeoutMs: number): Promise<void> {
    this.#draining = true;
    for (const { connection } of this.#open)
      connection.close(CloseCode.draining, 'the server is shutting down');
    if (this.#open.size === 0) return;
    await new Promise<void>((resolve) => {
      const giveUp = setTimeout(() => {
        for (const peer of this.#open) peer.terminate();
      }, timeoutMs);
      this.#whenEmpty = () => {
        clearTimeout(giveUp);
        resolve();
      };
    });
  }
}

function described({ connectionId, user, dialect }: OpenConnection): {
  connectionId: number;
  userId: string;
  dialect: string;
} {
  return { connectionId, userId: user.id, dialect };
}
