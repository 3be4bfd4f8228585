import { setTimeout as pause } from 'node:timers/promises';
import pg from 'pg';
import { inTransaction } from 'flagcast/support';
import { createExperiment, deleteExperiment, editPart, editValue, toggle } from './actions.js';
import { approveChange, cancelChange, rejectChange, requestChange } from './approvals.js';
import { createRandom, type Random } from './random.js';
import type { Action } from './flag-target.js';

export interface TrafficOptions {
  /** The demo's database. Either this or `pool` is required. */
  readonly databaseUrl?: string;
  /** Used for one action at a time; `stop` does not end it. */
  readonly pool?: pg.Pool;
  /** The same seed on the same rows gives the same actions. Default: the current time. */
  readonly seed?: number;
  /** Mean pause between two actions, in milliseconds. Maximum: three times the mean. Default 450. */
  readonly meanIntervalMs?: number;
  /** Called with a line for each action, e.g. `bob switched on "Guest checkout" in Web shop, dev`, and for a failure. Must not throw. */
  readonly onAction?: (line: string) => void;
}

export interface Traffic {
  /** Resolves when the running action has ended. Never rejects; may be called several times. */
  stop(): Promise<void>;
}

/** The console shows one of nine environments, so it gets a change about every 4 s. */
const defaultMeanIntervalMs = 450;

/** Relative frequency of each action. */
const weights: readonly (readonly [Action, number])[] = [
  [toggle, 34],
  [editValue, 13],
  [editPart, 16],
  [requestChange, 17],
  [approveChange, 12],
  [rejectChange, 3],
  [cancelChange, 2],
  [createExperiment, 5],
  [deleteExperiment, 5],
];

/**
 * Simulates users at a human pace until `stop`. Each action is a transaction. An unavailable database is reported once and
 * retried. The number of requests and experiments is limited; audit_log grows.
 */
export function startTraffic(options: TrafficOptions): Traffic {
  const { seed = Date.now(), meanIntervalMs = defaultMeanIntervalMs, onAction = () => undefined } = options;
  const pool = options.pool ?? createPool(options.databaseUrl);
  const random = createRandom(seed);
  const stopping = new AbortController();

  const run = async (): Promise<void> => {
    let failing = false;
    for (;;) {
      // Exponential intervals, as of independent users, with an upper limit.
      const intervalMs = Math.min(-Math.log(1 - random.next()), 3) * meanIntervalMs;
      const stopped = await pause(intervalMs, false, { signal: stopping.signal }).catch(() => true);
      if (stopped) return;
      let line: string;
      try {
        line = await actOnce(pool, random);
      } catch (error) {
        if (!failing) onAction(`the demo's users cannot change flags: ${messageOf(error)}`);
        failing = true;
        continue;
      }
      if (failing) onAction("the demo's users change flags again");
      failing = false;
      onAction(line);
    }
  };

  const running = run();
  let stopped: Promise<void> | null = null;
  const stop = async (): Promise<void> => {
    stopping.abort();
    await running;
    if (options.pool === undefined) await pool.end();
  };
  return { stop: () => (stopped ??= stop()) };
}

/** Short time-outs, so that `stop` does not wait for an unavailable database. */
function createPool(databaseUrl: string | undefined): pg.Pool {
  if (databaseUrl === undefined) throw new TypeError('startTraffic needs the option databaseUrl or pool');
  const pool = new pg.Pool({
    connectionString: databaseUrl,
    application_name: 'flagcast traffic',
    max: 1,
    connectionTimeoutMillis: 5_000,
    query_timeout: 5_000,
  });
  // The next action replaces a broken idle connection, and reports errors.
  pool.on('error', () => undefined);
  return pool;
}

/** Runs a random action; if it is not possible, switches a flag. */
async function actOnce(pool: pg.Pool, random: Random): Promise<string> {
  const client = await pool.connect();
  // An error event without a listener would end the process.
  const ignore = (): void => undefined;
  client.on('error', ignore);
  let broken = true;
  try {
    const line = await inTransaction(client, async () => {
      const chosen = choose(random);
      return (await chosen(client, random)) ?? (await toggle(client, random));
    });
    broken = false;
    if (line === null) throw new Error("the demo's projects have no flags");
    return line;
  } finally {
    client.off('error', ignore);
    client.release(broken);
  }
}

function choose(random: Random): Action {
  const total = weights.reduce((sum, [, weight]) => sum + weight, 0);
  let rest = random.next() * total;
  for (const [action, weight] of weights) {
    rest -= weight;
    if (rest < 0) return action;
  }
  return toggle;
}

function messageOf(error: unknown): string {
  // Node reports the failures of all addresses of a host as an AggregateError without a message.
  if (error instanceof AggregateError && error.message === '') return error.errors.map(messageOf).join('; ');
  return error instanceof Error ? error.message : String(error);
}
