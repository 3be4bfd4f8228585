import {
  type Batch,
  type CreateRelay,
  type FlagEvent,
  parseRelayUrl,
  type Position,
  type Relay,
  type RelayContext,
  type RelayTopic,
  retry,
  toError,
  type TopicReceiver,
} from 'flagcast/support';
import { EventLog } from './event-log.js';
import { loggedSince } from './logged-events.js';
import { NatsConnection, type NatsSession } from './nats-connection.js';
import { RelayNode } from './relay-node.js';
import { TopicExchange } from './topic-exchange.js';

export interface NatsRelayOptions {
  /** `nats://user:password@host:port`, all servers of a cluster separated by commas; `tls://` requires TLS. */
  readonly url: string;
  /** How long NATS keeps events for clients that reconnect, in milliseconds. Default 3,600,000 (1 h). */
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

const noResponse = { reason: 'NATS does not respond', leaves: false, isLast: false };

/** Without NATS, and while no server leads, this server reads the database for itself. */
class NatsRelay implements Relay {
  readonly #options: RelayContext & Required<NatsRelayOptions>;
  readonly #connection: NatsConnection;
  readonly #watched = new WatchedChannels((channel, isWatched) =>
    this.#joined?.node.watch(channel, isWatched),
  );
  readonly #topics = new TopicExchange();
  readonly #stopping = new AbortController();
  /** Null while NATS is not connected. */
  #session: NatsSession | null = null;
  /** The newest batch of this history that was delivered. */
  #newest: Batch | null = null;
  #triggerProblem: string | null = null;
  #joined: { readonly node: RelayNode; readonly log: EventLog } | null = null;
  #isJoining = false;
  #refusal: string | null = null;

  constructor(options: RelayContext & Required<NatsRelayOptions>) {
    this.#options = options;
    const { url, lifecycle } = options;
    this.#connection = new NatsConnection({
      url,
      lifecycle,
      onConnected: (session) => {
        this.#session = session;
        this.#leave({ reason: 'NATS was reconnected', leaves: false });
        this.#topics.disconnect();
        this.#connectTopics();
        this.#join();
      },
      onDisconnected: () => {
        this.#session = null;
        this.#topics.disconnect();
        this.#leave({ reason: 'the connection to NATS was lost', leaves: false });
      },
    });
    lifecycle.on('reader:failed', () => this.#joined?.node.readFailed());
    lifecycle.on('reader:triggers', ({ problem }) => (this.#triggerProblem = problem));
  }

  start(): void {
    this.#connection.start();
  }

  async stop(): Promise<void> {
    this.#stopping.abort();
    this.#watched.end();
    this.#topics.disconnect();
    await this.#joined?.node.end({ reason: 'the server stops', leaves: true, isLast: true });
    this.#joined = null;
    await this.#connection.close();
  }

  watch(channel: string, isWatched: boolean): void {
    this.#watched.watch(channel, isWatched);
  }

  delivered(batch: Batch): void {
    this.#newest = batch;
    this.#connectTopics();
    if (this.#joined === null) this.#join();
    else this.#joined.node.delivered(batch);
  }

  historyLost(): void {
    this.#newest = null;
    this.#refusal = null;
    this.#leave({ reason: 'the database has another history', leaves: true });
  }

  requestBatch(): void {
    if (this.#joined?.node.isFollowing === true) this.#joined.node.requestRead();
    else this.#options.reader.requestBatch();
  }

  async missedSince(channel: string, position: Position): Promise<FlagEvent[] | null> {
    const applied = this.#joined?.node.applied ?? null;
    if (this.#joined === null || applied === null) return null;
    // The database has them, too.
    return await loggedSince(this.#joined.log, channel, position, applied).catch(() => null);
  }

  openTopic(name: string, receiver: TopicReceiver): RelayTopic {
    return this.#topics.open(name, receiver);
  }

  /** Topics need no log, and no common history: servers notice another one at different times. */
  #connectTopics(): void {
    const { database } = this.#options.reader;
    if (this.#session === null || database === null || this.#stopping.signal.aborted) return;
    this.#topics.connect(this.#session.connection, database);
  }

  #leave(end: { readonly reason: string; readonly leaves: boolean }): void {
    const joined = this.#joined;
    this.#joined = null;
    void joined?.node.end({ ...end, isLast: false });
  }

  /** Joins the other servers as soon as NATS is connected and a batch was delivered. Retries until that succeeds. */
  #join(failure: Error | null = null): void {
    if (this.#isJoining || this.#joined !== null || (failure === null && !this.#canJoin())) return;
    this.#isJoining = true;
    const operation = async (): Promise<void> => {
      if (failure !== null) {
        const error = failure;
        failure = null;
        throw error;
      }
      if (this.#canJoin()) await this.#joinLog();
    };
    void retry(operation, {
      signal: this.#stopping.signal,
      onRetry: (failed) => {
        this.#leave(noResponse);
        if (this.#session !== null) this.#options.lifecycle.emit('relay:failed', failed);
      },
    }).finally(() => (this.#isJoining = false));
  }

  async #joinLog(): Promise<void> {
    const { reader, lifecycle, openSession, retentionMs } = this.#options;
    const [session, newest] = [this.#session, this.#newest];
    if (session === null || newest === null) return;
    // A role that may not read the features gets events without states, which is another log.
    const id = `${newest.position.history}${reader.source?.hasState === true ? '' : '-bare'}`;
    const log = await EventLog.open(session, { id, retentionMs });
    if (this.#stopping.signal.aborted || this.#session !== session || this.#newest === null) return;
    const node = new RelayNode({
      ...{ log, id, openSession, reader, lifecycle, watched: this.#watched.channels },
      triggerProblem: () => this.#triggerProblem,
      newest: () => this.#newest ?? newest,
      onFailed: (error) => {
        this.#leave(noResponse);
        this.#join(toError(error));
      },
    });
    this.#joined = { node, log };
    await node.start();
  }

  #canJoin(): boolean {
    if (this.#session === null || this.#newest === null || this.#stopping.signal.aborted) return false;
    const refusal = this.#refusalOfSource();
    if (refusal !== null && this.#refusal !== refusal.message) {
      this.#options.lifecycle.emit('relay:refused', refusal);
    }
    this.#refusal = refusal?.message ?? null;
    return refusal === null;
  }

  /** Why servers cannot share what this one reads; null if they can. */
  #refusalOfSource(): { message: string; fix: string } | null {
    const { source, readsReplica } = this.#options.reader;
    if (source?.guarantee !== 'exact') {
      return {
        message:
          'there is no event log, so servers cannot share a reader: each reads the database for itself',
        fix: 'run flagcast install, or unset FLAGCAST_RELAY_URL',
      };
    }
    if (!readsReplica) return null;
    return {
      message:
        'replicas lag by different amounts, so servers cannot share a reader: each reads its own for itself',
      fix: 'set DATABASE_URL to the primary, or unset FLAGCAST_RELAY_URL',
    };
  }
}

/** How long a channel stays watched without subscribers, for clients that reconnect, in milliseconds. */
const lingerMs = 60_000;

/** The channels that have subscribers here, or had some within the last minute. */
class WatchedChannels {
  readonly channels = new Set<string>();
  readonly #leaving = new Map<string, NodeJS.Timeout>();
  readonly #onChange: (channel: string, isWatched: boolean) => void;

  constructor(onChange: (channel: string, isWatched: boolean) => void) {
    this.#onChange = onChange;
  }

  watch(channel: string, isWatched: boolean): void {
    clearTimeout(this.#leaving.get(channel));
    this.#leaving.delete(channel);
    if (!isWatched) {
      this.#leaving.set(channel, setTimeout(() => this.#remove(channel), lingerMs).unref());
    } else if (!this.channels.has(channel)) {
      this.channels.add(channel);
      this.#onChange(channel, true);
    }
  }

  #remove(channel: string): void {
    this.#leaving.delete(channel);
    this.channels.delete(channel);
    this.#onChange(channel, false);
  }

  end(): void {
    for (const timer of this.#leaving.values()) clearTimeout(timer);
    this.#leaving.clear();
  }
}
