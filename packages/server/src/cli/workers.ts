import type { Logger } from '../operations/log.js';
import cluster from 'node:cluster';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { AggregatorRegistry, type Counter, Registry } from 'prom-client';
import { backoffMs, within } from '../retry.js';
import { createMetric } from '../operations/metrics.js';
import { CommandError } from './command.js';
import type { CleanupStack } from './shutdown.js';
import type { ListeningUrls, Server, ServerSettings } from './server.js';
import { WorkerProcess } from './worker-process.js';

/** A worker that ran this long is replaced immediately; before that with exponential backoff, in milliseconds. */
const steadyMs = 60_000;
const maxPauseMs = 30_000;
/** How long a new worker may take to be ready before the old one is kept, in milliseconds. */
const readyLimitMs = 60_000;
/** How long an old worker serves its connections after it has stopped listening, in milliseconds. */
const graceMs = 1_000;
/** How long an old worker may take to end, in milliseconds: more than its own limit. */
const stopLimitMs = 10_000;
/** The part of the limit that is reserved to kill workers that hang, in milliseconds. */
const killReserveMs = 1_500;
/** How long a scrape waits for a worker, in milliseconds. */
const collectLimitMs = 1_000;

/** @throws CommandError in a process that is itself a worker of node:cluster. */
export function refuseNestedWorkers(): void {
  if (!cluster.isPrimary) {
    throw new CommandError(
      'This process is already a worker of a process manager and cannot have workers; set --workers (or FLAGCAST_WORKERS) to 1, or start it as a single process',
    );
  }
}

/**
 * Serves in worker processes behind one port. Each has its own reader and sessions of the database. This process accepts
 * the connections and distributes them in turn. SIGHUP, if there is no terminal, replaces the workers one after another.
 *
 * @throws CommandError if they cannot listen.
 */
export async function startWorkers(
  settings: ServerSettings,
  logger: Logger,
  running: CleanupStack,
  stopping: AbortSignal,
): Promise<Server> {
  // Connections last for hours, so the kernel's uneven distribution would, too.
  cluster.schedulingPolicy = cluster.SCHED_RR;
  cluster.setupPrimary({ exec: fileURLToPath(new URL('./worker.js', import.meta.url)), args: [] });
  const workers = new Workers(settings, logger);
  running.add('workers', async (remainingMs) => await workers.stop(remainingMs));
  // A terminal sends SIGHUP when it is closed.
  if (!process.stdout.isTTY) process.on('SIGHUP', () => workers.renew());
  return { ...(await workers.start(stopping)), begin: () => workers.begin() };
}

/** The place of a worker and of its replacements. */
interface Place {
  readonly number: number;
  worker: WorkerProcess;
  /** How many workers in a row ended soon after their start. */
  shortLives: number;
}

class Workers {
  readonly #settings: ServerSettings;
  readonly #logger: Logger;
  readonly #places: Place[] = [];
  readonly #alive = new Set<WorkerProcess>();
  readonly #stopping = new AbortController();
  readonly #metrics = new Registry();
  readonly #endedTotal: Counter;
  #begun = false;
  #renewal = Promise.resolve();

  constructor(settings: ServerSettings, logger: Logger) {
    this.#settings = settings;
    this.#logger = logger;
    this.#endedTotal = createMetric(this.#metrics, 'flagcast_workers_ended_total');
    // A worker that hangs would not notice the end of this process.
    process.on('exit', () => {
      for (const worker of this.#alive) worker.kill();
    });
  }

  /** Resolves with the URLs when one worker listens. */
  async start(stopping: AbortSignal): Promise<ListeningUrls> {
    for (let number = 1; number <= this.#settings.workers; number += 1) {
      this.#places.push({ number, worker: this.#launch(number), shortLives: 0 });
    }
    const stopped = new Promise<never>((_resolve, reject) => {
      const abandon = (): void => reject(new CommandError('stopped while the workers were starting'));
      stopping.addEventListener('abort', abandon, { once: true });
    });
    const urls = await Promise.race([
      stopped,
      ...this.#places.flatMap(({ worker }) => [
        worker.listening,
        worker.ended.then((reason) => {
          throw new CommandError(
            worker.failure ?? `A worker ended before it could listen (${reason}); see its output above`,
          );
        }),
      ]),
    ]);
    for (const place of this.#places) void this.#keep(place);
    return urls;
  }

  /** Starts the readers, after the database was checked. */
  begin(): void {
    this.#begun = true;
    for (const worker of this.#alive) worker.begin();
  }

  /** Replaces the workers one after another, after a renewal that is running. */
  renew(): void {
    this.#renewal = this.#renewal.then(async () => await this.#renewAll());
  }

  /** Asks all workers to end, and kills them shortly before `limitMs` are over. */
  async stop(limitMs: number): Promise<void> {
    this.#stopping.abort();
    const stop = { limitMs: Math.max(0, Math.round(limitMs - killReserveMs)), graceMs: 0 };
    await Promise.all([...this.#alive].map(async (worker) => await this.#end(worker, stop)));
  }

  #isStopping(): boolean {
    return this.#stopping.signal.aborted;
  }

  #launch(number: number): WorkerProcess {
    const worker = new WorkerProcess(
      {
        worker: number,
        server: this.#settings,
        listensAtOnce: !this.#places.some((place) => place.worker.isListening),
      },
      async () => await this.#gather(),
    );
    if (this.#begun) worker.begin();
    this.#alive.add(worker);
    void worker.ended.then(() => this.#alive.delete(worker));
    void worker.ready.then(() => {
      this.#logger('worker_ready', { worker: number, pid: worker.pid });
    });
    return worker;
  }

  /** Replaces the worker of the place whenever it ends. */
  async #keep(place: Place): Promise<void> {
    while (!this.#isStopping()) {
      const { worker } = place;
      const reason = await worker.ended;
      // A renewal has replaced it.
      if (place.worker !== worker) continue;
      if (this.#isStopping()) return;
      const lifeMs = Math.round(performance.now() - worker.startedAtMs);
      place.shortLives = lifeMs < steadyMs ? place.shortLives + 1 : 0;
      const replacedInMs = place.shortLives === 0 ? 0 : backoffMs(place.shortLives, 100, maxPauseMs);
      this.#endedTotal.inc();
      this.#logger('worker_ended', { worker: place.number, pid: worker.pid, reason, lifeMs, replacedInMs });
      // Rejects when the server is stopping, which the loop checks.
      await delay(replacedInMs, undefined, { signal: this.#stopping.signal }).catch(() => undefined);
      if (!this.#isStopping() && place.worker === worker) place.worker = this.#launch(place.number);
    }
  }

  async #renewAll(): Promise<void> {
    this.#logger('workers_renewing', { workers: this.#places.length });
    for (const place of this.#places) {
      if (this.#isStopping()) return;
      const next = this.#launch(place.number);
      const problem = await this.#whyNotReady(next);
      if (this.#isStopping()) return;
      if (problem !== null) {
        next.kill();
        this.#logger('workers_renewal_failed', { worker: place.number, reason: problem });
        return;
      }
      const previous = place.worker;
      place.worker = next;
      place.shortLives = 0;
      await this.#end(previous, { limitMs: stopLimitMs, graceMs });
    }
    this.#logger('workers_renewed', { workers: this.#places.length });
  }

  /** Waits until it is ready and returns null, or returns why it is not. */
  async #whyNotReady(worker: WorkerProcess): Promise<string | null> {
    const outcome = Promise.race([worker.ready.then(() => null), worker.ended]);
    const late = `not ready within ${readyLimitMs / 1_000} s`;
    return await within(readyLimitMs, outcome, late).catch(() => late);
  }

  async #end(worker: WorkerProcess, stop: { limitMs: number; graceMs: number }): Promise<void> {
    const { pid } = worker;
    if ((await worker.stop(stop)) === 'killed') this.#logger('worker_killed', { pid, ...stop });
  }

  /**
   * The metrics of all workers as text, with the label `worker`. A sum would fall when a worker ends, which Prometheus
   * takes for a reset of the counter.
   */
  async #gather(): Promise<string> {
    const workers = this.#places.map(({ worker }) => worker).filter(({ isListening }) => isListening);
    const answers = await Promise.all(workers.map(async (worker) => await worker.collect(collectLimitMs)));
    const all = [await this.#metrics.getMetricsAsJSON(), ...answers.filter((answer) => answer !== null)];
    return await AggregatorRegistry.aggregate(all.map((metrics) => [...metrics])).metrics();
  }
}
