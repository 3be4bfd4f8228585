import type { Logger } from '../operations/log.js';
import cluster from 'node:cluster';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { AggregatorRegistry, type Counter, Registry } from 'prom-client';
import { backoffMs } from '../retry.js';
import { Metrics } from '../operations/metrics.js';
import { CommandError } from './command.js';
import type { CleanupStack } from './running.js';
import type { ListeningUrls, Server, ServerSettings } from './server.js';
import { WorkerProcess } from './worker-process.js';

/** A worker that lasted this long is replaced at once; before that there is a pause, longer each time. */
const STEADY_MS = 60_000;
const MAX_PAUSE_MS = 30_000;
/** How long a new worker may take to be ready before the old one is kept instead, in milliseconds. */
const READY_LIMIT_MS = 60_000;
/** How long the old one, that gets no more connections, serves those it has: their requests may be on the way. */
const GRACE_MS = 1_000;
/** How long it may take to end: more than it takes by itself, in milliseconds. */
const STOP_LIMIT_MS = 10_000;
/** What of the time to stop is kept for the killing of those who do not, in milliseconds. */
const KILL_RESERVE_MS = 500;
/** How long a scrape waits for a worker, in milliseconds. */
const COLLECT_LIMIT_MS = 1_000;

/** @throws CommandError in a process that is a worker itself: it cannot have its own. */
export function refuseNestedWorkers(): void {
  if (!cluster.isPrimary) {
    throw new CommandError(
      'This process is a worker of a process manager already, and cannot have workers of its own; set --workers (or FLAGCAST_WORKERS) to 1, or have it started as a single process',
    );
  }
}

/**
 * Serves in as many worker processes as the settings say, behind one port. Each has a reader and connections
 * to the database of its own; they share nothing but the port, on which this process accepts connections and
 * hands them to the workers in turn. SIGHUP renews the workers one after another, where there is no terminal.
 *
 * @throws CommandError when they cannot listen.
 */
export async function startWorkers(
  settings: ServerSettings,
  logger: Logger,
  running: CleanupStack,
  stopping: AbortSignal,
): Promise<Server> {
  // Connections live for hours, so that an uneven start stays; whom the kernel wakes first is left to chance.
  cluster.schedulingPolicy = cluster.SCHED_RR;
  cluster.setupPrimary({ exec: fileURLToPath(new URL('./worker.js', import.meta.url)), args: [] });
  const workers = new Workers(settings, logger);
  running.add('workers', async (remainingMs) => await workers.stop(remainingMs));
  // A terminal that is closed sends it as well.
  if (!process.stdout.isTTY) process.on('SIGHUP', () => void workers.renew());
  return { ...(await workers.start(stopping)), begin: () => workers.begin() };
}

/** The place of a worker, and who has it. */
interface Place {
  readonly number: number;
  worker: WorkerProcess;
  /** While a new worker is being prepared for it; resolves when it is known whether that has it. */
  handover: Promise<void> | null;
  /** How many have ended soon after their start, one after another. */
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
  #renewing = false;
  #renewalsWanted = 0;

  constructor(settings: ServerSettings, logger: Logger) {
    this.#settings = settings;
    this.#logger = logger;
    this.#endedTotal = new Metrics(this.#metrics).counter('flagcast_workers_ended_total');
    // However this process ends: one that hangs would not notice.
    process.on('exit', () => {
      for (const worker of this.#alive) worker.kill();
    });
  }

  /** Resolves with the URLs when the first worker listens. */
  async start(stopping: AbortSignal): Promise<ListeningUrls> {
    for (let number = 1; number <= this.#settings.workers; number += 1) {
      this.#places.push({ number, worker: this.#launch(number), handover: null, shortLives: 0 });
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
            worker.failure ??
              `A worker ended before it could listen (${reason}); what it printed above tells more, if anything`,
          );
        }),
      ]),
    ]);
    for (const place of this.#places) void this.#keep(place);
    return urls;
  }

  /** The database has what they need: they begin to read. */
  begin(): void {
    this.#begun = true;
    for (const worker of this.#alive) worker.begin();
  }

  /** Replaces the workers one after another. While that goes on it is only noted, and done once more afterwards. */
  async renew(): Promise<void> {
    this.#renewalsWanted += 1;
    if (this.#renewing) return;
    this.#renewing = true;
    while (this.#renewalsWanted > 0 && !this.#isStopping()) {
      this.#renewalsWanted = 0;
      await this.#renewAll();
    }
    this.#renewing = false;
  }

  /** Asks all to end, and kills those that have not shortly before `limitMs` are over. */
  async stop(limitMs: number): Promise<void> {
    this.#stopping.abort();
    const stop = { limitMs: Math.max(0, limitMs - KILL_RESERVE_MS), graceMs: 0 };
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
        begun: this.#begun,
      },
      async () => await this.#gather(),
    );
    this.#alive.add(worker);
    void worker.ended.then(() => this.#alive.delete(worker));
    void worker.ready.then(() => {
      this.#logger('worker_ready', { worker: number, pid: worker.pid });
    });
    return worker;
  }

  /** Sees to it that the place has a worker, until the end. */
  async #keep(place: Place): Promise<void> {
    while (!this.#isStopping()) {
      const { worker } = place;
      const reason = await worker.ended;
      await place.handover;
      if (place.worker !== worker) continue;
      if (this.#isStopping()) return;
      const lifeMs = Math.round(performance.now() - worker.startedAtMs);
      place.shortLives = lifeMs < STEADY_MS ? place.shortLives + 1 : 0;
      const replacedInMs = place.shortLives === 0 ? 0 : backoffMs(place.shortLives, 100, MAX_PAUSE_MS);
      this.#endedTotal.inc();
      this.#logger('worker_ended', { worker: place.number, pid: worker.pid, reason, lifeMs, replacedInMs });
      // Rejects exactly when the server is stopping, which the loop looks at.
      await delay(replacedInMs, undefined, { signal: this.#stopping.signal }).catch(() => undefined);
      // A renewal may have come to this place meanwhile.
      await place.handover;
      if (!this.#isStopping() && place.worker === worker) place.worker = this.#launch(place.number);
    }
  }

  async #renewAll(): Promise<void> {
    this.#logger('workers_renewing', { workers: this.#places.length });
    for (const place of this.#places) {
      if (this.#isStopping()) return;
      const previous = place.worker;
      const next = this.#launch(place.number);
      const handover = this.#whyNotReady(next);
      place.handover = handover.then((problem) => {
        if (problem === null) place.worker = next;
        place.handover = null;
      });
      const problem = await handover;
      await place.handover;
      if (this.#isStopping()) return;
      if (problem !== null) {
        next.kill();
        this.#logger('workers_renewal_failed', { worker: place.number, reason: problem });
        return;
      }
      place.shortLives = 0;
      await this.#end(previous, { limitMs: STOP_LIMIT_MS, graceMs: GRACE_MS });
    }
    this.#logger('workers_renewed', { workers: this.#places.length });
  }

  /** Null when it is ready. */
  async #whyNotReady(worker: WorkerProcess): Promise<string | null> {
    const limit = new AbortController();
    const signal = AbortSignal.any([limit.signal, this.#stopping.signal]);
    try {
      return await Promise.race([
        worker.ready.then(() => null),
        worker.ended,
        delay(READY_LIMIT_MS, `not ready within ${READY_LIMIT_MS / 1_000} s`, { signal }).catch(
          () => 'stopping',
        ),
      ]);
    } finally {
      limit.abort();
    }
  }

  async #end(worker: WorkerProcess, stop: { limitMs: number; graceMs: number }): Promise<void> {
    const { pid } = worker;
    if ((await worker.stop(stop)) === 'killed') this.#logger('worker_killed', { pid, ...stop });
  }

  /**
   * The metrics of all workers as one text, each under its place's label `worker`: added up they would fall
   * when a worker ends, which a monitor takes for counters that began anew.
   */
  async #gather(): Promise<string> {
    const workers = this.#places.map(({ worker }) => worker).filter(({ isListening }) => isListening);
    const answers = await Promise.all(workers.map(async (worker) => await worker.collect(COLLECT_LIMIT_MS)));
    const all = [await this.#metrics.getMetricsAsJSON(), ...answers.filter((answer) => answer !== null)];
    return await AggregatorRegistry.aggregate(all.map((metrics) => [...metrics])).metrics();
  }
}
