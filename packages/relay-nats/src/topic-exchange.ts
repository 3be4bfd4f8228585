import { randomUUID } from 'node:crypto';
import type { NatsConnection, Subscription } from '@nats-io/transport-node';
import type { RelayTopic, TopicReceiver } from 'flagcast/support';
import { subjectPrefix, subjectToken } from './nats-connection.js';

interface Connected {
  readonly connection: NatsConnection;
  readonly database: string;
}

/**
 * The topics that are open on this server, as subjects of NATS. Their messages are not stored: only the servers that
 * have the topic open receive them.
 */
export class TopicExchange {
  readonly #sender = randomUUID();
  readonly #topics = new Set<OpenTopic>();
  #connected: Connected | null = null;

  open(name: string, receiver: TopicReceiver): RelayTopic {
    const topic = new OpenTopic(name, receiver, this.#sender, () => this.#topics.delete(topic));
    this.#topics.add(topic);
    if (this.#connected !== null) topic.connect(this.#connected);
    return topic;
  }

  /** Does nothing while it is connected for this database. */
  connect(connection: NatsConnection, database: string): void {
    if (this.#connected?.database === database) return;
    this.disconnect();
    this.#connected = { connection, database };
    for (const topic of this.#topics) topic.connect(this.#connected);
  }

  disconnect(): void {
    this.#connected = null;
    for (const topic of this.#topics) topic.disconnect();
  }
}

class OpenTopic implements RelayTopic {
  readonly #name: string;
  readonly #receiver: TopicReceiver;
  readonly #sender: string;
  readonly #onClose: () => void;
  #connection: NatsConnection | null = null;
  #subscription: Subscription | null = null;
  #ownSubject = '';

  constructor(name: string, receiver: TopicReceiver, sender: string, onClose: () => void) {
    this.#name = name;
    this.#receiver = receiver;
    this.#sender = sender;
    this.#onClose = onClose;
  }

  get maxBytes(): number {
    return this.#connection?.info?.max_payload ?? 0;
  }

  connect({ connection, database }: Connected): void {
    const prefix = `${subjectPrefix(subjectToken(database))}.presence.${subjectToken(this.#name)}`;
    this.#connection = connection;
    this.#ownSubject = `${prefix}.${this.#sender}`;
    this.#subscription = connection.subscribe(`${prefix}.*`, {
      callback: (error, { subject, data }) => {
        // NATS returns a server's own messages.
        if (error !== null || subject === this.#ownSubject) return;
        this.#receiver.onMessage(subject.slice(prefix.length + 1), data);
      },
    });
    this.#receiver.onConnected();
  }

  publish(message: Uint8Array): void {
    if (this.#connection?.isClosed() === false) this.#connection.publish(this.#ownSubject, message);
  }

  disconnect(): void {
    this.#subscription?.unsubscribe();
    this.#subscription = null;
    this.#connection = null;
  }

  close(): void {
    this.disconnect();
    this.#onClose();
  }
}
