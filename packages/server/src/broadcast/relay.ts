import type { Batch, FlagEvent, RelayedRead } from '../events/event.js';
import type { Position } from '../events/position.js';
import type { Lifecycle } from '../lifecycle.js';

/** Lets the servers of one database share one reader, and exchange presence. */
export interface Relay {
  start(): void;
  stop(): Promise<void>;
  /** The channel has its first subscriber here, or has lost its last one. */
  watch(channel: string, isWatched: boolean): void;
  /** The batch was delivered on this server, whichever server read it. */
  delivered(batch: Batch): void;
  /** The next batch belongs to another history. */
  historyLost(): void;
  /** Requests a batch from a read that has not started yet, on this server or on the one that reads for it. */
  requestBatch(): void;
  /** The channel's events after the position, from the relay's log; null if the log does not have all of them. */
  missedSince(channel: string, position: Position): Promise<FlagEvent[] | null>;
  /** Exchanges messages with the servers of this database that have opened the same topic, until it is closed. */
  openTopic(name: string, receiver: TopicReceiver): RelayTopic;
}

/** What servers exchange about one subject. Messages are not stored, and may be lost. */
export interface RelayTopic {
  /** The largest message, in bytes; 0 while there is no connection to other servers. */
  readonly maxBytes: number;
  /** Sends nothing while there is no connection. */
  publish(message: Uint8Array): void;
  close(): void;
}

/** Receives the messages of a topic. Its methods do not throw. */
export interface TopicReceiver {
  /** Other servers receive messages from now on: after the topic was opened, or after a loss of the connection. */
  onConnected(): void;
  /** `sender` identifies another server until it restarts. */
  onMessage(sender: string, message: Uint8Array): void;
}

/** Creates the relay of a server: what `natsRelay` of `@flagcast/relay-nats` returns. */
export type CreateRelay = (context: RelayContext) => Relay;

/** The parts of a server that its relay uses. */
export interface RelayContext {
  readonly reader: RelayedReader;
  readonly lifecycle: Lifecycle;
  /** Opens a session at the primary, past a pooler if `listenUrl` is set. It counts for the server's sessions. */
  readonly openSession: () => Promise<RelaySession>;
}

/** The server's reader. */
export interface RelayedReader {
  /** What it reads; null before the first connection. */
  readonly source: { readonly guarantee: 'exact' | 'overlap'; readonly hasState: boolean } | null;
  /** The id of the database, the same in all of its histories; null before the first connection. */
  readonly database: string | null;
  readonly readsReplica: boolean;
  /** Whether it can continue from what another server has read. */
  readonly canFollow: boolean;
  /** Requests a read as soon as possible. */
  requestBatch(): void;
  /** Sends no queries until `resume`. */
  pause(): void;
  resume(): void;
  /** Delivers what another server has read; only while paused. */
  follow(read: RelayedRead): void;
}

/** The session of PostgreSQL in which a relay holds its lock. */
export interface RelaySession {
  /** A pooler by transaction is in between, so session locks do not work. */
  readonly isPooled: boolean;
  query(text: string, values: unknown[]): Promise<{ rows: Readonly<Record<string, unknown>>[] }>;
  once(event: 'end', listener: () => void): unknown;
  end(): Promise<void>;
  discard(): void;
}
