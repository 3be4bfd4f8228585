import { once } from 'node:events';
import { Registry } from 'prom-client';
import { describeError } from '../describe.js';
import { createLogger } from '../operations/log.js';
import { CleanupStack } from './running.js';
import { createLoggedFlagcast, listen } from './server.js';
import { loadTracing } from './packages.js';
import type { FromWorker, ToWorker, WorkerSettings } from './worker-messages.js';

/**
 * Serves in this process what the first process says, until that says stop, or SIGTERM comes. When the first
 * process is gone node:cluster ends this one at once.
 */
export function runWorker(): void {
  for (const stream of [process.stdout, process.stderr]) {
    // A reader that went away is no failure.
    stream.on('error', () => undefined);
  }
  const primary = new PrimaryLine();
  void serve(primary).catch((error: unknown) => {
    primary.send({ type: 'failed', reason: describeError(error) }, () => process.exit(1));
  });
}

async function serve(primary: PrimaryLine): Promise<void> {
  const { worker, server, listensAtOnce, begun } = await primary.settings;
  const logger = createLogger({ human: process.stdout.isTTY, base: { worker } });
  const running = new CleanupStack(logger);
  let stopGraceMs = 0;
  primary.onStop((graceMs) => {
    stopGraceMs = graceMs;
    running.startCountdown();
    void running.stop().then(() => process.exit(0));
  });

  const metricsRegistry = new WorkerRegistry(worker, async () => await primary.gather());
  primary.onCollect(async () => await metricsRegistry.getMetricsAsJSON());
  const flagcast = await createLoggedFlagcast(server, { logger, metricsRegistry });
  if (server.traces) running.add('traces', (await loadTracing()).exportTraces(flagcast.lifecycle, logger));
  running.add('reader', async () => await flagcast.close());
  const startListening = async (): Promise<void> => {
    const { stop, ...urls } = await listen(flagcast, { ...server, logger });
    running.add('server', async () => await stop(stopGraceMs));
    primary.send({ type: 'listening', urls });
  };
  if (listensAtOnce) await startListening();
  if (!begun) await primary.begun;
  const started = once(flagcast.lifecycle, 'reader:started');
  void flagcast.ready();
  await started;
  // Others listen: nobody has to meet a worker that knows nothing yet.
  if (!listensAtOnce) await startListening();
  primary.send({ type: 'ready' });
}

/** The metrics of this worker, which answers /metrics with those of all. */
class WorkerRegistry extends Registry {
  readonly #gather: () => Promise<string>;

  constructor(worker: number, gather: () => Promise<string>) {
    super();
    this.setDefaultLabels({ worker: String(worker) });
    this.#gather = gather;
  }

  override async metrics(): Promise<string> {
    return await this.#gather();
  }
}

/** The line to the first process. */
class PrimaryLine {
  readonly settings: Promise<WorkerSettings>;
  readonly begun: Promise<void>;
  /** Resolves with for how long who is connected may stay, in milliseconds. */
  readonly #stopped: Promise<number>;
  readonly #gathering = new Map<number, (text: string) => void>();
  #collect: (() => Promise<readonly object[]>) | null = null;
  #requests = 0;

  constructor() {
    let onSettings: (settings: WorkerSettings) => void;
    this.settings = new Promise((resolve) => (onSettings = resolve));
    let onBegin: () => void;
    this.begun = new Promise((resolve) => (onBegin = resolve));
    let onStop: (graceMs: number) => void;
    this.#stopped = new Promise((resolve) => (onStop = resolve));
    process.on('SIGTERM', () => onStop(0));
    process.on('message', (message: ToWorker) => {
      switch (message.type) {
        case 'settings':
          onSettings(message.settings);
          break;
        case 'begin':
          onBegin();
          break;
        case 'stop':
          onStop(message.graceMs);
          break;
        case 'collect':
          void this.#answer(message.request);
          break;
        case 'gathered':
          this.#gathering.get(message.request)?.(message.text);
          this.#gathering.delete(message.request);
          break;
      }
    });
    this.send({ type: 'loaded' });
  }

  send(message: FromWorker, whenSent: () => void = () => undefined): void {
    // A line that is broken ends this process anyway.
    process.send?.(message, undefined, undefined, whenSent);
  }

  onStop(stop: (graceMs: number) => void): void {
    void this.#stopped.then(stop);
  }

  onCollect(collect: () => Promise<readonly object[]>): void {
    this.#collect = collect;
  }

  /** The metrics of all workers as text. */
  async gather(): Promise<string> {
    this.#requests += 1;
    const request = this.#requests;
    return await new Promise((resolve) => {
      this.#gathering.set(request, resolve);
      this.send({ type: 'gather', request });
    });
  }

  async #answer(request: number): Promise<void> {
    const metrics = (await this.#collect?.()) ?? [];
    this.send({ type: 'collected', request, metrics });
  }
}
