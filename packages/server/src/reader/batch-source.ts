import type { Batch, FlagEvent } from '../events/event.js';
import type { Lifecycle } from '../lifecycle.js';
import type { EventView } from './event-view.js';
import { WakeListener } from './listener.js';
import { EventReader, type RelayedRead } from './reader.js';
import { RepeatedHint } from './repeated-hint.js';

export interface BatchSourceOptions {
  readonly databaseUrl: string;
  /** Where LISTEN goes. */
  readonly listenUrl: string;
  readonly view: string | null;
  readonly overlapMs: number;
  readonly pollIntervalMs: number;
  readonly lifecycle: Lifecycle;
  readonly onBatch: (batch: Batch) => void;
  readonly onHistoryLost: () => void;
}

/** Where batches come from: the reader of this server, with the hints that wake it. */
export class BatchSource {
  readonly #options: BatchSourceOptions;
  readonly #reader: EventReader;
  readonly #hints: RepeatedHint;
  #listener: WakeListener | null = null;
  /** Listeners that are still ending. */
  readonly #ending = new Set<Promise<void>>();

  constructor(options: BatchSourceOptions) {
    this.#options = options;
    this.#reader = new EventReader(options);
    this.#hints = new RepeatedHint({
      wake: () => this.#reader.wake(),
      readsReplica: () => this.#reader.readsReplica,
    });
  }

  /** What is read; null before the first connection. */
  get view(): EventView | null {
    return this.#reader.view;
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

  isYetToCome(event: FlagEvent): boolean {
    return this.#reader.isYetToCome(event);
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
    this.#hints.stop();
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
    this.#hints.stop();
    this.#endListener();
    await Promise.all([this.#reader.stop(), ...this.#ending]);
  }

  #listen(): void {
    const { listenUrl, lifecycle } = this.#options;
    this.#listener = new WakeListener({
      databaseUrl: listenUrl,
      lifecycle,
      onWake: () => this.#hints.hint(),
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
