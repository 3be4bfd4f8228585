import { randomUUID } from 'node:crypto';
import type { Batch, FlagEvent } from '../events/event.js';
import type { Position } from '../events/position.js';
import type { SessionSlots } from '../postgres/session-slots.js';
import type { Lifecycle } from '../lifecycle.js';
import { backoffMs } from '../retry.js';
import type { BatchSource } from '../reader/batch-source.js';
import { EventLog } from './event-log.js';
import { loggedSince } from './logged-events.js';
import { Line } from './line.js';
import { RelayNode } from './relay-node.js';
import { encodeAsk } from './messages.js';
import type { NatsSession } from './nats.js';
import { parseRelayUrl } from './relay-url.js';
import { WatchedChannels } from './watched-channels.js';

export interface RelayOptions {
  /** `nats://user:password@host:port`, several by commas. */
  readonly url: string;
  /** How long the log keeps events, in milliseconds. */
  readonly keepMs: number;
  /** Where the reader's lock is: straight to the database. */
  readonly lockUrl: string;
  /** Where the session of the lock counts. */
  readonly slots: SessionSlots;
  readonly source: BatchSource;
  readonly lifecycle: Lifecycle;
}

/** Questions of a server that are remembered. */
const maxQuestions = 100;

/**
 * Lets the servers of one database share one reader, by way of NATS. Without NATS, and until there is a reader,
 * each reads the database for itself.
 */
export class Relay {
  readonly #options: RelayOptions;
  readonly #line: Line;
  readonly #watched: WatchedChannels;
  #up: NatsSession | null = null;
  #newest: Batch | null = null;
  #log: EventLog | null = null;
  #triggerProblem: string | null = null;
  #relayNode: RelayNode | null = null;
  #refused: string | null = null;
  #isJoining = false;
  #attempts = 0;
  #retryTimer: NodeJS.Timeout | null = null;
  /** Our questions, and when they were asked. */
  readonly #questions = new Map<string, number>();
  #isAsking = false;
  #isEnded = false;

  /** @throws Error where the URL is wrong. */
  constructor(options: RelayOptions) {
    this.#options = options;
    const { url, lifecycle } = options;
    parseRelayUrl(url);
    this.#watched = new WatchedChannels((channel, isWanted) => this.#relayNode?.watch(channel, isWanted));
    this.#line = new Line({
      url,
      lifecycle,
      onUp: (line) => {
        this.#up = line;
        this.#leave('the connection to NATS was made anew', false);
        this.#join();
      },
      onDown: () => {
        this.#up = null;
        this.#leave('the connection to NATS was lost', false);
      },
    });
    lifecycle.on('reader:failed', () => this.#relayNode?.readFailed());
    lifecycle.on('reader:triggers', ({ problem }) => (this.#triggerProblem = problem));
  }

  start(): void {
    this.#line.start();
  }

  /** To be told who watches what. */
  watch(channel: string, isWatched: boolean): void {
    this.#watched.watch(channel, isWatched);
  }

  /** To be told of every batch that was handed on. */
  handedOn(batch: Batch): void {
    this.#newest = batch;
    if (this.#relayNode === null) this.#join();
    else this.#relayNode.handedOn(batch);
  }

  /** What comes next is another history, with another log. */
  historyLost(): void {
    this.#newest = null;
    this.#refused = null;
    this.#leave('the database has another history', true);
  }

  /** Asks for a batch that is read from now on. */
  requestBatch(): void {
    if (this.#relayNode?.isFollowing !== true) {
      this.#options.source.requestBatch();
      return;
    }
    if (this.#isAsking) return;
    // All who ask in this turn ask together.
    this.#isAsking = true;
    setImmediate(() => {
      this.#isAsking = false;
      this.#log?.say('ask', encodeAsk(this.#question()));
    });
  }

  /**
   * What somebody at the position has missed in the channel, out of the log of NATS; null where that cannot tell,
   * or has not got as far as what is handed on here.
   */
  async missedSince(channel: string, position: Position): Promise<FlagEvent[] | null> {
    const applied = this.#relayNode?.applied ?? null;
    if (this.#log === null || applied === null) return null;
    // The database knows it as well.
    return await loggedSince(this.#log, channel, position, applied).catch(() => null);
  }

  async stop(): Promise<void> {
    this.#isEnded = true;
    if (this.#retryTimer !== null) clearTimeout(this.#retryTimer);
    this.#watched.end();
    await this.#relayNode?.end({ reason: 'the server ends', leaves: true, isLast: true });
    this.#relayNode = null;
    await this.#line.end();
  }

  #question(): string {
    const question = randomUUID();
    this.#questions.set(question, performance.now());
    for (const oldest of this.#questions.keys()) {
      if (this.#questions.size <= maxQuestions) break;
      this.#questions.delete(oldest);
    }
    return question;
  }

  #leave(reason: string, leaves: boolean): void {
    const relayNode = this.#relayNode;
    this.#relayNode = null;
    this.#log = null;
    void relayNode?.end({ reason, leaves });
  }

  /** Joins the others as soon as NATS answers and it is known what is read. */
  #join(): void {
    const line = this.#up;
    const newest = this.#newest;
    const { source } = this.#options;
    if (line === null || newest === null || this.#isEnded) return;
    if (this.#isJoining || this.#relayNode !== null || this.#retryTimer !== null) return;
    if (this.#refuse()) return;
    this.#isJoining = true;
    // Who may not read the features gets events without their states: that is another log.
    const id = `${newest.position.history}${source.source?.hasState === true ? '' : '-bare'}`;
    this.#joinAs(line, id)
      .then(() => (this.#attempts = 0))
      .catch((error: unknown) => this.#failed(error))
      .finally(() => (this.#isJoining = false));
  }

  async #joinAs(line: NatsSession, id: string): Promise<void> {
    const { keepMs, lockUrl, slots, source, lifecycle } = this.#options;
    const log = await EventLog.open(line, { id, keepMs });
    const newest = this.#newest;
    if (this.#isEnded || this.#up !== line || newest === null) return;
    const relayNode = new RelayNode({
      log,
      id,
      lockUrl,
      slots,
      source,
      wanted: this.#watched.wanted,
      lifecycle,
      triggerProblem: () => this.#triggerProblem,
      newest: () => this.#newest ?? newest,
      askedAtMs: (question) => this.#questions.get(question) ?? null,
      onFailed: (error) => {
        this.#leave('NATS does not answer', false);
        this.#failed(error);
      },
    });
    this.#log = log;
    this.#relayNode = relayNode;
    await relayNode.start();
  }

  #failed(error: unknown): void {
    this.#leave('NATS does not answer', false);
    if (this.#isEnded) return;
    this.#attempts += 1;
    const retryInMs = backoffMs(this.#attempts);
    this.#retryTimer = setTimeout(() => {
      this.#retryTimer = null;
      this.#join();
    }, retryInMs);
    if (this.#up === null) return;
    const reason = error instanceof Error ? error : new Error(String(error));
    this.#options.lifecycle.emit('relay:failed', { error: reason, attempt: this.#attempts, retryInMs });
  }

  /** What the relay would do worse than each server for itself. */
  #refuse(): boolean {
    const { source, lifecycle } = this.#options;
    const refusal =
      source.source?.guarantee !== 'exact'
        ? {
            what: 'there is no event log, without which servers cannot share what one of them reads: each reads the database for itself',
            mend: 'run flagcast install, or unset FLAGCAST_RELAY_URL',
          }
        : source.readsReplica
          ? {
              what: 'replicas are not equally far, so servers cannot share what one of them reads there: each reads its own for itself',
              mend: 'let DATABASE_URL lead to the primary, or unset FLAGCAST_RELAY_URL',
            }
          : null;
    if (refusal === null) return false;
    if (this.#refused !== refusal.what) lifecycle.emit('relay:refused', refusal);
    this.#refused = refusal.what;
    return true;
  }
}
