import cluster, { type Worker } from 'node:cluster';
import { describeError } from '../describe.js';
import type { ListeningUrls } from './server.js';
import type { FromWorker, ToWorker, WorkerSettings } from './worker-messages.js';

/** One worker, as the first process sees it, from its start to its end. */
export class WorkerProcess {
  /** Resolves with its URLs when it listens. */
  readonly listening: Promise<ListeningUrls>;
  /** Resolves when it listens and has read the database. */
  readonly ready: Promise<void>;
  /** Resolves when it is gone, with why, in a few words. */
  readonly ended: Promise<string>;
  readonly startedAtMs = performance.now();
  /** Null where the system has refused a process. */
  readonly #worker: Worker | null;
  readonly #collecting = new Map<number, (metrics: readonly object[] | null) => void>();
  /** What it is to be told as soon as it hears; null when it does. */
  #untold: ToWorker[] | null = [];
  #isListening = false;
  #failure: string | null = null;
  #requests = 0;

  /** `gather` answers with the metrics of all workers. */
  constructor(settings: WorkerSettings, gather: () => Promise<string>) {
    let onListening: (urls: ListeningUrls) => void;
    this.listening = new Promise((resolve) => (onListening = resolve));
    let onReady: () => void;
    this.ready = new Promise((resolve) => (onReady = resolve));
    let worker: Worker | null = null;
    let refusal = '';
    try {
      worker = cluster.fork();
    } catch (error) {
      refusal = describeError(error);
    }
    this.#worker = worker;
    this.ended = worker === null ? Promise.resolve(refusal) : this.#watchEnd(worker);
    void this.ended.then(() => {
      this.#isListening = false;
      for (const answer of this.#collecting.values()) answer(null);
    });
    worker?.on('message', (message: FromWorker) => {
      switch (message.type) {
        case 'loaded':
          for (const each of this.#untold?.splice(0) ?? []) worker.send(each, undefined, () => undefined);
          this.#untold = null;
          break;
        case 'listening':
          this.#isListening = true;
          onListening(message.urls);
          break;
        case 'ready':
          onReady();
          break;
        case 'failed':
          this.#failure = message.reason;
          break;
        case 'collected':
          this.#collecting.get(message.request)?.(message.metrics);
          break;
        case 'gather':
          void gather().then((text) => {
            this.#send({ type: 'gathered', request: message.request, text });
          });
          break;
      }
    });
    this.#send({ type: 'settings', settings });
  }

  get pid(): number | null {
    return this.#worker?.process.pid ?? null;
  }

  get isListening(): boolean {
    return this.#isListening;
  }

  /** What it said itself of why it could not serve; null when it said nothing. */
  get failure(): string | null {
    return this.#failure;
  }

  begin(): void {
    this.#send({ type: 'begin' });
  }

  /**
   * Resolves when it has ended by itself, which it is asked to, or is killed after `limitMs`; with whether it was.
   * Who is connected may stay for `graceMs`.
   */
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
    this.#worker?.process.kill('SIGKILL');
  }

  /** Its metrics; null when it does not answer within `limitMs`. */
  async collect(limitMs: number): Promise<readonly object[] | null> {
    this.#requests += 1;
    const request = this.#requests;
    return await new Promise((resolve) => {
      const timer = setTimeout(() => answer(null), limitMs);
      const answer = (metrics: readonly object[] | null): void => {
        clearTimeout(timer);
        this.#collecting.delete(request);
        resolve(metrics);
      };
      this.#collecting.set(request, answer);
      this.#send({ type: 'collect', request });
    });
  }

  #send(message: ToWorker): void {
    // One that cannot be told is ending, which is noticed by itself.
    if (this.#untold !== null) this.#untold.push(message);
    else if (this.#worker?.isConnected() === true) this.#worker.send(message, undefined, () => undefined);
  }

  async #watchEnd(worker: Worker): Promise<string> {
    return await new Promise((resolve) => {
      worker.on('error', (error) => {
        // Whatever else fails with a process that runs, its end tells.
        if (worker.process.pid === undefined) resolve(describeError(error));
      });
      let end: string | null = null;
      const finish = (): void => {
        // Its last words may still be on the line when it is gone.
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
