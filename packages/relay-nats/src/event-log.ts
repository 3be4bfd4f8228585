import { createHash } from 'node:crypto';
import { jetstream, JetStreamApiError, type JetStreamClient } from '@nats-io/jetstream';
import type { Msg } from '@nats-io/transport-node';
import { type NatsSession, responseTimeoutMs } from './nats-connection.js';

/** A message of the log. */
export interface Logged {
  /** As the log numbers it. */
  readonly sequence: number;
  readonly data: Uint8Array;
}

/** Somebody else has written a commit: who reads is decided anew. */
export class CommitRefusedError extends Error {
  override readonly name = 'CommitRefusedError';
}

export interface EventLogOptions {
  /** Names the history, and what is read of it. */
  readonly id: string;
  /** How long messages are kept, in milliseconds. */
  readonly retentionMs: number;
}

/** The one of that number; the next one of the subject from there on; the newest one of the subject. */
type MessageQuery =
  | { readonly seq: number; readonly next_by_subj?: string }
  | { readonly last_by_subj: string };

const nanosecondsPerMs = 1_000_000;
/** How much of the log is kept at the most, in bytes. */
const maxLogBytes = 268_435_456;
/** How long a message is known that is published again, in milliseconds. */
const duplicateWindowMs = 120_000;
/** "stream not found" and "wrong last sequence" */
const streamNotFoundCode = 10_059;
const wrongSequenceCode = 10_071;
/** On so many servers of a cluster each message is: one of them can be lost. */
const clusterReplicas = 3;
/** "no suitable peers" and "replicas > 1 not supported": the cluster has fewer servers that store. */
const tooFewServersCodes: readonly number[] = [10_005, 10_074];
/** So much of a message is left to its headers, in bytes. */
const headerBytes = 1_024;
/** What a commit and a beat need at the least. */
const leastBytes = 1_024;
/** How many messages are fetched at once. */
const fetchMessages = 500;

/**
 * The log of one history: a stream of JetStream. What was stored, and only that, the server publishes again on
 * `live`; that is what followers subscribe to, so that they never see what was refused. Every method rejects with
 * what NATS throws.
 */
export class EventLog {
  readonly #line: NatsSession;
  readonly #client: JetStreamClient;
  readonly #stream: string;
  readonly #prefix: string;

  private constructor(line: NatsSession, id: string) {
    this.#line = line;
    this.#client = jetstream(line.connection, { timeout: responseTimeoutMs });
    this.#stream = `flagcast_v1_${id}`;
    this.#prefix = `flagcast.v1.${id}`;
  }

  /** Makes the stream unless it is there. One that is there is taken as it is, if it can be used. */
  static async open(line: NatsSession, { id, retentionMs }: EventLogOptions): Promise<EventLog> {
    const log = new EventLog(line, id);
    const { streams } = line.jetstream;
    const republish = { src: `${log.#prefix}.log.>`, dest: `${log.#prefix}.live.>` };
    const found = await streams.info(log.#stream).catch(async (error: unknown) => {
      if (!(error instanceof JetStreamApiError) || error.code !== streamNotFoundCode) throw error;
      const wanted = {
        name: log.#stream,
        subjects: [`${log.#prefix}.log.>`],
        republish,
        allow_direct: true,
        max_age: retentionMs * nanosecondsPerMs,
        max_bytes: maxLogBytes,
        duplicate_window: Math.min(duplicateWindowMs, retentionMs) * nanosecondsPerMs,
      };
      if (line.connection.info?.cluster === undefined) return await streams.add(wanted);
      const replicated = streams.add({ ...wanted, num_replicas: clusterReplicas });
      return await replicated.catch(async (refused: unknown) => {
        if (!(refused instanceof JetStreamApiError) || !tooFewServersCodes.includes(refused.code)) {
          throw refused;
        }
        return await streams.add(wanted);
      });
    });
    const { config } = found;
    if (config.republish?.dest !== republish.dest || !config.allow_direct) {
      throw new Error(
        `the stream ${log.#stream} of NATS was made by somebody else: delete it, and Flagcast makes it anew`,
      );
    }
    if (log.maxBytes < leastBytes) {
      throw new Error(
        `NATS takes messages of ${log.maxBytes + headerBytes} bytes at most: set its max_payload to ${leastBytes + headerBytes} at the least`,
      );
    }
    return log;
  }

  /** The largest message that is taken, in bytes. */
  get maxBytes(): number {
    return (this.#line.connection.info?.max_payload ?? 1_048_576) - headerBytes;
  }

  /** Stores events of a channel and tells where; the same `messageId` again changes nothing. */
  async publishEvents(channel: string, data: Uint8Array, messageId: string): Promise<number> {
    const { seq } = await this.#client.publish(this.#channelSubject('log', channel), data, {
      msgID: messageId,
    });
    return seq;
  }

  /**
   * Stores a commit after the commit number `previous` (0: after none) and tells where.
   *
   * @throws CommitRefusedError where that is not the newest one.
   */
  async publishCommit(data: Uint8Array, messageId: string, previous: number): Promise<number> {
    try {
      const { seq } = await this.#client.publish(`${this.#prefix}.log.commit`, data, {
        msgID: messageId,
        expect: { lastSubjectSequence: previous },
      });
      return seq;
    } catch (error) {
      if (!(error instanceof JetStreamApiError) || error.code !== wrongSequenceCode) throw error;
      throw new CommitRefusedError('another server reads the database', { cause: error });
    }
  }

  /** Null: there is none. */
  async lastCommit(): Promise<Logged | null> {
    return await this.#get({ last_by_subj: `${this.#prefix}.log.commit` });
  }

  /** The first commit at or after that place; null: there is none. */
  async commitFrom(sequence: number): Promise<Logged | null> {
    return await this.#get({ seq: sequence, next_by_subj: `${this.#prefix}.log.commit` });
  }

  /** Null: it is no longer kept. */
  async message(sequence: number): Promise<Logged | null> {
    return await this.#get({ seq: sequence });
  }

  /** Where the log begins and ends. */
  async bounds(): Promise<{ first: number; last: number }> {
    const { state } = await this.#line.jetstream.streams.info(this.#stream);
    return { first: state.first_seq, last: state.last_seq };
  }

  /** The channel's messages from that place on, in order; null when they are more than `most`. */
  async eventsFrom(channel: string, sequence: number, most: number): Promise<Logged[] | null> {
    const subject = this.#channelSubject('log', channel);
    const last = (await this.#get({ last_by_subj: subject }))?.sequence ?? 0;
    if (last < sequence) return [];
    const consumer = await this.#client.consumers.get(this.#stream, {
      filter_subjects: subject,
      opt_start_seq: sequence,
    });
    const messages: Logged[] = [];
    for (let pending = 1; pending > 0;) {
      const fetched = await consumer.fetch({ max_messages: fetchMessages, expires: responseTimeoutMs });
      let count = 0;
      for await (const message of fetched) {
        messages.push({ sequence: message.seq, data: message.data });
        count += 1;
        pending = message.info.pending;
        if (pending === 0) break;
      }
      if (count === 0) throw new Error('the log of NATS ends before its end');
      if (messages.length > most) return null;
    }
    // Of a cluster any server may deliver, also one that is not as far as the others.
    if ((messages.at(-1)?.sequence ?? 0) < last) throw new Error('the log of NATS ends before its end');
    return messages;
  }

  /** Calls back for each commit that is stored from now on. */
  onCommit(callback: (commit: Logged) => void): () => void {
    return this.#onStored(`${this.#prefix}.live.commit`, callback);
  }

  /** Calls back for each message of the channel that is stored from now on. */
  onEvents(channel: string, callback: (message: Logged) => void): () => void {
    return this.#onStored(this.#channelSubject('live', channel), callback);
  }

  /** What is only said and not stored: `beat` by who reads, `ask` by those who follow. */
  say(what: 'beat' | 'ask', data: Uint8Array): void {
    // Whoever is told nothing takes us for gone, and so we are.
    if (this.#line.connection.isClosed()) return;
    this.#line.connection.publish(`${this.#prefix}.${what}`, data);
  }

  onSaid(what: 'beat' | 'ask', callback: (data: Uint8Array) => void): () => void {
    return this.#subscribe(`${this.#prefix}.${what}`, ({ data }) => callback(data));
  }

  /** Resolves when the server has taken what was sent. */
  async flush(): Promise<void> {
    await this.#line.connection.flush();
  }

  #onStored(subject: string, callback: (message: Logged) => void): () => void {
    return this.#subscribe(subject, ({ headers, data }) => {
      callback({ sequence: Number(headers?.get('Nats-Sequence')), data });
    });
  }

  #subscribe(subject: string, callback: (message: Msg) => void): () => void {
    const subscription = this.#line.connection.subscribe(subject, {
      callback: (error, message) => {
        if (error === null) callback(message);
      },
    });
    return () => subscription.unsubscribe();
  }

  /** From the server that leads the stream: the others of a cluster may not be as far. */
  async #get(query: MessageQuery): Promise<Logged | null> {
    const found = await this.#line.jetstream.streams.getMessage(this.#stream, query);
    return found === null ? null : { sequence: found.seq, data: found.data };
  }

  /** Ids are any text, and a subject takes no dots and no spaces. */
  #channelSubject(kind: 'log' | 'live', channel: string): string {
    const name = createHash('sha256').update(channel).digest('base64url').slice(0, 22);
    return `${this.#prefix}.${kind}.channel.${name}`;
  }
}
