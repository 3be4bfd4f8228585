import {
  jetstream,
  JetStreamApiError,
  type JetStreamClient,
  type StreamConfig,
  type StreamInfo,
} from '@nats-io/jetstream';
import type { Msg } from '@nats-io/transport-node';
import { type NatsSession, responseTimeoutMs, subjectPrefix, subjectToken } from './nats-connection.js';

/** A message of the log. */
export interface LogMessage {
  readonly sequence: number;
  readonly data: Uint8Array;
}

/** Another server has written a commit meanwhile. */
export class CommitRefusedError extends Error {
  override readonly name = 'CommitRefusedError';
}

export interface EventLogOptions {
  /** Identifies the history and the source that is read. */
  readonly id: string;
  /** How long messages are stored, in milliseconds. */
  readonly retentionMs: number;
}

const nanosecondsPerMs = 1_000_000;
const maxLogBytes = 268_435_456;
/** How long the id of a published message is remembered, in milliseconds. */
const duplicateWindowMs = 120_000;
/** "stream not found" and "wrong last sequence". */
const streamNotFoundCode = 10_059;
const wrongSequenceCode = 10_071;
/** On how many servers of a cluster each message is stored: one of them may be lost. */
const clusterReplicas = 3;
/** "no suitable peers" and "replicas > 1 not supported": the cluster has fewer servers with storage. */
const tooFewServersCodes = [10_005, 10_074];
/** Bytes of a message that are reserved for its headers. */
const headerBytes = 1_024;
/** The size of a small commit or heartbeat, in bytes. */
const minMessageBytes = 1_024;
const fetchMessages = 500;

/**
 * The log of one history: a JetStream stream. NATS republishes each stored message on `live`, which followers subscribe
 * to, so that they never receive a refused message. Methods reject with the errors of NATS.
 */
export class EventLog {
  readonly #session: NatsSession;
  readonly #client: JetStreamClient;
  readonly #stream: string;
  readonly #prefix: string;

  private constructor(session: NatsSession, id: string) {
    this.#session = session;
    this.#client = jetstream(session.connection, { timeout: responseTimeoutMs });
    this.#stream = `flagcast_v1_${id}`;
    this.#prefix = subjectPrefix(id);
  }

  /** Opens the stream, or creates it. The settings of an existing stream are not changed. */
  static async open(session: NatsSession, { id, retentionMs }: EventLogOptions): Promise<EventLog> {
    const log = new EventLog(session, id);
    const republish = { src: `${log.#prefix}.log.>`, dest: `${log.#prefix}.live.>` };
    const { config } = await session.jetstream.streams.info(log.#stream).catch(async (error: unknown) => {
      if (!isApiError(error, streamNotFoundCode)) throw error;
      return await log.#create({
        name: log.#stream,
        subjects: [republish.src],
        republish,
        allow_direct: true,
        max_age: retentionMs * nanosecondsPerMs,
        max_bytes: maxLogBytes,
        duplicate_window: Math.min(duplicateWindowMs, retentionMs) * nanosecondsPerMs,
      });
    });
    if (config.republish?.dest !== republish.dest || !config.allow_direct) {
      throw new Error(
        `the NATS stream ${log.#stream} was not created by Flagcast: delete it, and Flagcast creates it again`,
      );
    }
    if (log.maxBytes < minMessageBytes) {
      throw new Error(
        `NATS accepts messages of at most ${log.maxBytes + headerBytes} bytes: set its max_payload to at least ${minMessageBytes + headerBytes}`,
      );
    }
    return log;
  }

  async #create(config: Partial<StreamConfig> & { name: string }): Promise<StreamInfo> {
    const { connection, jetstream: manager } = this.#session;
    if (connection.info?.cluster === undefined) return await manager.streams.add(config);
    return await manager.streams
      .add({ ...config, num_replicas: clusterReplicas })
      .catch(async (error: unknown) => {
        if (!isApiError(error, ...tooFewServersCodes)) throw error;
        return await manager.streams.add(config);
      });
  }

  /** The largest message, in bytes. */
  get maxBytes(): number {
    return (this.#session.connection.info?.max_payload ?? 1_048_576) - headerBytes;
  }

  /** Stores events of a channel and returns their sequence. A message id is stored once. */
  async publishEvents(channel: string, data: Uint8Array, messageId: string): Promise<number> {
    const { seq } = await this.#client.publish(this.#channelSubject('log', channel), data, {
      msgID: messageId,
    });
    return seq;
  }

  /**
   * Stores a commit after the commit `previous` (0: the first one) and returns its sequence.
   *
   * @throws CommitRefusedError if `previous` is not the newest commit.
   */
  async publishCommit(data: Uint8Array, messageId: string, previous: number): Promise<number> {
    try {
      const { seq } = await this.#client.publish(`${this.#prefix}.log.commit`, data, {
        msgID: messageId,
        expect: { lastSubjectSequence: previous },
      });
      return seq;
    } catch (error) {
      if (!isApiError(error, wrongSequenceCode)) throw error;
      throw new CommitRefusedError('another server reads the database', { cause: error });
    }
  }

  async lastCommit(): Promise<LogMessage | null> {
    return await this.#get({ last_by_subj: `${this.#prefix}.log.commit` });
  }

  /** The first commit from this sequence on. */
  async commitFrom(sequence: number): Promise<LogMessage | null> {
    return await this.#get({ seq: sequence, next_by_subj: `${this.#prefix}.log.commit` });
  }

  /** Null if it is no longer stored. */
  async message(sequence: number): Promise<LogMessage | null> {
    return await this.#get({ seq: sequence });
  }

  /** The channel's messages from this sequence on, in order; null if they are more than `limit`. */
  async eventsFrom(channel: string, sequence: number, limit: number): Promise<LogMessage[] | null> {
    const subject = this.#channelSubject('log', channel);
    const last = (await this.#get({ last_by_subj: subject }))?.sequence ?? 0;
    const messages: LogMessage[] = [];
    if (last < sequence) return messages;
    const consumer = await this.#client.consumers.get(this.#stream, {
      filter_subjects: subject,
      opt_start_seq: sequence,
    });
    for (let pending = 1; pending > 0;) {
      const before = messages.length;
      const fetched = await consumer.fetch({ max_messages: fetchMessages, expires: responseTimeoutMs });
      for await (const message of fetched) {
        messages.push({ sequence: message.seq, data: message.data });
        pending = message.info.pending;
        if (pending === 0) break;
      }
      if (messages.length === before) break;
      if (messages.length > limit) return null;
    }
    // Any server of a cluster may deliver, also one that does not have the newest messages.
    if ((messages.at(-1)?.sequence ?? 0) < last) throw new Error('the log in NATS is incomplete');
    return messages;
  }

  /** Calls back for each new commit; returns the function that ends that. */
  onCommit(callback: (commit: LogMessage) => void): () => void {
    return this.#onStored(`${this.#prefix}.live.commit`, callback);
  }

  /** Calls back for each new message of the channel; returns the function that ends that. */
  onEvents(channel: string, callback: (message: LogMessage) => void): () => void {
    return this.#onStored(this.#channelSubject('live', channel), callback);
  }

  /** Publishes a message that is not stored: a `heartbeat` of the leader or a `request` of a follower. */
  publish(subject: 'heartbeat' | 'request', data: Uint8Array): void {
    const { connection } = this.#session;
    if (!connection.isClosed()) connection.publish(`${this.#prefix}.${subject}`, data);
  }

  subscribe(subject: 'heartbeat' | 'request', callback: (data: Uint8Array) => void): () => void {
    return this.#subscribe(`${this.#prefix}.${subject}`, ({ data }) => callback(data));
  }

  /** Resolves when NATS has received everything that was sent. */
  async flush(): Promise<void> {
    await this.#session.connection.flush();
  }

  #onStored(subject: string, callback: (message: LogMessage) => void): () => void {
    return this.#subscribe(subject, ({ headers, data }) => {
      callback({ sequence: Number(headers?.get('Nats-Sequence')), data });
    });
  }

  #subscribe(subject: string, callback: (message: Msg) => void): () => void {
    const subscription = this.#session.connection.subscribe(subject, {
      callback: (error, message) => {
        if (error === null) callback(message);
      },
    });
    return () => subscription.unsubscribe();
  }

  /** Asks the leader of the stream: other servers of a cluster may not have the newest messages. */
  async #get(
    query: { seq: number; next_by_subj?: string } | { last_by_subj: string },
  ): Promise<LogMessage | null> {
    const found = await this.#session.jetstream.streams.getMessage(this.#stream, query);
    return found === null ? null : { sequence: found.seq, data: found.data };
  }

  #channelSubject(kind: 'log' | 'live', channel: string): string {
    return `${this.#prefix}.${kind}.channel.${subjectToken(channel)}`;
  }
}

function isApiError(error: unknown, ...codes: number[]): boolean {
  return error instanceof JetStreamApiError && codes.includes(error.code);
}
