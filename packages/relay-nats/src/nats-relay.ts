import { randomUUID } from 'node:crypto';
import {
  backoffMs,
  type Batch,
  type CreateRelay,
  type FlagEvent,
  parseRelayUrl,
  type Position,
  type Relay,
  type RelayContext,
} from 'flagcast/relay-support';
import { EventLog } from './event-log.js';
import { loggedSince } from './logged-events.js';
import { RelayNode } from './relay-node.js';
import { encode } from './messages.js';
import { NatsConnection, type NatsSession } from './nats-connection.js';
import { WatchedChannels } from './watched-channels.js';

export interface NatsRelayOptions {
  /** `nats://user:password@host:port`, several separated by commas; `tls://` requires TLS. */
  readonly url: string;
  /** How long NATS keeps events for clients that come back, in milliseconds. Default 3,600,000 (1 h). */
  readonly retentionMs?: number;
}

/**
 * The relay for the option `relay` of `createFlagcast`.
 *
 * @throws Error if the URL is invalid.
 */
export function natsRelay({ url, retentionMs = 3_600_000 }: NatsRelayOptions): CreateRelay {
  parseRelayUrl(url);
  return (context) => new NatsRelay({ ...context, url, retentionMs });
}

type Options = RelayContext & Required<NatsRelayOptions>;

/** Questions of a server that are remembered. */
const maxQuestions = 100;

/**
 * Lets the servers of one database share one reader, by way of NATS. Without NATS, and until there is a reader,
 * each reads the database for itself.
 */
class NatsRelay implements Relay {
  readonly #options: Options;
  readonly #line: NatsConnection;
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

  constructor(options: Options) {
    this.#options = options;
    const { url, lifecycle } = options;
    this.#watched = new WatchedChannels((channel, isWanted) => this.#relayNode?.watch(channel, isWanted));
    this.#line = new NatsConnection({
      url,
      lifecycle,
      onConnected: (line) => {
        this.#up = line;
        this.#leave('the connection to NATS was made anew', false);
        this.#join();
      },
      onDisconnected: () => {
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
  delivered(batch: Batch): void {
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
      this.#options.reader.requestBatch();
      return;
    }
    if (this.#isAsking) return;
    // All who ask in this turn ask together.
    this.#isAsking = true;
    setImmediate(() => {
      this.#isAsking = false;
      this.#log?.say('ask', encode(this.#question()));
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
    await this.#line.close();
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
    const { reader } = this.#options;
    if (line === null || newest === null || this.#isEnded) return;
    if (this.#isJoining || this.#relayNode !== null || this.#retryTimer !== null) return;
    if (this.#refuse()) return;
    this.#isJoining = true;
    // Who may not read the features gets events without their states: that is another log.
    const id = `${newest.position.history}${reader.source?.hasState === true ? '' : '-bare'}`;
    this.#joinAs(line, id)
      .then(() => (this.#attempts = 0))
      .catch((error: unknown) => this.#failed(error))
      .finally(() => (this.#isJoining = false));
  }

  async #joinAs(line: NatsSession, id: string): Promise<void> {
    const { retentionMs, openSession, reader, lifecycle } = this.#options;
    const log = await EventLog.open(line, { id, retentionMs });
    const newest = this.#newest;
    if (this.#isEnded || this.#up !== line || newest === null) return;
    const relayNode = new RelayNode({
      log,
      id,
      openSession,
      source: reader,
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
    const { reader, lifecycle } = this.#options;
    const refusal =
      reader.source?.guarantee !== 'exact'
        ? {
            message:
              'there is no event log, without which servers cannot share what one of them reads: each reads the database for itself',
            fix: 'run flagcast install, or unset FLAGCAST_RELAY_URL',
          }
        : reader.readsReplica
          ? {
              message:
                'replicas are not equally far, so servers cannot share what one of them reads there: each reads its own for itself',
              fix: 'let DATABASE_URL lead to the primary, or unset FLAGCAST_RELAY_URL',
            }
          : null;
    if (refusal === null) return false;
    if (this.#refused !== refusal.message) lifecycle.emit('relay:refused', refusal);
    this.#refused = refusal.message;
    return true;
  }
}
