import cluster, { type Worker } from 'node:cluster';
import { EventEmitter, once } from 'node:events';
import { describeError } from '../describe.js';
import type { ListeningUrls, ServerSettings } from './server.js';

export interface WorkerSettings {
  /** Its number, from 1. A replacement has the same one. */
  readonly worker: number;
  readonly server: ServerSettings;
  /** Whether it listens before it has read the database, because no other worker listens. */
  readonly listensAtOnce: boolean;
}

/** Messages of the primary process to a worker. */
export type ToWorker =
  | { readonly type: 'settings'; readonly settings: WorkerSettings }
  /** The database is checked: start to read it. */
  | { readonly type: 'begin' }
  /** Stop listening, and close connections after `graceMs`. */
  | { readonly type: 'stop'; readonly graceMs: number }
  /** Asks for the metrics of the worker. */
  | { readonly type: 'collect' }
  /** Answers `gather` with the metrics of all workers, in the text format of Prometheus. */
  | { readonly type: 'gathered'; readonly text: string };

/** Messages of a worker to the primary process. */
export type FromWorker =
  /** It receives messages from now on. */
  | { readonly type: 'loaded' }
  | { readonly type: 'listening'; readonly urls: ListeningUrls }
  /** It listens and has read the database. */
  | { readonly type: 'ready' }
  | { readonly type: 'failed'; readonly reason: string }
  /** Answers `collect`. */
  | { readonly type: 'collected'; readonly metrics: readonly object[] }
  /** It was asked for /metrics. */
  | { readonly type: 'gather' };

type Message<Type extends FromWorker['type']> = Extract<FromWorker, { type: Type }>;

/** A worker, as the primary process sees it. */
export class WorkerProcess {
  /** Resolves with its URLs when it listens. */
  readonly listening: Promise<ListeningUrls>;
  /** Resolves when it listens and has read the database. */
  readonly ready: Promise<unknown>;
  /** Resolves with the reason when it has ended. */
  readonly ended: Promise<string>;
  readonly startedAtMs = performance.now();
  readonly #worker: Worker = cluster.fork();
  /** Emits each message by its type. */
  readonly #messages = new EventEmitter();
  readonly #loaded = once(this.#messages, 'loaded');
  #isListening = false;
  #failure: string | null = null;

  /** `gather` returns the metrics of all workers. */
  constructor(settings: WorkerSettings, gather: () => Promise<string>) {
    this.#worker.on('message', (message: FromWorker) => void this.#messages.emit(message.type, message));
    this.#messages.once('listening', () => (this.#isListening = true));
    this.listening = once(this.#messages, 'listening').then(
      ([message]) => (message as Message<'listening'>).urls,
    );
    this.ready = once(this.#messages, 'ready');
    this.#messages.on('failed', ({ reason }: Message<'failed'>) => (this.#failure = reason));
    this.#messages.on('gather', () => void gather().then((text) => this.#send({ type: 'gathered', text })));
    this.ended = this.#watchEnd();
    void this.ended.then(() => (this.#isListening = false));
    this.#send({ type: 'settings', settings });
  }

  get pid(): number | undefined {
    return this.#worker.process.pid;
  }

  get isListening(): boolean {
    return this.#isListening;
  }

  /** Its own reason why it could not serve, or null. */
  get failure(): string | null {
    return this.#failure;
  }

  begin(): void {
    this.#send({ type: 'begin' });
  }

  /** Asks it to end, with open connections after `graceMs`, and kills it after `limitMs`. */
  async stop({ limitMs, graceMs }: { limitMs: number; graceMs: number }): Promise<'ended' | 'killed'> {
    let outcome: 'ended' | 'killed' = 'ended';
    const timer = setTimeout(() => {
      outcome = 'killed';
      this.kill();
    }, limitMs);
    this.#isListening = false;
    this.#send({ type: 'stop', graceMs });
    await this.ended;
    clearTimeout(timer);
    return outcome;
  }

  kill(): void {
    this.#worker.process.kill('SIGKILL');
  }

  /** Its metrics; null if it does not answer within `limitMs`. An answer serves all scrapes that wait for one. */
  async collect(limitMs: number): Promise<readonly object[] | null> {
    const answer = once(this.#messages, 'collected', { signal: AbortSignal.timeout(limitMs) });
    this.#send({ type: 'collect' });
    return await Promise.race([
      answer.then(([message]) => (message as Message<'collected'>).metrics),
      this.ended.then(() => null),
    ]).catch(() => null);
  }

  #send(message: ToWorker): void {
    // The end of a worker that cannot receive messages is noticed by `ended`.
    void this.#loaded.then(() => {
      if (this.#worker.isConnected()) this.#worker.send(message, undefined, () => undefined);
    });
  }

  async #watchEnd(): Promise<string> {
    const worker = this.#worker;
    return await new Promise((resolve) => {
      worker.on('error', (error) => {
        // Errors of a process that runs are followed by its end.
        if (worker.process.pid === undefined) resolve(describeError(error));
      });
      let end: string | null = null;
      const finish = (): void => {
        // Its last messages can arrive after its end.
        if (end !== null && !worker.isConnected()) resolve(this.#failure ?? end);
      };
      worker.on('exit', (code: number | null, signal: string | null) => {
        end = signal === null ? `exit code ${code}` : `signal ${signal}`;
        finish();
      });
      worker.on('disconnect', finish);
    });
  }
}
