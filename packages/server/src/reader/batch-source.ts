import type { Batch, FlagEvent, RelayedRead } from '../events/event.js';
import type { OpenSession } from '../postgres/session.js';
import type { Lifecycle } from '../lifecycle.js';
import type { EventSource } from './event-source.js';
import { WakeListener } from './listener.js';
import { EventReader } from './reader.js';

export interface BatchSourceOptions {
  readonly openSession: OpenSession;
  readonly openListenSession: OpenSession;
  readonly view: string | null;
  readonly overlapMs: number;
  readonly pollIntervalMs: number;
  readonly queryTimeoutMs: number;
  readonly lifecycle: Lifecycle;
  readonly onBatch: (batch: Batch) => void;
  readonly onHistoryLost: () => void;
  readonly hasRoom: () => boolean;
}

/** Where batches come from: the reader of this server, with the hints that wake it. */
export class BatchSource {
  readonly #options: BatchSourceOptions;
  readonly #reader: EventReader;
  #listener: WakeListener | null = null;
  /** Listeners that are still ending. */
  readonly #ending = new Set<Promise<void>>();

  constructor(options: BatchSourceOptions) {
    this.#options = options;
    this.#reader = new EventReader(options);
  }

  /** What is read; null before the first connection. */
  get source(): EventSource | null {
    return this.#reader.source;
  }

  get readsReplica(): boolean {
    return this.#reader.readsReplica;
  }

  get rememberedEvents(): number {
    return this.#reader.rememberedEvents;
  }

  /** Whether what another server has read can be taken over. */
  get canFollow(): boolean {
    return this.#reader.canFollow;
  }

  willBeRead(event: FlagEvent): boolean {
    return this.#reader.willBeRead(event);
  }

  /** Asks for a read as soon as possible. */
  requestBatch(): void {
    this.#reader.wake();
  }

  start(): void {
    this.#reader.start();
    this.#listen();
  }

  /** Asks the database nothing until `resume`. */
  pause(): void {
    this.#reader.pause();
    this.#endListener();
  }

  resume(): void {
    this.#reader.resume();
    if (this.#listener === null) this.#listen();
  }

  /** Hands on what another server has read; only while paused. */
  follow(read: RelayedRead): void {
    this.#reader.follow(read);
  }

  async stop(): Promise<void> {
    this.#endListener();
    await Promise.all([this.#reader.stop(), ...this.#ending]);
  }

  #listen(): void {
    const { openListenSession, lifecycle } = this.#options;
    this.#listener = new WakeListener({
      openSession: openListenSession,
      lifecycle,
      onWake: () => this.#reader.wake(),
    });
    this.#listener.start();
  }

  #endListener(): void {
    const ending = this.#listener?.stop();
    this.#listener = null;
    if (ending === undefined) return;
    this.#ending.add(ending);
    void ending.finally(() => this.#ending.delete(ending));
  }
}
