import { setTimeout as pause } from 'node:timers/promises';
import pg from 'pg';
import { inTransaction } from 'flagcast/demo-support';
import { createExperiment, deleteExperiment, editPart, editValue, toggle } from './actions.js';
import { approveChange, cancelChange, rejectChange, requestChange } from './approvals.js';
import { createRandom, type Random } from './random.js';
import type { Action } from './work.js';

export interface TrafficOptions {
  /** The database with the demo in it; give this, or a `pool`. */
  readonly databaseUrl?: string;
  /** Borrowed for one action at a time, and left open by `stop`. */
  readonly pool?: pg.Pool;
  /** The same seed on the same rows does the same things. Default: another one each time. */
  readonly seed?: number;
  /** The mean pause between two actions, in milliseconds; none is longer than three times this. Default 450. */
  readonly meanIntervalMs?: number;
  /** Told what was done, e.g. `bob switched on "Guest checkout" in Web shop, dev`, and of trouble. Must not throw. */
  readonly onAction?: (line: string) => void;
}

export interface Traffic {
  /** Resolves when the running action, if any, has ended. Never rejects; again is harmless. */
  stop(): Promise<void>;
}

/** Nobody sees more than one environment at a time: of nine, each then has something new about every 4 s. */
const defaultMeanIntervalMs = 450;

/** How often each action is chosen, in relation to the others. */
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
 * Lets the demo's people work at a human pace, each action in a transaction of its own, until
 * `stop`. A database that does not answer is reported once and waited for. Requests and experiments
 * are bounded; audit_log grows, as it does where people work.
 */
export function startTraffic(options: TrafficOptions): Traffic {
  const { seed = Date.now(), meanIntervalMs = defaultMeanIntervalMs, onAction = () => undefined } = options;
  const pool = options.pool ?? createPool(options.databaseUrl);
  const random = createRandom(seed);
  const stopping = new AbortController();

  const work = async (): Promise<void> => {
    let failing = false;
    for (;;) {
      // Like people who do not wait for each other; now and then a while, but never for long.
      const intervalMs = Math.min(-Math.log(1 - random.next()), 3) * meanIntervalMs;
      const stopped = await pause(intervalMs, false, { signal: stopping.signal }).catch(() => true);
      if (stopped) return;
      let line: string;
      try {
        line = await actOnce(pool, random);
      } catch (error) {
        if (!failing) onAction(`the demo's people cannot work: ${messageOf(error)}`);
        failing = true;
        continue;
      }
      if (failing) onAction("the demo's people are back at work");
      failing = false;
      onAction(line);
    }
  };

  const working = work();
  let stopped: Promise<void> | null = null;
  const stop = async (): Promise<void> => {
    stopping.abort();
    await working;
    if (options.pool === undefined) await pool.end();
  };
  return { stop: () => (stopped ??= stop()) };
}

/** Small limits, so that `stop` never waits for a database that is gone. */
function createPool(databaseUrl: string | undefined): pg.Pool {
  if (databaseUrl === undefined) throw new TypeError('startTraffic needs a databaseUrl or a pool');
  const pool = new pg.Pool({
    connectionString: databaseUrl,
    application_name: 'flagcast traffic',
    max: 1,
    connectionTimeoutMillis: 5_000,
    query_timeout: 5_000,
  });
  // An idle connection that breaks is replaced at the next action, which reports what is wrong.
  pool.on('error', () => undefined);
  return pool;
}

/** Does something of what there is to do. */
async function actOnce(pool: pg.Pool, random: Random): Promise<string> {
  const client = await pool.connect();
  // Without a listener a connection that breaks between two queries would end the process.
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
  let place = random.next() * total;
  for (const [action, weight] of weights) {
    place -= weight;
    if (place < 0) return action;
  }
  return toggle;
}

function messageOf(error: unknown): string {
  // Where every address of a host refuses, the reasons are inside.
  if (error instanceof AggregateError && error.message === '') return error.errors.map(messageOf).join('; ');
  return error instanceof Error ? error.message : String(error);
}
